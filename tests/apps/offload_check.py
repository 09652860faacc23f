#!/usr/bin/env python3
"""How much larger a model one device of 64 MiB trains with its state in host memory.

    offload_check.py MPIEXEC TRIDENT [--pairs N]

GPT-2 blocks of width 256 in bf16 with full recomputation: the most that fit without offload, at least seven times the
parameters with zero.offload: host (2 of 18 bytes a parameter stay on the device), at least twenty times with ZeRO-3 and
zero.offload_parameters: host. Each is trained; one layer more than the first holds is refused before anything is
allocated. With --pairs also the speed: the sevenfold model against itself without offload and without a limit,
accumulating 16 micro-batches, in turn.
"""

import argparse
import re
import statistics
import sys

sys.dont_write_bytecode = True
from harness import Checks, Workplace

CONFIG = """\
name: offload
model: {arch: gpt2, layers: 4, hidden: 256, heads: 4, vocab: 257, context: 256}
parallel: {data: 1}
memory: {device_limit: 64MiB}
train: {steps: 2, global_batch: 2, micro_batch: 1, precision: bf16, recompute: full}
optimizer: {lr: 1e-3, schedule: constant}
data: {tokenizer: {kind: byte}, train: [{path: text}]}
"""
OFFLOAD = ["zero.stage=2", "zero.offload=host"]
PARAMETERS = ["zero.stage=3", "zero.offload=host", "zero.offload_parameters=host"]


class OffloadChecks:
    def __init__(self, place):
        self.place, self.checks = place, Checks()

    def run(self, command, name, layers, settings):
        arguments = [command, "offload.yaml", "--set", f"out={name}", "--set", f"model.layers={layers}"]
        for setting in settings:
            arguments += ["--set", setting]
        return self.place.run(*arguments)

    def parameters(self, layers, settings):
        """Of the model; 0 when the plan says that the device is too small."""
        result = self.run("plan", "plan", layers, settings)
        fits = "short" not in result.out
        return int(re.search(r"^offload: (\d+) parameters", result.out).group(1)) if fits else 0

    def most_layers(self, settings, low):
        """The most layers that the plan finds room for."""
        layers = low
        while self.parameters(layers + 1, settings):
            layers += 1
        return layers

    def trains(self, name, layers, settings):
        result = self.run("train", name, layers, settings)
        losses = [line["loss"] for line in self.place.metrics(name)] if result.code == 0 else []
        self.checks.that(f"{name}: {layers} layers train", len(losses) == 2 and losses[1] < losses[0], result)

    def memory(self):
        plain = self.most_layers([], 3)
        offload = self.most_layers(OFFLOAD, 24)
        small = self.parameters(plain, [])
        for name, layers, settings, factor in (("plain", plain, [], 1), ("offload", offload, OFFLOAD, 7),
                                               ("parameters", 88, PARAMETERS, 20)):
            ratio = self.parameters(layers, settings) / small
            print(f"{name}: {layers} layers, {ratio * small / 1e6:.1f}M parameters, {ratio:.1f}x", flush=True)
            self.checks.that(f"{name}: at least {factor}x", ratio >= factor)
            self.trains(name, layers, settings)
        refused = self.run("train", "refused", plain + 1, [])
        self.checks.that("one layer more is refused, with the shortfall and what would fit",
                         refused.code == 1 and "memory.device_limit" in refused.err and "zero.offload" in refused.err
                         and not (self.place.path / "refused").exists(), refused)
        return offload

    def speed(self, layers, pairs):
        """Tokens per second of the last steps, offloaded and not, in turn."""
        long = ["train.steps=4", "train.global_batch=16"]
        ratios = []
        for pair in range(pairs):
            rates = []
            for name, settings in (("whole", ["memory.device_limit=none"]), ("offload", OFFLOAD)):
                result = self.run("train", f"{name}-{pair}", layers, long + settings)
                if not self.checks.that(f"pair {pair}: {name} runs", result.code == 0, result):
                    return
                rates.append(statistics.median(line["tokens_per_s"] for line in self.place.metrics(f"{name}-{pair}")[1:]))
            ratios.append(rates[1] / rates[0])
            print(f"pair {pair}: {rates[0]:.0f} tokens/s whole, {rates[1]:.0f} offloaded: {ratios[-1]:.0%}", flush=True)
        print(f"offloaded at {statistics.median(ratios):.0%} of the speed (median of {pairs})")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mpiexec")
    parser.add_argument("trident")
    parser.add_argument("--pairs", type=int, default=0)
    options = parser.parse_args()
    with Workplace(options.trident, options.mpiexec) as place:
        place.make_dataset()
        (place.path / "offload.yaml").write_text(CONFIG)
        checks = OffloadChecks(place)
        layers = checks.memory()
        if options.pairs:
            checks.speed(layers, options.pairs)
        return checks.checks.finish()


if __name__ == "__main__":
    sys.exit(main())
