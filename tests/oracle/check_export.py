#!/usr/bin/env python3
"""Proves that transformers accepts what `trident ckpt export` wrote: check_export.py EXPORTED_DIR FIXTURE_DIR.

Loads the exported directory with AutoModelForCausalLM, compares every tensor with the fixture's (equal bits for a
float32 export; the bfloat16 rounding of them for a bfloat16 one) and, for float32, the loss on the recorded batch.
Exit status 0 and one line when all agree, 1 and the worst tensor otherwise.
"""

import pathlib
import sys

import safetensors.torch
import torch
import transformers


def load(folder):
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype="auto", output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[kind]:
            raise SystemExit(f"{folder}: {kind}: {sorted(report[kind])}")
    return model


def recorded_loss(model, tokens):
    with torch.no_grad():
        logits = model(input_ids=tokens[:, :-1]).logits
    return float(torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), tokens[:, 1:].reshape(-1)))


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    exported, fixture = (pathlib.Path(argument) for argument in sys.argv[1:])
    torch.set_num_threads(1)
    model, wanted = load(exported), load(fixture)
    if type(model) is not type(wanted):
        raise SystemExit(f"{exported} loads as {type(model).__name__}, expected {type(wanted).__name__}")

    ours, theirs = model.state_dict(), wanted.state_dict()
    if ours.keys() != theirs.keys():
        raise SystemExit(f"tensor names differ: {sorted(ours.keys() ^ theirs.keys())}")
    for name, tensor in theirs.items():
        if not torch.equal(ours[name], tensor.to(ours[name].dtype)):
            worst = (ours[name].float() - tensor.float()).abs().max()
            raise SystemExit(f"{name}: differs by up to {worst} (shapes {ours[name].shape}, {tensor.shape})")

    line = f"{exported}: {len(ours)} tensors of {next(iter(ours.values())).dtype} equal"
    if model.dtype == torch.float32:
        oracle = safetensors.torch.load_file(str(fixture / "oracle.safetensors"))
        loss, expected = recorded_loss(model, oracle["tokens"][0].long()), float(oracle["losses"][0])
        if abs(loss - expected) > 1e-6 * expected:
            raise SystemExit(f"loss {loss}, recorded {expected}")
        line += f", loss {loss:.7f} (recorded {expected:.7f})"
    print(line)


if __name__ == "__main__":
    main()
