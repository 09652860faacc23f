#!/usr/bin/env python3
"""The life of a run on the emulated CUDA device, with every kind of parallelism: training with evaluation and checkpoints,
resuming, verifying against one rank, generating.

    simt_life_check.py MPIEXEC TRIDENT_SIMT

With the checked emulator: a missing wait, a race or a host access anywhere on the way ends the run with a report. Prints
every loss and the generated text, so that two builds can be compared.
"""

import argparse
import json
import os
import sys

sys.dont_write_bytecode = True
from harness import Checks, Workplace

CONFIG = """\
name: life
device: simt
model: {arch: gpt2, layers: 2, hidden: 64, heads: 2, vocab: 257, context: 16, dropout: 0.1}
parallel: {pipeline: 2, tensor: 2, data: 2, sequence: true}
zero: {stage: 1}
train: {steps: 3, global_batch: 8, micro_batch: 1, precision: fp32}
optimizer: {lr: 1e-2, schedule: constant, warmup_steps: 2}
data: {tokenizer: {kind: byte}, train: [{path: text}], valid: [{path: text-valid}], eval_every: 2, eval_batches: 2}
checkpoint: {every: 2, keep: 2, async: true}
out: run
"""
# Stages in the middle receive and send in both directions.
FOUR_STAGES = ["--set", "out=four", "--set", "parallel.pipeline=4", "--set", "parallel.tensor=1", "--set",
               "parallel.sequence=false", "--set", "model.layers=4", "--set", "train.steps=1"]
# Without sequence parallelism the tensor ranks sum by all-reduce.
WHOLE_ROWS = ["--set", "out=whole", "--set", "parallel.sequence=false", "--set", "train.steps=1"]
# More layers than full-size buffers, so that they take turns: with ZeRO-3 those of the weights too, whose gathers order
# much else.
SHARDS = ["--set", "parallel.pipeline=1", "--set", "model.layers=5", "--set", "train.global_batch=4"]
ZERO_2 = [*SHARDS, "--set", "out=zero2", "--set", "zero.stage=2", "--set", "train.steps=1"]
ZERO_3 = [*SHARDS, "--set", "out=zero3", "--set", "zero.stage=3", "--set", "train.steps=2"]
# (ranks, arguments)
STORY = (
    (8, ["train", "life.yaml", *FOUR_STAGES]),
    (8, ["train", "life.yaml", *WHOLE_ROWS]),
    (4, ["train", "life.yaml", *ZERO_2]),
    (4, ["train", "life.yaml", *ZERO_3]),
    (8, ["verify", "life.yaml", "--steps", "1"]),
    (8, ["generate", "life.yaml", "--prompt", "alpha", "--max-tokens", "2", "--temperature", "0"]),
)
# What the processor does beside the GPU, and what comes out of checkpoints, no emulator watches: a missing wait shows in
# the losses. State in host memory, with sums over tensor ranks there; all in files, a step late; weights in host memory;
# inputs of layers there, too.
COMPARED = {
    "run": (8, []),
    "offload": (4, [*SHARDS, "--set", "zero.stage=2", "--set", "zero.offload=host"]),
    "beside": (4, [*SHARDS, "--set", "zero.stage=3", "--set", "zero.offload=nvme", "--set", "zero.nvme_path=nvme", "--set",
                   "zero.offload_parameters=nvme", "--set", "zero.delayed_update=true"]),
    "parameters": (4, [*SHARDS, "--set", "zero.stage=3", "--set", "zero.offload=host", "--set",
                       "zero.offload_parameters=host"]),
    "stage1": (4, [*SHARDS, "--set", "zero.stage=1", "--set", "zero.offload=host", "--set", "zero.delayed_update=true",
                   "--set", "train.recompute=full", "--set", "train.offload_activations=host"]),
}


def losses_are_right(place, checks, name):
    """Two steps, and a third after resuming, against three in one go on the CPU device."""
    ranks, arguments = COMPARED[name]
    for more in (["--set", "train.steps=2"], ["--resume", "auto"]):
        story = place.run("train", "life.yaml", *arguments, "--set", f"out={name}", *more, ranks=ranks)
        if not checks.that(f"{name} {more}", story.code == 0, story):
            return False
    cpu = place.run("train", "life.yaml", *arguments, "--set", f"out={name}-cpu", "--set", "device=cpu", ranks=ranks)
    if not checks.that(f"{name} on the CPU device", cpu.code == 0, cpu):
        return False
    losses = [[line["loss"] for line in place.metrics(out)] for out in (name, f"{name}-cpu")]
    steps = [line["step"] for line in place.metrics(name)]
    worst = max(abs(a - b) / b for a, b in zip(*losses))
    return checks.that(f"{name}: every step was done once, its loss is the CPU device's, worst difference {worst:.1e}",
                       steps == [1, 2, 3] and worst <= 1e-5, losses)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mpiexec")
    parser.add_argument("simt")
    options = parser.parse_args()
    environment = {"TRIDENT_SIMT_POLICY": os.environ.get("TRIDENT_SIMT_POLICY", "random"), "TRIDENT_SIMT_SEED": "7"}
    checks = Checks()
    with Workplace(options.simt, options.mpiexec, environment=environment) as place:
        place.make_dataset()
        (place.path / "life.yaml").write_text(CONFIG)
        for name in COMPARED:
            if not losses_are_right(place, checks, name):
                return checks.finish()
        for ranks, arguments in STORY:
            story = place.run(*arguments, ranks=ranks)
            if not checks.that(" ".join(arguments), story.code == 0, story):
                return checks.finish()
        result = place.run("bench", "--device", "simt", "--tiny", "ops")
        checks.that("every operation can be measured", result.code == 0 and result.out.count("\nsoftmax loss") == 2, result)
        steps = place.metrics()
        checks.that("it learns", steps[-1]["loss"] < steps[0]["loss"])
        # Before the first step and after the second: the model that steps 1 and 3 train.
        valid = [json.loads(line) for line in (place.path / "run/metrics.jsonl").read_text().splitlines()]
        valid = [line["valid_loss"] for line in valid if "valid_loss" in line]
        checks.that("evaluation sees the model as training does",
                    all(abs(valid[i] - steps[2 * i]["loss"]) < 0.1 for i in range(2)), f"{valid}, {steps}")
        sample = story.out.rstrip("\n").split("\n")[-1]
        # Two tokens more, neither of them 0, the best of logits that never came.
        generated = sample.startswith("alpha") and len(sample) == 7 and sample.isprintable()
        checks.that("it generates text", generated, repr(story.out))
        print(*(f"{line['step']} {line['loss']!r}" for line in steps), sample, sep="\n")
        return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
