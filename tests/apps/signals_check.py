#!/usr/bin/env python3
"""Stopping on request, and ranks that die or stop answering.   signals_check.py MPIEXEC TRIDENT"""

import os
import re
import signal
import sys
import time

sys.dont_write_bytecode = True
from harness import RANKS, Checks, Workplace

STOPPED = 75
# A checkpoint then shows that the run was asked to stop. A line each step: after Ctrl-C mpirun reads none of them.
NEVER = ["--set", "checkpoint.every=100000", "--set", "log.every=1"]


class SignalChecks:
    def __init__(self, place):
        self.place, self.checks = place, Checks()

    def start(self, run, *settings, steps=100000):
        job = self.place.launch("train", "tiny.yaml", *NEVER, "--set", f"out={run}", "--set", f"train.steps={steps}",
                                *settings, ranks=RANKS)
        begin = self.place.steps_done(run)
        self.checks.that(f"{run} trains", self.place.wait_for_step(job, begin + 2, run))
        return job

    def stop_once(self, how, send, before):
        """Asks a run to stop; returns the step of the checkpoint it leaves."""
        check = self.checks.that
        job = self.start("stopped")
        send(job)
        result = job.finish()
        # After Ctrl-C mpirun's own code is 1, whatever the ranks return.
        by_mpirun = how == "SIGINT to mpirun"
        check(f"{how}: exit code", result.code == (1 if by_mpirun else STOPPED), result)
        if before:
            check(f"{how}: the run went on from step {before}", f"step-{before:08d}: step {before}" in result.err,
                  result)
        steps = self.place.checkpoints("stopped")
        newest = steps[-1] if steps else 0
        check(f"{how}: a newer checkpoint than {before}", newest > before, f"{steps}\n{result}")
        check(f"{how}: of the last step that was done", newest == self.place.steps_done("stopped"),
              f"{steps}, {self.place.steps_done('stopped')} steps done")
        check(f"{how}: no temporary directory", not self.place.temporaries("stopped"))
        if not by_mpirun:
            told = f"stopped on request after step {newest} of 100000; the same command continues"
            check(f"{how}: told once", result.err.count(told) == 1, result)
        verified = self.place.run("ckpt", "verify", f"stopped/checkpoints/step-{newest:08d}")
        check(f"{how}: the checkpoint is whole", verified.code == 0, verified)
        return newest

    def stop_and_go_on(self):
        step = 0
        for how, send in {
            "SIGUSR1 to mpirun": lambda job: job.signal(signal.SIGUSR1),
            "SIGTERM to one rank": lambda job: os.kill(job.rank_pids()[2], signal.SIGTERM),
            "SIGINT to mpirun": lambda job: job.signal(signal.SIGINT),
        }.items():
            step = self.stop_once(how, send, step)
        result = self.start("stopped", steps=step + 3).finish()
        self.checks.that("the run then ends with 0", result.code == 0, result)
        self.checks.that("at its last step", self.place.steps_done("stopped") == step + 3, result)

    def dead_rank(self):
        job = self.start("killed")
        os.kill(job.rank_pids()[1], signal.SIGKILL)
        killed = time.monotonic()
        result = job.finish()
        print(f"a killed rank ended the job after {time.monotonic() - killed:.1f} s")
        self.checks.that("a killed rank ends the job", result.code not in (None, 0), result)
        self.checks.that("and is named", re.search(r"process rank 1 .*\n?.*signal 9", result.err), result)

    def stopped_rank(self):
        job = self.start("silent", "--set", "comm.timeout=3")
        os.kill(job.rank_pids()[2], signal.SIGSTOP)
        result = job.finish()
        lines = [line for line in result.err.splitlines() if line.startswith("trident: ")]
        self.checks.that("a stopped rank ends the job with 2", result.code == 2, result)
        self.checks.that("with one line", len(lines) == 1, result)
        self.checks.that("that names it", any(re.search(r"waited .*comm\.timeout.* rank 2 \(.+\): not answering", line)
                                              for line in lines), result)


def main():
    # Between the signals to the ranks that are left mpirun waits so long; after Ctrl-C they save in this time.
    with Workplace(sys.argv[2], sys.argv[1], environment={"OMPI_MCA_odls_base_sigkill_timeout": "5"}) as place:
        place.make_dataset()
        checks = SignalChecks(place)
        checks.stop_and_go_on()
        checks.dead_rank()
        checks.stopped_rank()
        return checks.checks.finish()


if __name__ == "__main__":
    sys.exit(main())
