#!/usr/bin/env python3
"""Kills a training run again and again and shows that nothing is lost.

    scripts/kill_test.py --kills 200 [--binary build/release/trident] [--seed S] [--steps N] [--keep-dir]

Trains a tiny model on 4 ranks (2 pipeline stages x 2 data, ZeRO 1, an asynchronous checkpoint every 2 steps). At a
random moment a random rank gets SIGKILL; when mpirun has ended, the same command starts again with --resume auto. Every
start must begin at the newest committed checkpoint (or at 0 before the first), none may ever be found damaged, a run
that ends must leave no temporary directory, and its losses must be those of an uninterrupted run bit for bit. When a
run ends the next begins afresh, until there were N kills.
"""

import argparse
import os
import pathlib
import random
import re
import signal
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "apps"))
from harness import RANKS, Checks, Workplace  # noqa: E402

# Timing differs from run to run, this may not.
EXACT = ("step", "tokens", "loss", "grad_norm", "lr", "skipped")
VERIFY_EVERY = 4
FURTHEST_STEP = 12  # that a start may do before it is killed
# Open MPI 4.1's mpirun may wait for ever when a rank dies before it has reported to it.
PATIENCE_SECONDS = 60


def curve(metrics):
    return [tuple(line[key] for key in EXACT) for line in metrics]


class KillTest:
    def __init__(self, place, options):
        self.place, self.options = place, options
        self.random = random.Random(options.seed)
        self.checks = Checks()
        self.kills = self.kills_in_save = self.restarts = self.runs = self.resumed = self.fresh = 0
        self.mpirun_stuck = 0

    def arguments(self, run):
        return ["train", "tiny.yaml", "--resume", "auto", "--set", f"out={run}",
                "--set", f"train.steps={self.options.steps}"]

    def train_reference(self):
        job = self.place.launch(*self.arguments("reference"), ranks=RANKS)
        self.place.wait_for_step(job, 1, "reference")
        first = time.monotonic()
        result = job.finish()
        if not self.checks.that("the uninterrupted run ends with 0", result.code == 0, result):
            return False
        self.start_seconds = first - job.start
        self.step_seconds = (result.seconds - self.start_seconds) / self.options.steps
        self.reference = curve(self.place.metrics("reference"))
        return self.checks.that("it has every step", [s[0] for s in self.reference] ==
                                list(range(1, self.options.steps + 1)))

    def wait_for_step(self, job, step):
        """Until this start has done the step: what the metrics hold may be of an earlier one."""
        while job.running() and max(map(int, re.findall(r"\] step +(\d+)/", job.said())), default=0) < step:
            time.sleep(0.01)

    def kill(self, job, done):
        """Waits for a random moment, one in six of them before the first step, and kills a random rank."""
        if self.random.random() < 1 / 6:
            time.sleep(self.random.uniform(0, self.start_seconds))
        else:
            self.wait_for_step(job, done + self.random.randint(1, FURTHEST_STEP))
            time.sleep(self.random.uniform(0, 2 * self.step_seconds))
        victim = self.random.randrange(RANKS)
        while job.running():
            pid = job.rank_pids().get(victim)
            if pid is None:
                time.sleep(0.01)
                continue
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                return False
            return True
        return False

    def check_start(self, run, before, result):
        """The run began where the newest checkpoint ends, if it came so far."""
        newest = before[-1] if before else 0
        loaded = re.search(r"loaded \S+: step (\d+)", result.err)
        if loaded:
            self.resumed += 1
            self.checks.that(f"{run} begins at step {newest}", int(loaded[1]) == newest, result)
        elif "fresh weights" in result.err:
            self.fresh += 1
            self.checks.that(f"{run} begins afresh only before its first checkpoint", not before, result)
        self.checks.that("no checkpoint is skipped as damaged", "skipped" not in result.err, result)

    def verify(self, run, step):
        checkpoint = f"{run}/checkpoints/step-{step:08d}"
        result = self.place.run("ckpt", "verify", checkpoint)
        self.checks.that(f"ckpt verify {checkpoint}", result.code == 0, result)

    def attempt(self, run):
        """One start of the run, killed or not. True when the run is complete."""
        before = self.place.checkpoints(run)
        done = before[-1] if before else 0
        job = self.place.launch(*self.arguments(run), ranks=RANKS)
        left_behind = self.place.temporaries(run)
        killed = self.kills < self.options.kills and self.kill(job, done)
        result = job.finish(PATIENCE_SECONDS) if killed else job.finish()
        if result.code is None:
            self.mpirun_stuck += 1
            self.checks.that("mpirun ends, unless the rank died while it started", killed and "[info" not in result.err,
                             result)
        self.check_start(run, before, result)
        after = self.place.checkpoints(run)
        self.checks.that("no committed step is lost", (after or [0])[-1] >= done, f"{before} -> {after}")
        steps = [line["step"] for line in self.place.metrics(run)]
        self.checks.that("metrics have every step once", steps == list(range(1, len(steps) + 1)), steps)
        if killed:
            self.kills += 1
            self.kills_in_save += bool(set(self.place.temporaries(run)) - set(left_behind))
            if after and self.kills % VERIFY_EVERY == 0:
                self.verify(run, after[-1])
        if result.code == 0:
            return True
        if not self.checks.that("only a killed run ends with an error", killed, result):
            return True
        self.restarts += 1
        return False

    def whole_run(self):
        run = f"run-{self.runs}"
        self.runs += 1
        while not self.attempt(run):
            pass
        steps = self.place.checkpoints(run)
        self.checks.that(f"{run} ends with the checkpoint of its last step", steps[-1:] == [self.options.steps], steps)
        self.checks.that(f"{run} leaves no temporary directory", not self.place.temporaries(run),
                         self.place.temporaries(run))
        mine = curve(self.place.metrics(run))
        different = [(a, b) for a, b in zip(mine, self.reference) if a != b]
        self.checks.that(f"the losses of {run} are those of the uninterrupted run, bit for bit", mine == self.reference,
                         f"{len(mine)} of {len(self.reference)} steps; first difference: {different[:1]}")
        self.verify(run, steps[-1] if steps else 0)

    def run(self):
        start = time.monotonic()
        if self.train_reference():
            while self.kills < self.options.kills and not self.checks.failed:
                self.whole_run()
            self.checks.that("every kill that was asked for happened", self.kills == self.options.kills)
        print(f"{self.kills} kills ({self.kills_in_save} during a save), {self.restarts} restarts, "
              f"{self.resumed} starts from a checkpoint, {self.fresh} from step 0, {self.runs} runs of "
              f"{self.options.steps} steps, mpirun stuck {self.mpirun_stuck} times, "
              f"{time.monotonic() - start:.0f} s, seed {self.options.seed}")
        return self.checks.finish()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--binary", default="build/release/trident")
    parser.add_argument("--mpiexec", default="mpirun")
    parser.add_argument("--seed", type=int, default=None, help="of the moments and victims (default: from the clock)")
    parser.add_argument("--steps", type=int, default=40, help="of each run")
    parser.add_argument("--keep-dir", action="store_true", help="leave the work directory")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = time.time_ns() % 1000000
    # mpirun waits this long between the signals to the ranks that are left; these need no time.
    quick = {"OMPI_MCA_odls_base_sigkill_timeout": "0"}
    with Workplace(options.binary, options.mpiexec, options.keep_dir, quick) as place:
        place.make_dataset()
        return KillTest(place, options).run()


if __name__ == "__main__":
    sys.exit(main())
