#!/usr/bin/env python3
"""A disk that fails in mid-run, with everything offloaded to files: the step ends with one clear error, the last checkpoint
is intact, and the same command on a good disk goes on from it with the losses of a run that nothing happened to.

    disk_check.py MPIEXEC TRIDENT

The scratch files have no name; they are reached through /proc/PID/fd, and bit errors are all over them, again and again,
until the run reads one; so are short reads, of a file cut to nothing. Space is reserved at the start, so a limit of file
sizes set on the running process stands for a full disk (EFBIG for ENOSPC).
"""

import os
import pathlib
import re
import resource
import sys
import time

sys.dont_write_bytecode = True
from harness import Checks, Job, Workplace

BROKEN_AFTER, MORE = 30, 10
SETTINGS = ["parallel.pipeline=1", "parallel.data=1", "zero.stage=3", "zero.offload=nvme", "zero.offload_parameters=nvme",
            "zero.nvme_path=nvme", "model.layers=6", "checkpoint.every=20", "checkpoint.async=false"]
DIFFERS = "is not what was written there: its checksum differs"


def scratch_file(pid, name):
    """The nameless file of a process, opened."""
    for link in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        if f"/nvme/trident-{name}" in os.readlink(link):
            return open(link, "r+b", buffering=0)
    raise FileNotFoundError(name)


def damage(pid, name):
    with scratch_file(pid, name) as file:
        file.write(b"\x5a" * os.fstat(file.fileno()).st_size)


def shorten(pid, _):
    with scratch_file(pid, "state") as file:
        file.truncate(0)


def fill(pid, _):
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))


FAULTS = (("state", damage, rf"trident-state.* {DIFFERS}"), ("parameters", damage, rf"trident-parameters.* {DIFFERS}"),
          # (A write behind the new end makes zeros of what is before it.)
          ("short", shorten, f"read chunk .* no progress in .* attempts|trident-state.* {DIFFERS}"),
          ("full", fill, "cannot write chunk .*: File too large .free space there"))


class DiskChecks:
    def __init__(self, place):
        self.place, self.checks = place, Checks()

    def launch(self, run, steps):
        arguments = ["train", "tiny.yaml", "--resume", "auto"]
        for setting in [*SETTINGS, f"out={run}", f"train.steps={steps}"]:
            arguments += ["--set", setting]
        # A write past the limit is then an error, not the end of the process.
        shell = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh", self.place.binary]
        return Job([*shell, *arguments], self.place.path, self.place.environment)

    def fails(self, name, fault, error):
        job = self.launch(name, 100000)
        self.checks.that(f"{name}: the run trains", self.place.wait_for_step(job, BROKEN_AFTER, name))
        while job.running() and time.monotonic() - job.start < 60:
            try:
                fault(job.process.pid, name)
            except OSError:
                pass  # it ended meanwhile
            time.sleep(0.02)
        result = job.finish(10)
        lines = [line for line in result.err.splitlines() if line.startswith("trident: ")]
        self.checks.that(f"{name}: a fault at run time", result.code == 2, result)
        self.checks.that(f"{name}: one error, what and where, and that the checkpoint is intact",
                         len(lines) == 1 and re.search(error, lines[0]) and "the last checkpoint is intact" in lines[0],
                         result)
        saved = self.place.checkpoints(name)
        if not self.checks.that(f"{name}: there is a checkpoint", bool(saved), result):
            return
        steps = saved[-1] + MORE
        again, whole = self.launch(name, steps).finish(), self.launch(f"{name}-whole", steps).finish()
        self.checks.that(f"{name}: the log says what reads the files",
                         len(re.findall(r"file: \S+/trident-(?:state|parameters): .*(?:io_uring|thread)", whole.err)) == 2, whole)
        self.checks.that(f"{name}: it goes on from the checkpoint", again.code == 0
                         and f"step-{saved[-1]:08d}: step {saved[-1]}" in again.err, again)
        losses = [[line["loss"] for line in self.place.metrics(run)] for run in (name, f"{name}-whole")]
        self.checks.that(f"{name}: as if nothing had happened", whole.code == 0 and len(losses[1]) == steps
                         and losses[0] == losses[1], f"{losses[0][-MORE:]}\n{losses[1][-MORE:]}\n{whole}")


def main():
    with Workplace(sys.argv[2], sys.argv[1]) as place:
        place.make_dataset()
        checks = DiskChecks(place)
        for name, fault, error in FAULTS:
            checks.fails(name, fault, error)
        return checks.checks.finish()


if __name__ == "__main__":
    sys.exit(main())
