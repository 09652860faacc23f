"""Trident beside PyTorch on this CPU, in turn (bench_vs_pytorch.sh prepares and calls this).

Both sides of a case are started once and stay. A pair is: trident runs some steps, is stopped (SIGSTOP), PyTorch runs a
few steps. Whatever else the machine does then meets both. A side's speed in a pair is the median of its steps.
"""
import argparse
import contextlib
import datetime
import json
import os
import pathlib
import platform
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TRIDENT = ROOT / "build/release/trident"
STEPS = 1 << 20  # more than any case runs

GPT2 = dict(arch="gpt2", layers=12, hidden=768, heads=12, kv_heads=12, ffn=3072, vocab=50257, context=1024, batch=4)
GPT2_SHORT = {**GPT2, "context": 512}
LLAMA = dict(arch="llama", layers=12, hidden=768, heads=12, kv_heads=4, ffn=2048, vocab=32000, context=1024, batch=4)
TINY = dict(arch="gpt2", layers=4, hidden=256, heads=4, kv_heads=4, ffn=1024, vocab=8192, context=256, batch=8)
DATA_2, TENSOR_2 = {"parallel": "{data: 2}", "zero": "{stage: 2}"}, {"parallel": "{tensor: 2}"}
PIPELINE_2 = {"parallel": "{pipeline: 2}"}

# What is measured: name -> what it takes.
TRAINING = {
    "GPT-2 124M, bf16": (GPT2, "bf16"),
    "GPT-2 124M, fp32": (GPT2, "fp32"),
    "Llama 125M, bf16": (LLAMA, "bf16"),
    "Llama 125M, fp32": (LLAMA, "fp32"),
    "tiny GPT-2, bf16": (TINY, "bf16"),
    "tiny GPT-2, fp32": (TINY, "fp32"),
}
TWO_RANKS = {"DeepSpeed ZeRO-2": "deepspeed", "FSDP2": "fsdp2"}
# The grid, its sequences a step and in a micro-batch: a pipeline needs more micro-batches than stages.
GRIDS = {"data 2, ZeRO-2": (DATA_2, 4, 2), "tensor 2": (TENSOR_2, 4, 4), "pipeline 2, 16 micro-batches": (PIPELINE_2, 16, 1)}
ATTENTION = [1024, 4096, 8192]
ADAMW = 100_000_000


def children(pid):
    """A process and all below it."""
    found = [pid]
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            number, rest = path.read_text().split(" ", 1)
            if int(rest.rsplit(")", 1)[1].split()[1]) == pid:
                found += children(int(number))
    return found


def peak_mib(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return float("nan")


class Trident:
    """A training run that is stopped but for its turns."""

    def __init__(self, folder, model, precision, threads, ranks=1, grid=None, micro_batch=None):
        self.model, self.micro_batch = model, micro_batch or min(model["batch"], 8)
        self.out = pathlib.Path(tempfile.mkdtemp(dir=folder)) / "run"
        config = self.out.parent / "config.yaml"
        config.write_text(self.config(precision, folder, grid or {}))
        command = [TRIDENT, "train", config]
        if ranks > 1:
            command = ["mpirun", "--bind-to", "none", "--oversubscribe", "-n", str(ranks), *command]
        self.log = open(self.out.parent / "log", "w")
        self.process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": str(threads)}, stdout=self.log,
                                        stderr=self.log)
        self.wait_for(2)
        self.ranks = [pid for pid in children(self.process.pid)
                      if pathlib.Path(f"/proc/{pid}/comm").read_text().startswith("trident")]
        self.send(signal.SIGSTOP)

    def config(self, precision, folder, grid):
        keys = ("arch", "layers", "hidden", "heads", "kv_heads", "vocab", "context")
        shape = ", ".join(f"{key}: {self.model[key]}" for key in keys) + f", ffn_hidden: {self.model['ffn']}, dropout: 0"
        sections = "".join(f"{key}: {value}\n" for key, value in grid.items())
        return (f"name: bench\nmodel: {{{shape}}}\n{sections}"
                f"train: {{steps: {STEPS}, global_batch: {self.model['batch']}, micro_batch: {self.micro_batch}, "
                f"precision: {precision}}}\n"
                "optimizer: {lr: 1e-4, weight_decay: 0.1}\n"
                f"data: {{tokenizer: {{kind: none}}, train: [{{path: {folder}/tokens-{self.model['vocab']}}}]}}\n"
                f"checkpoint: {{every: 0}}\nout: {self.out}\n")

    def send(self, number):
        for pid in self.ranks:
            os.kill(pid, number)

    def lines(self):
        path = self.out / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines() if line] if path.exists() else []

    def wait_for(self, count):
        while len(self.lines()) < count:
            if self.process.poll() is not None:
                sys.exit(f"trident ended:\n{pathlib.Path(self.log.name).read_text()}")
            time.sleep(0.02)

    def turn(self, steps):
        """Tokens per second, the median of `steps` whole steps: the one that was stopped does not count."""
        before = len(self.lines())
        self.send(signal.SIGCONT)
        self.wait_for(before + 1 + steps)
        self.send(signal.SIGSTOP)
        measured = self.lines()[before + 1:before + 1 + steps]
        self.share = statistics.median(line["mfu"] for line in measured)
        return statistics.median(line["tokens_per_s"] for line in measured)

    def memory(self):
        return max(peak_mib(pid) for pid in self.ranks)

    def close(self):
        self.send(signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.log.close()


class PyTorch:
    """bench_pytorch.py, as often as there are ranks."""

    def __init__(self, threads, arguments, ranks=1):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        # torch.compile brings a second OpenMP beside PyTorch's own: the idle one must not spin on the other's cores.
        common = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive", "MASTER_ADDR": "127.0.0.1",
                  "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks), "LOCAL_SIZE": str(ranks), "DS_ACCELERATOR": "cpu"}
        self.log = tempfile.TemporaryFile("w+")
        self.processes = [
            subprocess.Popen([sys.executable, ROOT / "scripts/bench_pytorch.py", *map(str, arguments)],
                             env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True)
            for rank in range(ranks)
        ]
        self.turn(2)

    def turn(self, steps):
        for process in self.processes:
            print(steps, file=process.stdin, flush=True)
        answers = [process.stdout.readline() for process in self.processes]
        if not all(answers):
            self.log.seek(0)
            raise RuntimeError(self.log.read()[-2000:])
        self.peak = max(json.loads(answer)["peak_mib"] for answer in answers)
        return json.loads(answers[0])

    def seconds(self, steps):
        return statistics.median(self.turn(steps)["seconds"])

    def close(self):
        for process in self.processes:
            process.kill()
            process.wait()


def model_options(model, precision):
    return [x for key, value in model.items() for x in (f"--{key.replace('_', '-')}", value)] + ["--precision", precision]


def of(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


class Bench:
    def __init__(self, folder, pairs, threads):
        self.folder, self.pairs, self.threads = folder, pairs, threads
        self.rows = []

    def report(self, case, ours, theirs, unit, **more):
        """`theirs`: peer -> values. The ratio is to the faster peer of the pair."""
        ratios = [a / max(values[i] for values in theirs.values()) for i, a in enumerate(ours)]
        row = {"case": case, "unit": unit, "trident": of(ours), "peers": {name: of(v) for name, v in theirs.items()},
               "ratio": of(ratios), **more}
        self.rows.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)

    def steps(self, model):
        return 2 if model["hidden"] > 256 else 15

    def training(self, case):
        model, precision = TRAINING[case]
        tokens, steps = model["batch"] * model["context"], self.steps(model)
        options = ["train", *model_options(model, precision)]
        with contextlib.ExitStack() as stack:
            us = stack.enter_context(contextlib.closing(Trident(self.folder, model, precision, self.threads)))
            peers = {"eager": PyTorch(self.threads, options), "compile": PyTorch(self.threads, [*options, "--compile"])}
            for peer in peers.values():
                stack.enter_context(contextlib.closing(peer))
            ours, theirs = [], {name: [] for name in peers}
            for _ in range(self.pairs):
                ours.append(us.turn(steps))
                for name, peer in peers.items():
                    theirs[name].append(tokens / peer.seconds(steps))
            self.report(case, ours, theirs, "tokens/s", share_of_peak=us.share, mib=us.memory(),
                        peers_mib={name: peer.peak for name, peer in peers.items()})

    def two_ranks(self, name):
        case = f"two ranks x one thread, context 512, bf16: {name}"
        tokens = GPT2_SHORT["batch"] * GPT2_SHORT["context"]
        with contextlib.ExitStack() as stack:
            us = stack.enter_context(
                contextlib.closing(Trident(self.folder, GPT2_SHORT, "bf16", 1, 2, DATA_2, 2)))
            options = ["train", *model_options(GPT2_SHORT, "bf16"), "--parallel", TWO_RANKS[name]]
            peer = stack.enter_context(contextlib.closing(PyTorch(1, options, ranks=2)))
            ours, theirs = [], []
            for _ in range(self.pairs):
                ours.append(us.turn(3))
                theirs.append(tokens / peer.seconds(3))
            self.report(case, ours, {name: theirs}, "tokens/s", mib=us.memory(), peers_mib={name: peer.peak})

    def grid(self, name):
        grid, batch, micro_batch = GRIDS[name]
        model = {**GPT2, "batch": batch}
        with contextlib.ExitStack() as stack:
            whole = stack.enter_context(contextlib.closing(Trident(self.folder, model, "bf16", 2, micro_batch=4)))
            us = stack.enter_context(
                contextlib.closing(Trident(self.folder, model, "bf16", 1, 2, grid, micro_batch)))
            ours, theirs = [], []
            for _ in range(self.pairs):
                ours.append(us.turn(3))
                theirs.append(whole.turn(3))
            self.report(f"two ranks x one thread, GPT-2 124M, bf16: {name}", ours, {"one rank x two threads": theirs},
                        "tokens/s", mib=us.memory())

    def trident_rates(self, pattern, *arguments):
        """What `pattern` finds in the lines of trident bench."""
        out = subprocess.run([TRIDENT, "bench", *map(str, arguments)], check=True, capture_output=True, text=True,
                             env={**os.environ, "OMP_NUM_THREADS": str(self.threads)}).stdout
        return re.findall(pattern, out)

    def attention(self, context):
        tokens = max(4096, context)
        peer = PyTorch(self.threads, ["attention", "--context", context, "--tokens", tokens, "--precision", "bf16"])
        flops = 2 * 64 * 12 * tokens * context  # the causal half: two products of 2 x 64 each, halved
        ours, theirs = {"forward": [], "backward": []}, {"forward": [], "backward": []}
        with contextlib.closing(peer):
            for _ in range(self.pairs):
                rates = dict(self.trident_rates(r"attention (\w+),.* ([0-9.]+) GFLOP/s", "attention", "--context", context,
                                                "--tokens", tokens))
                seconds = peer.turn(7)
                for part, work in (("forward", flops), ("backward", 2.5 * flops)):
                    ours[part].append(float(rates[part]))
                    theirs[part].append(work / statistics.median(seconds[part]) * 1e-9)
        for part in ours:
            self.report(f"attention {part}, bf16, 12 x 64, {context} tokens", ours[part], {"eager": theirs[part]},
                        "GFLOP/s")

    def adamw(self):
        with contextlib.closing(PyTorch(self.threads, ["adamw", "--parameters", ADAMW])) as peer:
            ours, theirs, shares = [], [], []
            for _ in range(self.pairs):
                rate, share = self.trident_rates(rf"adamw, {ADAMW} parameters.* ([0-9.]+) GB/s +([0-9]+)%", "adamw")[0]
                ours.append(float(rate))
                shares.append(float(share) / 100)
                theirs.append(ADAMW * 28e-9 / peer.seconds(5))
        self.report("AdamW, 100M parameters (30 bytes each; PyTorch 28)", ours, {"fused": theirs}, "GB/s",
                    share_of_peak=statistics.median(shares))

    def write_tokens(self, vocab):
        text = pathlib.Path(self.folder) / "tokens.txt"
        chosen = random.Random(1)
        text.write_text("\n".join(" ".join(str(chosen.randrange(vocab)) for _ in range(1000)) for _ in range(100)))
        subprocess.run([TRIDENT, "data", "prepare", text, "--out", f"{self.folder}/tokens-{vocab}", "--tokenizer", "none",
                        "--vocab", str(vocab)], check=True, stdout=subprocess.DEVNULL)

    def cases(self):
        yield from ((name, self.training, name) for name in TRAINING)
        yield from ((name, self.two_ranks, name) for name in TWO_RANKS)
        yield from ((name, self.grid, name) for name in GRIDS)
        yield from ((f"attention {context}", self.attention, context) for context in ATTENTION)
        yield "adamw", lambda _: self.adamw(), None

    def run(self, wanted):
        for vocab in {m["vocab"] for m in (GPT2, LLAMA, TINY)}:
            self.write_tokens(vocab)
        for name, measure, what in self.cases():
            if wanted and not any(w.lower() in name.lower() for w in wanted):
                continue
            try:
                measure(what)
            except RuntimeError as error:
                print(f"{name}: the peer does not run here: {error}", file=sys.stderr)


def table(rows):
    lines = ["| case | trident | peer | ratio: min, median, max | share of peak | MiB |", "|---|---|---|---|---|---|"]
    for row in rows:
        peers = ", ".join(f"{name} {value['median']:,.0f}" for name, value in row["peers"].items())
        ratio = ", ".join(f"{row['ratio'][k]:.2f}" for k in ("min", "median", "max"))
        share = f"{100 * row['share_of_peak']:.0f}%" if "share_of_peak" in row else ""
        memory = f"{row['mib']:,.0f}" if "mib" in row else ""
        if "peers_mib" in row:
            memory += " (" + ", ".join(f"{name} {mib:,.0f}" for name, mib in row["peers_mib"].items()) + ")"
        lines.append(f"| {row['case']} | {row['trident']['median']:,.0f} {row['unit']} | {peers} | {ratio} | {share} | {memory} |")
    return "\n".join(lines)


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--case", action="append", default=[], help="part of a case's name; may be repeated")
    parser.add_argument("--json", default=str(ROOT / "build/bench_vs_pytorch.json"))
    chosen = parser.parse_args()
    import torch
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(folder, chosen.pairs, chosen.threads)
        bench.run(chosen.case)
    machine = {"date": datetime.date.today().isoformat(), "processor": processor(), "threads": chosen.threads,
               "torch": torch.__version__, "pairs": chosen.pairs}
    pathlib.Path(chosen.json).write_text(json.dumps({**machine, "cases": bench.rows}, indent=1) + "\n")
    print(", ".join(f"{key} {value}" for key, value in machine.items()) + "\n\n" + table(bench.rows))


if __name__ == "__main__":
    main()
