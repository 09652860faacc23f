#!/usr/bin/env bash
# Holds trident's speed and memory on this CPU against PyTorch's: both train the same models, in turn, pair by pair.
#   scripts/bench_vs_pytorch.sh [--pairs 5] [--case NAME]... [--json build/bench_vs_pytorch.json]
# Prints a Markdown table. PyTorch (and DeepSpeed) come from PyPI into build/torch-venv, some 7 GB with the CUDA
# libraries that the Linux wheel wants; remove the folder when done. On a shared machine run it at real-time priority:
#   sudo chrt -f 10 scripts/bench_vs_pytorch.sh
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/env.sh

venv=${TORCH_VENV:-build/torch-venv}
[ -x build/release/trident ] || { echo "bench_vs_pytorch.sh: no build/release/trident; run scripts/build.sh release first" >&2; exit 1; }
if ! "$venv/bin/python" -c 'import torch' 2>/dev/null; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet "torch==${TORCH_VERSION:-2.15.0}" numpy setuptools ninja
  DS_BUILD_OPS=0 "$venv/bin/pip" install --quiet "deepspeed==${DEEPSPEED_VERSION:-0.19.8}" ||
    echo "bench_vs_pytorch.sh: DeepSpeed does not install here; its cases will say so" >&2
fi
exec "$venv/bin/python" scripts/bench_vs_pytorch.py "$@"
