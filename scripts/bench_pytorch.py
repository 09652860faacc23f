"""The PyTorch side of bench_vs_pytorch.sh. Started once a case, it makes everything ready, and then runs as often as it
is told: every line of standard input is a count of steps, every answer a line of JSON,
{"seconds": [of each step], "peak_mib": VmHWM}.

    bench_pytorch.py train --arch gpt2 ...     GPT-2 or Llama; on several processes (RANK, WORLD_SIZE) with --parallel
    bench_pytorch.py attention --context N     forward and backward in turn: "forward" and "backward" for "seconds"
    bench_pytorch.py adamw --parameters N      the fused update alone
"""
import argparse
import json
import os
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn


class RMSNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, 1e-5)


def rotate(x, cos, sin):
    """Pairs (i, i + half), as Llama's weights want it."""
    left, right = x.chunk(2, -1)
    return x * cos + torch.cat((-right, left), -1) * sin


class Attention(nn.Module):
    def __init__(self, m):
        super().__init__()
        self.heads, self.kv_heads, self.width = m.heads, m.kv_heads, m.hidden // m.heads
        self.qkv = nn.Linear(m.hidden, (m.heads + 2 * m.kv_heads) * self.width, bias=m.arch == "gpt2")
        self.out = nn.Linear(m.hidden, m.hidden, bias=m.arch == "gpt2")

    def forward(self, x, rotation):
        batch, context, hidden = x.shape
        q, k, v = self.qkv(x).split([n * self.width for n in (self.heads, self.kv_heads, self.kv_heads)], -1)
        q, k, v = (t.view(batch, context, -1, self.width).transpose(1, 2) for t in (q, k, v))
        if rotation is not None:
            q, k = rotate(q, *rotation), rotate(k, *rotation)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.kv_heads != self.heads)
        return self.out(y.transpose(1, 2).reshape(batch, context, hidden))


class Layer(nn.Module):
    def __init__(self, m):
        super().__init__()
        norm = nn.LayerNorm if m.arch == "gpt2" else RMSNorm
        self.gated, self.ffn = m.arch == "llama", m.ffn
        self.norm1, self.attention, self.norm2 = norm(m.hidden), Attention(m), norm(m.hidden)
        self.up = nn.Linear(m.hidden, m.ffn * (2 if self.gated else 1), bias=not self.gated)
        self.down = nn.Linear(m.ffn, m.hidden, bias=not self.gated)

    def forward(self, x, rotation):
        x = x + self.attention(self.norm1(x), rotation)
        h = self.up(self.norm2(x))
        if self.gated:
            gate, up = h.split(self.ffn, -1)
            h = F.silu(gate) * up
        else:
            h = F.gelu(h, approximate="tanh")
        return x + self.down(h)


class Model(nn.Module):
    def __init__(self, m):
        super().__init__()
        self.table = nn.Embedding(m.vocab, m.hidden)
        self.position = nn.Embedding(m.context, m.hidden) if m.arch == "gpt2" else None
        self.layers = nn.ModuleList(Layer(m) for _ in range(m.layers))
        self.norm = nn.LayerNorm(m.hidden) if m.arch == "gpt2" else RMSNorm(m.hidden)
        self.head = nn.Linear(m.hidden, m.vocab, bias=False)
        if m.arch == "gpt2":
            self.head.weight = self.table.weight
        half = m.hidden // m.heads // 2
        angle = torch.outer(torch.arange(m.context), 10000.0 ** (-torch.arange(half) / half)).repeat(1, 2)
        dtype = torch.bfloat16 if m.precision == "bf16" else torch.float32
        self.register_buffer("cos", angle.cos().to(dtype))
        self.register_buffer("sin", angle.sin().to(dtype))
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.02)

    def forward(self, tokens, targets):
        x = self.table(tokens)
        if self.position is not None:
            x = x + self.position(torch.arange(tokens.shape[1]))
        for layer in self.layers:
            x = layer(x, None if self.position is not None else (self.cos, self.sin))
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))


def groups(model):
    """No decay on biases and norms."""
    return [{"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": 0.1},
            {"params": [p for p in model.parameters() if p.dim() <= 1], "weight_decay": 0.0}]


def shard(model, precision):
    """FSDP2: gradients and optimizer state sharded, weights kept after forward, as ZeRO-2 does."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16 if precision == "bf16" else None)
    for layer in model.layers:
        fully_shard(layer, mp_policy=policy, reshard_after_forward=False)
    fully_shard(model, mp_policy=policy, reshard_after_forward=False)


def batches(m, ranks):
    while True:
        tokens = torch.randint(m.vocab, (m.batch // ranks, m.context + 1))
        yield tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def deepspeed_step(m):
    import deepspeed
    deepspeed.init_distributed("gloo")
    config = {"train_batch_size": m.batch, "gradient_clipping": 1.0, "bf16": {"enabled": m.precision == "bf16"},
              "zero_optimization": {"stage": 2}, "steps_per_print": 1 << 30, "zero_allow_untested_optimizer": True}
    model = Model(m)
    optimizer = torch.optim.AdamW(groups(model), lr=1e-4, betas=(0.9, 0.95), fused=True)
    engine = deepspeed.initialize(model=model, optimizer=optimizer, config=config)[0]
    data = batches(m, torch.distributed.get_world_size())

    def step():
        loss = engine(*next(data))
        engine.backward(loss)
        engine.step()
        loss.item()

    return step


def train_step(m):
    torch.manual_seed(1)
    if m.parallel == "deepspeed":
        return deepspeed_step(m)
    model, ranks = Model(m), 1
    if m.parallel == "fsdp2":
        torch.distributed.init_process_group("gloo")
        ranks = torch.distributed.get_world_size()
        shard(model, m.precision)
    optimizer = torch.optim.AdamW(groups(model), lr=1e-4, betas=(0.9, 0.95), fused=True)
    forward = torch.compile(model) if m.compile else model
    data = batches(m, ranks)

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=m.precision == "bf16" and ranks == 1):
            loss = forward(*next(data))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()

    return step


def adamw_step(a):
    parameter = nn.Parameter(torch.rand(a.parameters) - 0.5)
    parameter.grad = torch.rand(a.parameters) - 0.5
    return torch.optim.AdamW([parameter], lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True).step


def attention_steps(a):
    dtype = torch.bfloat16 if a.precision == "bf16" else torch.float32
    q, k, v = (torch.randn(a.tokens // a.context, 12, a.context, 64, dtype=dtype, requires_grad=True) for _ in range(3))
    dy, kept = torch.randn_like(q), []

    def forward():
        kept[:] = [F.scaled_dot_product_attention(q, k, v, is_causal=True)]

    def backward():
        torch.autograd.grad(kept[0], (q, k, v), dy)

    return {"forward": forward, "backward": backward}


def peak_mib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM:"))


def serve(parts, answers):
    """`parts`: what a step consists of, each timed by itself."""
    for line in sys.stdin:
        seconds = {name: [] for name in parts}
        for _ in range(int(line)):
            for name, part in parts.items():
                start = time.perf_counter()
                part()
                seconds[name].append(time.perf_counter() - start)
        print(json.dumps({**seconds, "peak_mib": peak_mib()}), file=answers, flush=True)


def arguments():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train")
    train.add_argument("--arch", choices=["gpt2", "llama"], required=True)
    for name in ("layers", "hidden", "heads", "kv-heads", "ffn", "vocab", "context", "batch"):
        train.add_argument(f"--{name}", type=int, required=True)
    train.add_argument("--compile", action="store_true")
    train.add_argument("--parallel", choices=["none", "fsdp2", "deepspeed"], default="none")
    attention = commands.add_parser("attention")
    attention.add_argument("--context", type=int, required=True)
    attention.add_argument("--tokens", type=int, required=True)
    commands.add_parser("adamw").add_argument("--parameters", type=int, required=True)
    for command in (train, attention):
        command.add_argument("--precision", choices=["bf16", "fp32"], required=True)
    return parser.parse_args()


def main():
    chosen = arguments()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries that print do not answer
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count())))
    if chosen.command == "attention":
        serve(attention_steps(chosen), answers)
    else:
        serve({"seconds": (train_step if chosen.command == "train" else adamw_step)(chosen)}, answers)


if __name__ == "__main__":
    main()
