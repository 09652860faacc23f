#!/usr/bin/env python3
"""The command line: exit codes, messages and what commands leave.   cli_check.py MPIEXEC TRIDENT SOURCE_DIR"""

import re
import shutil
import sys

sys.dont_write_bytecode = True
from harness import RANKS, Checks, Workplace


class CliChecks:
    def __init__(self, place, source):
        self.place, self.source, self.checks = place, source, Checks()

    def expect(self, what, code, *arguments, ranks=0, out=(), err=()):
        """Runs a command; its exit code, and patterns that its stdout and stderr must contain."""
        result = self.place.run(*arguments, ranks=ranks)
        self.checks.that(f"{what}: exit code {code}", result.code == code, result)
        for pattern in out:
            self.checks.that(f"{what}: stdout has {pattern}", re.search(pattern, result.out), result)
        for pattern in err:
            self.checks.that(f"{what}: stderr has {pattern}", re.search(pattern, result.err), result)
        return result

    def told_once(self, what, result, pattern):
        """One message, and besides what mpirun itself adds nothing else."""
        lines = result.spoken()
        self.checks.that(f"{what}: told once", sum(bool(re.search(pattern, line)) for line in lines) == 1, result)
        self.checks.that(f"{what}: one message", sum(line.startswith("trident: ") for line in lines) == 1, result)

    def arguments(self):
        self.expect("no arguments", 1, err=["A subcommand is required", "--help"])
        self.expect("--help", 0, "--help", out=["train", "generate", "Exit codes: 0 done, 1 .*, 2 .*, 75"])
        self.expect("--version", 0, "--version", out=[r"^\d+\.\d+\.\d+\n$"])
        self.expect("unknown subcommand", 1, "trian", err=["unknown argument trian; did you mean train\\?"])
        self.expect("unknown option", 1, "train", "--foo", err=["^trident train: unknown argument --foo\n"])
        self.expect("unknown option after the config", 1, "train", "tiny.yaml", "--foo", err=["--foo"])
        self.expect("no config", 1, "train", err=["CONFIG is required"])
        self.expect("no such config", 1, "train", "absent.yaml", err=["^trident: .*absent.yaml"])
        self.expect("ckpt alone", 1, "ckpt", err=["A subcommand is required"])
        self.expect("explain", 0, "explain", "train.global_batch", out=["train.global_batch"])
        self.expect("explain, misspelt", 1, "explain", "train.globl_batch", err=["global_batch"])

    def mistakes(self):
        text = (self.place.path / "tiny.yaml").read_text()
        for right, wrong in {"hidden: 16": "hiden: 16", "layers: 2": "layers: two", "stage: 1": "stage: 9",
                             "lr: 1e-2": "lr: -3"}.items():
            text = text.replace(right, wrong)
        (self.place.path / "bad.yaml").write_text(text)
        patterns = [r"bad.yaml:2:\d+: model.layers: .*'two'", r"bad.yaml:2:\d+: model.hiden: .*did you mean hidden\?",
                    r"bad.yaml:4:\d+: zero.stage: 9", r"bad.yaml:6:\d+: optimizer.lr: -3"]
        for ranks in (0, 2):
            what = f"several mistakes on {ranks} ranks"
            result = self.expect(what, 1, "train", "bad.yaml", ranks=ranks, err=patterns)
            for pattern in patterns:
                self.told_once(what, result, pattern)
        result = self.expect("wrong ranks", 1, "train", "tiny.yaml", ranks=3, err=["4 ranks, but the job has 3"])
        self.told_once("wrong ranks", result, "the job has 3")
        # One rank that cannot read the config must not leave the others waiting for it.
        command = ["train", "tiny.yaml", "--set", "parallel.pipeline=1", "--set", "out=never", ":", "-n", "1",
                   self.place.binary, "train", "absent.yaml"]
        result = self.expect("no config on one rank", 1, *command, ranks=1, err=["absent.yaml"])
        self.told_once("no config on one rank", result, "absent.yaml")
        # Ranks that mpirun leaves alone for a while must stay silent, too.
        self.place.environment["OMPI_MCA_odls_base_sigkill_timeout"] = "4"
        result = self.expect("missing data", 1, "train", "tiny.yaml", "--set", "data.train=[{path: nope}]", "--set",
                             "out=never", ranks=RANKS, err=["there is no file nope.idx"])
        self.told_once("missing data", result, "nope.idx")
        self.place.environment["OMPI_MCA_odls_base_sigkill_timeout"] = "0"

    def train(self):
        result = self.expect("train", 0, "train", "tiny.yaml", ranks=RANKS, err=["done: 6 steps"])
        self.checks.that("train: nothing on stdout", result.out == "", result)
        times = r"^\d\d:\d\d:\d\d\.\d{3} \[info \] "
        self.checks.that("train: rank 0's log alone on stderr",
                         all(re.match(times, line) for line in result.err.splitlines()), result)
        first = [line for line in result.err.splitlines() if "step     1/6" in line]
        self.checks.that("train: each line once", len(first) == 1, result)
        for name in ("config.yaml", "log.txt", "metrics.jsonl", "report.html", "loss.svg"):
            self.checks.that(f"train: {name}", (self.place.path / "run" / name).stat().st_size > 0)
        self.checks.that("train: two checkpoints are kept", self.place.checkpoints() == [4, 6])
        # What ran once does not run again.
        again = self.expect("train again", 0, "train", "tiny.yaml", ranks=RANKS, err=["step-00000006: step 6"])
        self.checks.that("train again: no step is done", "step     " not in again.err, again)

    def state(self, run="run"):
        root = self.place.path / run
        return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}

    def profile(self):
        """Where a step's time goes: the table in the log, the same numbers in metrics.jsonl."""
        result = self.expect("train, profiled", 0, "train", "tiny.yaml", "--set", "log.profile=true", "--set",
                             "log.every=4", "--set", "out=profiled", ranks=RANKS, err=[
            r"profile of steps 1 to 4 +ms a step +share  on rank 0 of 4\n",
            r"gemm +[\d.]+ +[\d.]+% +[\d.]+ GFLOP/s +[\d.]+ to [\d.]+\n.*\]   qkv ", r"norm .* GB/s ",
            r"\] loss +0.00 .* to [\d.]+\n", r"waiting: pipeline ", r"waiting: data ranks ",
            r"profile of steps 5 to 6 [\s\S]*\] step +[\d.]+ +100.0%\n"])
        self.checks.that("train, profiled: two tables", result.err.count("profile of steps") == 2, result)
        steps = self.place.metrics("profiled")
        profiles = {line["step"]: line["profile"] for line in steps if "profile" in line}
        self.checks.that("train, profiled: where the log shows it", sorted(profiles) == [4, 6], steps)
        for last, profile in profiles.items():
            taken = [line["step_ms"] for line in steps if last - profile["steps"] < line["step"] <= last]
            self.checks.that("train, profiled: the steps' own time",
                             abs(sum(taken) / len(taken) - profile["step_ms"]) < 1e-6 * profile["step_ms"], profile)
            spent = sum(entry["ms"] for name, entry in profile["spent"].items() if "." not in name)
            # Two readings of the clock a step lie outside; a scheduler may strike there.
            self.checks.that("train, profiled: the parts add up",
                             abs(profile["step_ms"] - spent) < 0.01 * profile["step_ms"] + 0.5, profile)
        self.checks.that("train, profiled: the same losses",
                         [line["loss"] for line in steps] == [line["loss"] for line in self.place.metrics()])
        self.expect("profile of a GPU", 1, "train", "tiny.yaml", "--set", "log.profile=true", "--set", "device=cuda",
                    ranks=RANKS, err=["log.profile: a profile is of device: cpu, not of cuda,.*nsys profile"])

    def resume_none(self):
        before = self.state()
        result = self.expect("--resume none on a run", 1, "train", "tiny.yaml", "--resume", "none", ranks=RANKS,
                             err=["run already holds a run: choose another `out`, remove it"])
        self.told_once("--resume none on a run", result, "already holds a run")
        after = self.state()
        before.pop("log.txt"), after.pop("log.txt")
        self.checks.that("--resume none on a run: nothing changed", before == after,
                         [name for name in after if before.get(name) != after[name]])

    def damage(self):
        """One byte of each file of the newest checkpoint: refused by name, and passed over by --resume auto."""
        newest = self.place.path / "run" / "checkpoints" / "step-00000006"
        files = sorted(p.name for p in newest.iterdir())
        self.checks.that("a shard per rank and a manifest", len(files) == RANKS + 1, files)
        # Reading by path costs a start of mpirun each: the manifest and one shard; `ckpt verify` sees to all.
        for name in files:
            shutil.copytree(self.place.path / "run", self.place.path / "damaged")
            file = self.place.path / "damaged" / "checkpoints" / "step-00000006" / name
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 0x10
            file.write_bytes(content)
            self.expect(f"ckpt verify, {name} damaged", 1, "ckpt", "verify", "damaged", err=["step-00000006"],
                        out=["step-00000004: every byte is as it was written"])
            if name in (files[0], files[-1]):
                self.resume_damaged(name)
            shutil.rmtree(self.place.path / "damaged")

    def resume_damaged(self, name):
        what = f"resume with {name} damaged"
        damaged = "damaged/checkpoints/step-00000006"
        settings = ["tiny.yaml", "--set", "out=damaged"]
        result = self.expect(f"{what}, by path", 1, "train", *settings, "--resume", damaged, ranks=RANKS)
        self.told_once(f"{what}, by path", result, "step-00000006")
        self.expect(f"{what}, auto", 0, "train", *settings, ranks=RANKS,
                    err=["skipped \\S*step-00000006: .*" + re.escape(name), "loaded \\S*step-00000004: step 4",
                         "done: 6 steps"])
        self.checks.that(f"{what}: the same losses again",
                         [m["loss"] for m in self.place.metrics("damaged")] ==
                         [m["loss"] for m in self.place.metrics()])

    def use(self):
        number = r"\d+\.\d+"
        eval_line = rf"step-00000006: valid loss {number}, perplexity {number}, \d+ tokens\n$"
        one = self.expect("eval on 1 rank", 0, "eval", "run/checkpoints/step-00000006", out=[eval_line])
        four = self.expect("eval on 4 ranks", 0, "eval", "tiny.yaml", ranks=RANKS, out=[eval_line])
        losses = [float(re.search("loss (\\S+),", r.out)[1]) for r in (one, four)]
        # Two grids sum in another order; six decimals are printed.
        self.checks.that("eval: the same loss", abs(losses[0] - losses[1]) <= 2e-6, losses)
        say = ["--prompt", "alpha ", "--max-tokens", "20", "--seed", "7", "--samples", "2"]
        text = self.expect("generate", 0, "generate", "run/checkpoints/step-00000006", *say,
                           out=["^--- sample 1 of 2\nalpha "]).out
        again = self.expect("generate again", 0, "generate", "run/checkpoints/step-00000006", *say)
        self.checks.that("generate: the same text twice", text == again.out, again)
        four = self.expect("generate on 4 ranks", 0, "generate", "tiny.yaml", *say, ranks=RANKS)
        self.checks.that("generate: the same text on 4 ranks", text == four.out, f"{text}\n{four}")
        self.expect("generate without a checkpoint", 1, "generate", "tiny.yaml", "--set", "out=never", ranks=RANKS,
                    err=["there is no valid checkpoint in never/checkpoints"])

    def checkpoints(self):
        self.expect("ckpt ls", 0, "ckpt", "ls", "run",
                    out=[r"6  yes .*  4  .*step-00000006", r"4  yes .*step-00000004"])
        self.expect("ckpt ls of nothing", 1, "ckpt", "ls", "never", err=["never holds no checkpoints"])
        self.expect("ckpt verify", 0, "ckpt", "verify", "run", out=["6: every byte is", "4: every byte is"])
        self.expect("ckpt diff, alike", 0, "ckpt", "diff", "run", "run", out=["^0 tensors differ\n$"])
        self.expect("ckpt diff", 0, "ckpt", "diff", "run/checkpoints/step-00000004", "run/checkpoints/step-00000006",
                    out=["model.head.weight|model.embed.token.weight: max abs", r"\n[1-9]\d* tensors differ"])
        # Out and in again: the weights are the same; the optimizer does not travel.
        self.expect("ckpt export", 0, "ckpt", "export", "run", "hf")
        self.expect("ckpt import", 0, "ckpt", "import", "hf", "imported", out=["step-00000000"])
        self.expect("ckpt export of an import", 0, "ckpt", "export", "imported", "hf2")
        self.expect("ckpt import, twice", 0, "ckpt", "import", "hf2", "imported2")
        self.expect("ckpt diff of two imports", 0, "ckpt", "diff", "imported", "imported2",
                    out=["^0 tensors differ\n$"])
        result = self.expect("ckpt diff with its source", 0, "ckpt", "diff", "run", "imported")
        others = [line for line in result.out.splitlines()[:-1] if not re.match(r"optimizer\..*: only in run/", line)]
        self.checks.that("ckpt import: every weight as it was", not others, result)
        self.expect("ckpt export into a full directory", 1, "ckpt", "export", "run", "hf", err=["hf"])

    def data(self):
        self.expect("data info", 0, "data", "info", "text",
                    out=[r"tokens +\d[\d,]+", "first text:\n(one|two|and|[a-d])"])
        self.expect("data info of nothing", 1, "data", "info", "nope", err=["there is no file nope.idx"])
        self.expect("data prepare over a dataset", 1, "data", "prepare", "text.txt", "--out", "text", err=["overwrite"])

    def plan(self):
        result = self.expect("plan of a trillion parameters", 0, "plan", f"{self.source}/configs/trillion.yaml",
                             out=["^trillion: 10\\d{11} parameters on 800 ranks"])
        print(f"plan of configs/trillion.yaml: {result.seconds:.2f} s")
        stages = {int(n) for n in re.findall(r", stage (\d+):", result.out)}
        self.checks.that("plan: all 50 stages", stages == set(range(50)), sorted(stages))
        ranks = set()
        for group in re.findall(r"^ranks? ([\d, -]+), stage", result.out, re.MULTILINE):
            for part in group.split(", "):
                first, _, last = part.partition("-")
                ranks.update(range(int(first), int(last or first) + 1))
        self.checks.that("plan: all 800 ranks", ranks == set(range(800)))

    def device_kib(self, *arguments):
        """What the fullest rank's device holds by the plan, in KiB."""
        result = self.expect("plan", 0, "plan", *arguments, out=["device, in all"])
        return max(float(n) for n in re.findall(r"device, in all +([\d.]+) KiB", result.out))

    # Two ranks, whose state ZeRO can share out.
    PAIR = ["tiny.yaml", "--set", "parallel.pipeline=1", "--set", "train.micro_batch=2", "--set"]

    def memory(self):
        """Limits are checked before anything is allocated."""
        job = [*self.PAIR, "out=never", "--set", "zero.stage=0"]
        wanted = self.device_kib(*job, "--gpus", "2")
        limit = ["--set", f"memory.device_limit={wanted - 10:.1f}KiB"]
        patterns = [rf"device memory of rank 0: {wanted} KiB wanted, \S+ KiB there \(memory.device_limit\): \S+ KiB short",
                    rf"The cheapest that fits: set zero.stage: 1 \(device \S+ KiB instead of {wanted} KiB; "]
        what = "over the device's limit"
        result = self.expect(what, 1, "train", *job, *limit, ranks=2,
                             err=["does not fit in memory; nothing was allocated\n", *patterns])
        self.told_once(what, result, "nothing was allocated")
        self.checks.that(f"{what}: no trace", not (self.place.path / "never").exists())
        self.expect(f"plan, {what}", 0, "plan", *job, *limit, "--gpus", "2",
                    out=[*patterns, r"hosts: .* on one host \(ranks 0-1; --ranks-per-host N says"])
        self.expect("plan for two hosts", 0, "plan", *job, "--gpus", "2", "--ranks-per-host", "1",
                    out=[r"the fullest of 2 hosts \(rank [01]\), ", "device memory: no limit is known",
                         r"host memory of rank [01]: .* wanted, .* there \(.*, this machine\)\n"])

        # The host's, shared by its ranks; as Slurm tells it.
        self.place.environment["SLURM_MEM_PER_NODE"] = "1"
        result = self.expect("over Slurm's limit", 1, "train", *job, "--set", "model.hidden=128", ranks=2,
                             err=[r"host memory of ranks 0-1: .* wanted, 1.0 MiB there \(SLURM_MEM_PER_NODE\): .* short"])
        self.told_once("over Slurm's limit", result, "SLURM_MEM_PER_NODE")
        planned = ["plan", *job, "--set", "model.hidden=128", "--gpus", "2"]
        advice = "The cheapest that fits|Nothing that can be set"
        result = self.expect("plan, hosts unknown", 0, *planned, out=[r"\(SLURM_MEM_PER_NODE, this machine\): .* short\n$"])
        self.checks.that("plan, hosts unknown: nothing is tried", not re.search(advice, result.out), result)
        self.expect("plan, hosts known", 0, *planned, "--ranks-per-host", "2", out=[advice])
        del self.place.environment["SLURM_MEM_PER_NODE"]

    def recompute(self):
        """train.recompute: auto is decided by the plan, and stays decided in what the run leaves."""
        job = [*self.PAIR, "out=auto", "--set", "train.steps=2"]
        kib = {kind: self.device_kib(*job, "--gpus", "2", "--set", f"train.recompute={kind}")
               for kind in ("none", "selective", "full")}
        self.checks.that("recompute: each takes less", kib["none"] > kib["selective"] + 1 > kib["full"] + 2, kib)
        job += ["--set", "train.recompute=auto"]
        limit = ["--set", f"memory.device_limit={kib['selective'] + 0.5:.1f}KiB"]
        chosen = (rf"recompute: selective, chosen by the plan: device memory of rank \d: {kib['selective']} KiB wanted, "
                  rf".* \(memory.device_limit\); none takes {kib['none']} KiB")
        self.expect("recompute: auto, planned", 0, "plan", *job, *limit, "--gpus", "2", out=[chosen])
        result = self.expect("recompute: auto", 0, "train", *job, *limit, ranks=2, err=[chosen, "done: 2 steps"])
        self.checks.that("recompute: auto: told once", result.err.count("chosen by the plan") == 1, result)
        run = self.place.path / "auto"
        self.checks.that("recompute: auto: in the log", re.search(chosen, (run / "log.txt").read_text()))
        self.checks.that("recompute: auto: resolved", "recompute: selective\n" in (run / "config.yaml").read_text())
        self.expect("recompute: as resolved", 0, "train", "auto/config.yaml", "--set", "train.steps=3", ranks=2,
                    err=["loaded \\S*step-00000002: step 2", "done: 3 steps"])
        result = self.expect("recompute: auto does not fit", 1, "train", *job, "--set",
                             f"memory.device_limit={kib['full'] - 2:.1f}KiB", ranks=2,
                             err=["train.recompute: auto: even full does not fit\n", "KiB short\n", "The cheapest that"])
        self.told_once("recompute: auto does not fit", result, "even full does not fit")
        # Others that build a run decide it, too.
        self.expect("recompute: auto, eval", 0, "eval", *job, *limit, ranks=2, out=["valid loss"], err=[chosen])

    def zero_table(self):
        row = r" +N +stage 1 +stage 2 +stage 3[\s\S]*\n +64 +31.4 +16.6 +1.88 .* 4187 +2218 +250\n"
        result = self.expect("plan --zero-table", 0, "plan", "--zero-table", out=[row])
        self.checks.that("plan --zero-table: no config", "allocated" not in result.out)
        self.expect("plan --zero-table CONFIG", 0, "plan", "--zero-table", "tiny.yaml",
                    out=[row, r"tiny: \d+ parameters", "formula +allocated", "gradients 4 \\(fp32, where the paper has 2"])
        self.expect("plan of nothing", 1, "plan", err=["CONFIG is required"])

    def bench(self):
        # One line an operation and dtype; the speeds of tiny shapes mean nothing.
        line = r"\s+[\d.]+\s+[\d.]+ G[BF]/s\s+\d+%"
        names = ("gemm up 128x64 dw", "attention backward", "softmax loss, 16 tokens", "rms norm backward", "rope, q and k")
        result = self.expect("bench of tiny shapes", 0, "bench", "--tiny", "ops", out=[
            rf"f32 [\s\S]*\n{name}{line}[\s\S]*\nbf16 [\s\S]*\n{name}{line}" for name in names] + [
            r"\nthe head as a whole, 64 tokens: [\d.]+ ms, [\d.]+ times its products alone \([\d.]+ ms\)\n"])
        # Too small to have a limit; then from the nearest to the furthest.
        table = result.out.split("\nbf16 ")[1].splitlines()[1:]
        self.checks.that("bench of tiny shapes: what has no limit is first",
                         [row[:12] for row in table if row.endswith(" -")] == [row[:12] for row in table[:3]], result)
        shares = [int(row.split()[-1][:-1]) for row in table[3:] if row.endswith("%")]
        self.checks.that("bench of tiny shapes: by their share", shares == sorted(shares, reverse=True), shares)
        update = rf"bf16 [\s\S]*adamw, 4096 parameters{line}  of x \*= s beside it, [\d.]+ GB/s\n  moments in bf16{line}"
        self.expect("bench of a tiny update", 0, "bench", "--tiny", "adamw", out=[update])
        rates = r"\s+[\d.]+ GB/s" * 3
        self.expect("bench of attention", 0, "bench", "attention", "--context", "96", "--tokens", "192", out=[
            r"attention forward, 96 of 192 tokens +[0-9.]+ ms +[0-9.]+ GFLOP/s\nattention backward, "])
        self.expect("bench of attention to parts of sequences", 1, "bench", "attention", "--context", "96", "--tokens",
                    "100", err=["--tokens 100", "multiple of --context 96"])
        self.expect("bench of a disk", 0, "bench", "--tiny", "disk", "scratch", out=[
            rf"scratch/trident-bench: 8 chunks of 4.0 KiB, [^\n]* 4 threads,[^\n]*\n[^\n]*\n2{rates}\n3{rates}\n4{rates}\n", "io_uring"])
        self.expect("bench of no disk", 1, "bench", "disk", err=["DIRECTORY"])
        cells = r"(\s+[\d.]+( %)?)"
        self.expect("bench of two ranks", 0, "bench", "--tiny", "comm", ranks=2, out=[
            rf"through shared memory, 2 ranks; [\s\S]*\n +4.0 KiB{cells}{{10}}\n[\s\S]*\n +64.0 KiB{cells}{{10}}\n"])
        self.expect("bench of one rank", 1, "bench", "comm", err=["mpirun -n 2"])
        self.expect("bench of a GPU without one", 1, "bench", "--device", "cuda", err=["device: cuda"])

    def instruction_sets(self):
        """The same losses with every instruction set of this machine: in f32 but for rounding, in bf16 roughly."""
        environment = self.place.environment
        environment["TRIDENT_CPU_ISA"] = "none"
        result = self.expect("unknown instruction set", 1, "bench", "--tiny", err=["TRIDENT_CPU_ISA=none is not known"])
        self.expect("doctor, unknown instruction set", 1, "doctor", out=[r"PROBLEM  processor .*\n *-> TRIDENT_CPU_ISA=none"])
        sets = re.search(r"it can be ([^;]*);", result.err).group(1).split(", ")
        for precision, tolerance in ("fp32", 1e-4), ("bf16", 2**-6):
            losses = {}
            for name in sets:
                environment["TRIDENT_CPU_ISA"] = name
                what, out = f"{precision} with {name}", f"run-{precision}-{name}"
                self.expect(what, 0, "train", "tiny.yaml", "--set", f"train.precision={precision}", "--set", f"out={out}",
                            ranks=RANKS, err=[f"processor: kernels for {name}"])
                losses[name] = [line["loss"] for line in self.place.metrics(out)]
                worst = max(abs(a - b) for a, b in zip(losses[name], losses[sets[0]]))
                self.checks.that(f"{what}: the losses of {sets[0]}", len(losses[name]) == 6 and worst < tolerance, losses)
        del environment["TRIDENT_CPU_ISA"]
        if len(sets) > 1:
            other = [":", "-n", "1", "-x", "TRIDENT_CPU_ISA=avx2", self.place.binary, "train", "tiny.yaml", "--set", "out=never"]
            result = self.expect("two instruction sets", 1, "train", "tiny.yaml", "--set", "out=never", *other, ranks=3)
            self.told_once("two instruction sets", result, f"with {sets[-1]}, some with avx2.*-x TRIDENT_CPU_ISA=avx2")

    def all(self):
        self.arguments()
        self.data()
        self.plan()
        self.zero_table()
        self.memory()
        self.recompute()
        self.bench()
        self.instruction_sets()
        self.mistakes()
        self.train()
        self.profile()
        self.resume_none()
        self.use()
        self.checkpoints()
        self.damage()
        return self.checks.finish()


def main():
    # No rank needs time to end: mpirun need not wait between its signals.
    with Workplace(sys.argv[2], sys.argv[1], environment={"OMPI_MCA_odls_base_sigkill_timeout": "0"}) as place:
        place.make_dataset()
        return CliChecks(place, sys.argv[3]).all()


if __name__ == "__main__":
    sys.exit(main())
