#!/usr/bin/env python3
"""Records what HuggingFace transformers computes for two tiny models: the oracle of the parity tests.

For each of gpt2 and llama it writes, below tests/oracle/fixtures/<arch>/:

  config.json, model.safetensors   the initial model as save_pretrained writes it (float32)
  oracle.safetensors
    tokens           i32 [steps, batch, context + 1]   one batch per step; inputs are [:-1], labels are [1:]; a sequence
                                                       begins with the last token of the one before, so that each batch
                                                       is a stream of batch * context + 1 tokens cut as Trident cuts data
    logits           f32 [positions, vocab]            step 0, before the first update, at
    logits_at        i32 [positions, 2]                these (sequence, position) pairs
    losses           f32 [steps]                       mean over the batch's tokens, before that step's update
    grad_norms       f32 [steps]                       global norm before clipping
    grad.<HF name>   f32 [shape of the parameter]      step 0, of the mean loss, before clipping
  recipe.json        hyper-parameters of the recording and the versions of the libraries

Everything is float32, eager attention, dropout 0, one thread. See README.md for how to run it.
"""

import argparse
import json
import pathlib
import platform

import safetensors
import safetensors.torch
import torch
import transformers

VOCAB, CONTEXT, BATCH, STEPS = 193, 32, 4, 10
ADAMW = {"lr": 1e-3, "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.1, "clip_norm": 1.0}
SEED = 20200910
LOGITS_AT = [(0, 0), (0, 31), (1, 7), (2, 16), (3, 30)]


def make_gpt2():
    # The position table is longer than the context in use: a reader that takes one for the other fails.
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(
        vocab_size=VOCAB, n_positions=40, n_embd=48, n_layer=3, n_head=4, resid_pdrop=0.0, embd_pdrop=0.0,
        attn_pdrop=0.0, bos_token_id=0, eos_token_id=0, attn_implementation="eager"))


def make_llama():
    # pad_token_id must stay None: transformers gives a padding token's embedding row no gradient.
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=VOCAB, max_position_embeddings=CONTEXT, hidden_size=48, num_hidden_layers=3, num_attention_heads=6,
        num_key_value_heads=2, intermediate_size=80, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=False,
        pad_token_id=None, bos_token_id=0, eos_token_id=0, attn_implementation="eager"))


def randomize(model, generator):
    """Fresh values for every parameter: biases that are not 0 and norm weights that are not 1, so that a mix-up shows."""
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            is_norm_weight = parameter.dim() == 1 and name.endswith("weight")
            parameter.copy_(1.0 + 0.2 * noise if is_norm_weight else 0.1 * noise)


def mean_loss(model, batch):
    logits = model(input_ids=batch[:, :-1]).logits
    loss = torch.nn.functional.cross_entropy(logits.reshape(-1, VOCAB), batch[:, 1:].reshape(-1))
    return loss, logits


def make_optimizer(model):
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    plain = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": ADAMW["weight_decay"]}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=ADAMW["lr"], betas=tuple(ADAMW["betas"]), eps=ADAMW["eps"], foreach=False)


def record(arch, model, seed, folder):
    generator = torch.Generator().manual_seed(seed)
    randomize(model, generator)
    model.train()
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)

    streams = torch.randint(0, VOCAB, (STEPS, BATCH * CONTEXT + 1), generator=generator)
    tokens = streams.unfold(1, CONTEXT + 1, CONTEXT).contiguous()
    oracle = {"tokens": tokens.to(torch.int32), "logits_at": torch.tensor(LOGITS_AT, dtype=torch.int32)}
    optimizer, losses, norms = make_optimizer(model), [], []
    for step in range(STEPS):
        optimizer.zero_grad(set_to_none=True)
        loss, logits = mean_loss(model, tokens[step])
        loss.backward()
        if step == 0:
            oracle["logits"] = torch.stack([logits[s, t] for s, t in LOGITS_AT]).detach().clone()
            for name, parameter in model.named_parameters():
                oracle["grad." + name] = parameter.grad.detach().clone().contiguous()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), ADAMW["clip_norm"], foreach=False))
        losses.append(loss.detach())
        optimizer.step()
    oracle["losses"], oracle["grad_norms"] = torch.stack(losses), torch.stack(norms)
    safetensors.torch.save_file(oracle, str(folder / "oracle.safetensors"), metadata={"format": "pt"})

    recipe = {"arch": arch, "seed": seed, "context": CONTEXT, "batch": BATCH, "steps": STEPS, "adamw": ADAMW,
              "versions": {"python": platform.python_version(), "torch": torch.__version__,
                           "transformers": transformers.__version__, "safetensors": safetensors.__version__}}
    (folder / "recipe.json").write_text(json.dumps(recipe, indent=2) + "\n")
    print(arch, "losses", [round(float(x), 5) for x in losses], "norms", [round(float(x), 4) for x in norms])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "fixtures")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for index, (arch, make) in enumerate([("gpt2", make_gpt2), ("llama", make_llama)]):
        folder = out / arch
        folder.mkdir(parents=True, exist_ok=True)
        record(arch, make(), SEED + index, folder)


if __name__ == "__main__":
    main()
