"""Runs the trident binary for whole-program tests: a work directory, a tiny model, mpirun, checks that are counted."""

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

RANKS = 4
# Long enough for a loaded machine; only a hang reaches it.
HANG_SECONDS = 300

CONFIG = """\
name: tiny
model: {arch: gpt2, layers: 2, hidden: 16, heads: 2, vocab: 257, context: 16, dropout: 0.1}
parallel: {pipeline: 2, data: 2}
zero: {stage: 1}
train: {steps: 6, global_batch: 4, micro_batch: 1, precision: fp32}
optimizer: {lr: 1e-2, schedule: constant, warmup_steps: 2}
data: {tokenizer: {kind: byte}, train: [{path: text}], valid: [{path: text-valid}], eval_every: 0, eval_batches: 2}
checkpoint: {every: 2, keep: 2, async: true}
out: run
"""


def mpi_environment():
    """What Open MPI needs to start four ranks anywhere; what the caller has set stays."""
    environment = dict(os.environ)
    wanted = {
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
        "OMPI_MCA_mpi_yield_when_idle": "1",
        "OMPI_MCA_hwloc_base_binding_policy": "none",
        "OMPI_MCA_btl_vader_single_copy_mechanism": "none",
        "OMP_NUM_THREADS": "1",
    }
    for name, value in wanted.items():
        environment.setdefault(name, value)
    return environment


class Result:
    """How a program ended."""

    def __init__(self, code, out, err, seconds):
        self.code, self.out, self.err, self.seconds = code, out, err, seconds

    def spoken(self):
        """The lines of stderr that are ours: what Open MPI adds after a non-zero exit is left out."""
        lines, banner = [], False
        for line in self.err.splitlines():
            if line and set(line) == {"-"}:
                banner = not banner
            elif not banner and line and not line.startswith("["):
                lines.append(line)
        return lines

    def __str__(self):
        return f"exit code {self.code}\nstdout:\n{self.out[-3000:]}\nstderr:\n{self.err[-3000:]}"


class Job:
    """A program that runs; under mpirun when it has ranks."""

    def __init__(self, command, directory, environment):
        self.start = time.monotonic()
        self.out = tempfile.TemporaryFile("w+", errors="backslashreplace")
        self.err = tempfile.TemporaryFile("w+", errors="backslashreplace")
        self.process = subprocess.Popen(
            command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.err
        )

    def running(self):
        return self.process.poll() is None

    def finish(self, seconds=HANG_SECONDS):
        """Waits; a program that does not end is killed and has code None."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            for pid in self.rank_pids().values():
                os.kill(pid, signal.SIGKILL)
            self.process.kill()
            self.process.wait()
            code = None
        texts = []
        for file in (self.out, self.err):
            file.seek(0)
            texts.append(file.read())
            file.close()
        return Result(code, texts[0], texts[1], time.monotonic() - self.start)

    def signal(self, number):
        self.process.send_signal(number)

    def said(self):
        """What came on stderr so far."""
        return os.pread(self.err.fileno(), 1 << 24, 0).decode(errors="replace")

    def rank_pids(self):
        """{rank: pid} of the children of mpirun that are alive and know their rank."""
        found = {}
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) != self.process.pid or fields[0] == "Z":
                    continue
                for item in (entry / "environ").read_bytes().split(b"\0"):
                    if item.startswith(b"OMPI_COMM_WORLD_RANK="):
                        found[int(item.partition(b"=")[2])] = int(entry.name)
            except (OSError, ValueError, IndexError):
                continue  # it ended meanwhile
        return found


class Workplace:
    """A temporary directory with a dataset and the tiny config, and the binary to run there."""

    def __init__(self, binary, mpiexec="mpirun", keep=False, environment=None):
        self.binary, self.mpiexec, self.keep = str(pathlib.Path(binary).resolve()), mpiexec, keep
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="trident-"))
        self.environment = mpi_environment()
        # Killed ranks leave files of Open MPI behind: they go with the directory.
        self.environment.update(TMPDIR=str(self.path), **(environment or {}))
        (self.path / "tiny.yaml").write_text(CONFIG)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.keep:
            print(f"kept {self.path}")
        else:
            shutil.rmtree(self.path, ignore_errors=True)

    def make_dataset(self):
        words = random.Random(1)
        text = " ".join(words.choice(["alpha", "beta", "gamma", "delta", "one", "two", "and"]) for _ in range(3000))
        (self.path / "text.txt").write_text(text)
        result = self.run("data", "prepare", "text.txt", "--out", "text", "--valid-fraction", "0.1")
        if result.code != 0:
            raise SystemExit(f"data prepare failed: {result}")
        return result

    def launch(self, *arguments, ranks=0):
        """Starts the binary; on `ranks` ranks under mpirun unless 0."""
        command = [self.mpiexec, "-n", str(ranks)] if ranks > 0 else []
        return Job([*command, self.binary, *map(str, arguments)], self.path, self.environment)

    def run(self, *arguments, ranks=0):
        return self.launch(*arguments, ranks=ranks).finish()

    def checkpoints(self, run="run"):
        """The steps of the committed checkpoints of a run, ascending."""
        return sorted(int(p.name[5:]) for p in (self.path / run / "checkpoints").glob("step-*"))

    def temporaries(self, run="run"):
        """What tells unfinished saves apart: name, inode, time."""
        found = []
        for path in (self.path / run / "checkpoints").glob(".tmp-*"):
            found.append((path.name, path.stat().st_ino, path.stat().st_mtime_ns))
        return sorted(found)

    def metrics(self, run="run"):
        """The training lines of metrics.jsonl; one cut short by a kill is left out."""
        try:
            text = (self.path / run / "metrics.jsonl").read_text()
        except FileNotFoundError:
            return []
        lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("}\n")]
        return [line for line in lines if "loss" in line]

    def steps_done(self, run="run"):
        lines = self.metrics(run)
        return lines[-1]["step"] if lines else 0

    def wait_for_step(self, job, step, run="run"):
        """Until the run has done this step; False when it ended before."""
        while self.steps_done(run) < step:
            if not job.running():
                return False
            time.sleep(0.02)
        return True


class Checks:
    """Counts what holds, tells what does not."""

    def __init__(self):
        self.passed = self.failed = 0

    def that(self, what, holds, details=""):
        if holds:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAILED {what}")
            for line in str(details).splitlines():
                print("    " + line)
            sys.stdout.flush()
        return bool(holds)

    def finish(self):
        print(f"{self.passed} passed, {self.failed} failed")
        return 1 if self.failed or not self.passed else 0
