#!/usr/bin/env python3
"""The life of a run on the emulated CUDA device, on 8 ranks with every kind of parallelism: training with evaluation and
checkpoints, resuming, verifying against one rank, generating.

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

RANKS = 8
CONFIG = """\
name: life
device: simt
model: {arch: gpt2, layers: 2, hidden: 128, heads: 2, vocab: 257, context: 16, dropout: 0.1}
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
SHARDS = ["--set", "parallel.pipeline=1", "--set", "parallel.data=4", "--set", "model.layers=5"]
ZERO_2 = [*SHARDS, "--set", "out=zero2", "--set", "zero.stage=2", "--set", "train.steps=1"]
ZERO_3 = [*SHARDS, "--set", "out=zero3", "--set", "zero.stage=3", "--set", "train.steps=2"]
# State in host memory, summed over tensor ranks too; then everything beside the device, a step late.
OFFLOAD = ["--set", "parallel.pipeline=1", "--set", "parallel.data=4", "--set", "model.layers=5", "--set",
           "zero.stage=2", "--set", "zero.offload=host", "--set", "train.steps=2"]
BESIDE = [*SHARDS, "--set", "zero.stage=3", "--set", "zero.offload=nvme", "--set",
          "zero.nvme_path=nvme", "--set", "zero.offload_parameters=nvme", "--set", "zero.delayed_update=true", "--set",
          "train.steps=3"]
PARAMETERS = [*SHARDS, "--set", "zero.stage=3", "--set", "zero.offload=host", "--set", "zero.offload_parameters=host",
              "--set", "train.steps=2"]
WHOLE_STATE = [*SHARDS, "--set", "train.recompute=full", "--set", "train.offload_activations=host", "--set",
               "zero.stage=1", "--set", "zero.offload=host", "--set",
               "zero.delayed_update=true", "--set", "train.steps=3"]
STORY = (
    ["train", "life.yaml", "--set", "train.steps=2"],
    ["train", "life.yaml", "--resume", "auto"],
    ["train", "life.yaml", *FOUR_STAGES],
    ["train", "life.yaml", *WHOLE_ROWS],
    ["train", "life.yaml", *ZERO_2],
    ["train", "life.yaml", *ZERO_3],
    ["verify", "life.yaml", "--steps", "1"],
    ["generate", "life.yaml", "--prompt", "alpha", "--max-tokens", "2", "--temperature", "0"],
)


def offload_is_right(place, checks, name, arguments):
    """What the processor does beside the GPU no emulator watches: a missing wait shows in the losses."""
    losses = []
    for device in ("simt", "cpu"):
        story = place.run("train", "life.yaml", *arguments, "--set", f"out={name}-{device}", "--set",
                          f"device={device}", ranks=RANKS)
        if not checks.that(f"{name} on {device}", story.code == 0, story):
            return False
        losses.append([line["loss"] for line in place.metrics(f"{name}-{device}")])
    worst = max(abs(a - b) / b for a, b in zip(*losses, strict=True))
    return checks.that(f"{name}: the losses are the processor's, worst difference {worst:.1e}", worst <= 1e-5, losses)


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
        for arguments in STORY:
            story = place.run(*arguments, ranks=RANKS)
            if not checks.that(" ".join(arguments), story.code == 0, story):
                return checks.finish()
        for name, arguments in (("offload", OFFLOAD), ("beside", BESIDE), ("parameters", PARAMETERS),
                                ("stage1", WHOLE_STATE)):
            if not offload_is_right(place, checks, name, arguments):
                return checks.finish()
        result = place.run("bench", "--device", "simt", "--tiny", "ops")
        checks.that("every operation can be measured", result.code == 0 and result.out.count("\nsoftmax loss") == 2, result)
        steps = place.metrics()
        checks.that("every step was done once", [line["step"] for line in steps] == [1, 2, 3])
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
