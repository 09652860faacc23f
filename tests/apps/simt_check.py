#!/usr/bin/env python3
"""Whole trainings on the emulated CUDA device against the CPU device: the loss of every step.

    simt_check.py MPIEXEC TRIDENT TRIDENT_SIMT [--steps N] [--device simt|cuda] [--grids NAME...] [--policies NAME...]

Models, grids and stream policies: a tiny GPT-2 and a tiny Llama, alone and on 2 pipeline stages x 2 tensor x 2 data with
ZeRO-1, in fp32 and bf16; with ZeRO-2, ZeRO-3, recomputation and state or weights in host memory or a file on smaller
grids. The policy decides when the emulated GPU does what was submitted, and must not matter. A report of the emulator (a
race, a missing wait, a bad access) ends the run, so exit code 0 says there was none. With --device cuda the same
trainings run on a GPU.
"""

import argparse
import pathlib
import sys

sys.dont_write_bytecode = True
from harness import Checks, Workplace

CONFIG = """\
name: NAME
model: {MODEL, vocab: 257, context: 32}
train: {steps: STEPS, global_batch: 8, micro_batch: 1, precision: fp32}
optimizer: {lr: 3e-3, schedule: constant, warmup_steps: 4}
data: {tokenizer: {kind: byte}, train: [{path: text}]}
checkpoint: {async: false}
log: {every: 100}
"""
MODELS = {
    # Heads of 64: the tensor-core attention. A dropout, so that its counters are compared too.
    "gpt2": "arch: gpt2, layers: 2, hidden: 128, heads: 2, dropout: 0.1",
    "llama": "arch: llama, layers: 2, hidden: 128, heads: 2, kv_heads: 2, ffn_hidden: 192",
}
GRIDS = {
    "alone": (1, []),
    "2x1x1": (2, ["parallel.pipeline=2"]),
    "1x2x1": (2, ["parallel.tensor=2", "parallel.sequence=true"]),
    "1x2x1-whole": (2, ["parallel.tensor=2", "parallel.sequence=false"]),
    "1x1x2": (2, ["parallel.data=2", "zero.stage=1"]),
    "1x2x1-redo": (2, ["parallel.tensor=2", "parallel.sequence=false", "train.recompute=full"]),
    # More layers than buffers that they take turns in.
    "1x1x2-zero2": (2, ["parallel.data=2", "zero.stage=2", "model.layers=3"]),
    "1x1x2-zero3": (2, ["parallel.data=2", "zero.stage=3", "model.layers=3"]),
    "alone-offload": (1, ["zero.stage=2", "zero.offload=host", "model.layers=3", "train.recompute=full",
                          "train.offload_activations=host"]),
    "1x2x2-offload": (4, ["parallel.tensor=2", "parallel.sequence=true", "parallel.data=2", "zero.stage=2",
                          "zero.offload=host", "model.layers=3"]),
    "1x1x2-offload3": (2, ["parallel.data=2", "zero.stage=3", "zero.offload=host", "zero.offload_parameters=host",
                           "model.layers=3"]),
    "1x1x2-nvme3": (2, ["parallel.data=2", "zero.stage=3", "zero.offload=nvme", "zero.nvme_path=nvme",
                        "zero.offload_parameters=nvme", "model.layers=3"]),
    "1x1x2-delayed": (2, ["parallel.data=2", "zero.stage=2", "zero.offload=nvme", "zero.nvme_path=nvme",
                          "zero.delayed_update=true", "model.layers=3"]),
    "2x1x2-zero3": (4, ["parallel.pipeline=2", "parallel.data=2", "zero.stage=3"]),
    "2x2x2": (8, ["parallel.pipeline=2", "parallel.tensor=2", "parallel.data=2", "parallel.sequence=true",
                  "zero.stage=1"]),
}
POLICIES = ("lazy", "eager", "random")

# Relative to the loss, in fp32: another order of sums, as between any two grids. In bf16 the two devices round the same
# fp32 training differently; how far rounding takes it over 20 updates (Adam's first ones are nearly signs, so small
# differences grow) is measured on the CPU device: bf16 against fp32, the worst step. The devices then lie within
# twice that of one another, were it not random; twice again is allowed.
FP32_BOUND = 1e-5
BF16_FACTOR = 4


def worst_difference(losses, others):
    """The largest relative difference of two curves, and its step."""
    return max((abs(a - b) / abs(b), i + 1) for i, (a, b) in enumerate(zip(losses, others)))


class SimtChecks:
    def __init__(self, place, options):
        self.place, self.options, self.checks = place, options, Checks()
        self.exact = {}  # the CPU device's losses in fp32, by model and grid
        options.simt = str(pathlib.Path(options.simt).resolve())

    def policies(self, model, precision, grid):
        """Each wait is checked in any order, so one is enough for what ZeRO, recomputation and offload move and when; and
        the same waits order both models and precisions."""
        plain = model == "gpt2" and precision == "fp32" and "-" not in grid
        return self.options.policies if plain else self.options.policies[-1:]

    def losses(self, binary, model, precision, grid, device, policy=None):
        ranks, overrides = GRIDS[grid]
        # Rounding grows from step to step; what ZeRO and recomputation do, every step does.
        steps = min(self.options.steps, 10) if "-" in grid else self.options.steps
        run = f"run-{model}-{precision}-{grid}-{device}-{policy}"
        place = self.place
        place.binary, before = binary, place.binary
        place.environment.update({"TRIDENT_SIMT_POLICY": policy or "lazy", "TRIDENT_SIMT_SEED": "7"})
        arguments = ["train", f"{model}.yaml", "--set", f"out={run}", "--set", f"device={device}",
                     "--set", f"train.precision={precision}", "--set", f"train.steps={steps}"]
        for override in overrides:
            arguments += ["--set", override]
        result = place.run(*arguments, ranks=ranks)
        place.binary = before
        losses = [line["loss"] for line in place.metrics(run)]
        whole = result.code == 0 and len(losses) == steps
        self.checks.that(f"{run}: runs to the end", whole, result)
        return (losses if whole else None), result

    def plan(self, model, precision, grid):
        """What `trident` without CUDA plans for GPUs is what rank 0 of the run allocated."""
        ranks, overrides = GRIDS[grid]
        arguments = ["plan", f"{model}.yaml", "--gpus", str(ranks), "--set", "device=cuda", "--set", f"train.precision={precision}"]
        for override in overrides:
            arguments += ["--set", override]
        result = self.place.run(*arguments)
        policy = self.policies(model, precision, grid)[0]
        run = self.place.path / f"run-{model}-{precision}-{grid}-{self.options.device}-{policy}"
        allocated = (run / "plan.txt").read_text().split("\nmemory:")[0]
        self.checks.that(f"{run.name}: its plan is what it allocated", allocated.strip() in result.out,
                         f"{result}\nallocated:\n{allocated}")

    def compare(self, model, precision, grid):
        cpu, _ = self.losses(self.place.binary, model, precision, grid, "cpu")
        if precision == "fp32":
            self.exact[model, grid] = cpu
        exact = self.exact[model, grid]
        if cpu is None or exact is None:
            return
        bound = FP32_BOUND if precision == "fp32" else BF16_FACTOR * worst_difference(cpu, exact)[0]
        for policy in self.policies(model, precision, grid):
            simt, result = self.losses(self.options.simt, model, precision, grid, self.options.device, policy)
            if simt is None:
                continue
            worst, step = worst_difference(simt, cpu)
            what = f"{model} {precision} {grid} {policy}: worst loss difference {worst:.2e} at step {step}"
            print(f"{what} (bound {bound:.1e}), {result.seconds:.1f} s", flush=True)
            self.checks.that(f"{what} within {bound:.1e}", worst <= bound)
            self.checks.that(f"{what}: it learns", min(simt[1:]) < simt[0])
        self.plan(model, precision, grid)

    def all(self):
        for model, text in MODELS.items():
            config = CONFIG.replace("NAME", model).replace("MODEL", text).replace("STEPS", str(self.options.steps))
            (self.place.path / f"{model}.yaml").write_text(config)
            for precision in ("fp32", "bf16"):
                for grid in self.options.grids:
                    # What ZeRO and recomputation move, and when, does not depend on the precision.
                    if precision == "fp32" or "-" not in grid:
                        self.compare(model, precision, grid)
        return self.checks.finish()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mpiexec")
    parser.add_argument("trident")
    parser.add_argument("simt")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", choices=("simt", "cuda"), default="simt")
    parser.add_argument("--grids", nargs="+", choices=GRIDS,
                        default=["alone", "alone-offload", "1x1x2-offload3", "1x1x2-nvme3", "1x1x2-delayed", "1x1x2-zero2",
                                 "1x1x2-zero3", "1x2x1-redo", "2x2x2"])
    parser.add_argument("--policies", nargs="+", choices=POLICIES)
    options = parser.parse_args()
    options.policies = options.policies or (POLICIES if options.device == "simt" else ["lazy"])
    with Workplace(options.trident, options.mpiexec) as place:
        place.make_dataset()
        return SimtChecks(place, options).all()


if __name__ == "__main__":
    sys.exit(main())
