#!/usr/bin/env bash
# Times trident's AdamW and PyTorch's fused one on this CPU in turn, 100 million parameters each, and prints the median
# rates.   scripts/bench_adamw_vs_pytorch.sh [PAIRS] [TORCH_VERSION]
# PyTorch comes from PyPI into build/torch-venv, some 7 GB with the CUDA libraries that its Linux wheel wants; remove
# the folder when done.
#
# Bytes an element: both read the gradient and read and write master, m and v, all f32: 28. trident also writes the bf16
# copy of the weights that the next step computes with: 30.
set -euo pipefail
cd "$(dirname "$0")/.."

pairs=${1:-5}
version=${2:-2.9.1}
venv=build/torch-venv
trident=build/release/trident
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)}

[ -x $trident ] || { echo "bench_adamw_vs_pytorch.sh: no $trident; run scripts/build.sh release first" >&2; exit 1; }
if ! $venv/bin/python -c 'import torch' 2>/dev/null; then
  python3 -m venv $venv
  $venv/bin/pip install --quiet "torch==$version" numpy
fi

# median NUMBERS...
median() { printf '%s\n' "$@" | sort -g | sed -n "$((($# + 1) / 2))p"; }

ours=() theirs=() streams=()
for pair in $(seq "$pairs"); do
  # "adamw, 100000000 parameters  51.2 ms  58.6 GB/s  97%  of x *= s beside it, 60.1 GB/s"
  line=$($trident bench adamw | grep '^adamw, 100000000 parameters')
  read -r our stream <<<"$(sed -E 's/.* ([0-9.]+) GB\/s .* ([0-9.]+) GB\/s$/\1 \2/' <<<"$line")"
  their=$($venv/bin/python scripts/bench_adamw_pytorch.py)
  echo "pair $pair: trident $our GB/s, PyTorch $their GB/s, x *= s $stream GB/s"
  ours+=("$our") theirs+=("$their") streams+=("$stream")
done
our=$(median "${ours[@]}") their=$(median "${theirs[@]}") stream=$(median "${streams[@]}")
$venv/bin/python - "$our" "$their" "$stream" "$OMP_NUM_THREADS" "$($venv/bin/python -c 'import torch; print(torch.__version__)')" <<'END'
import sys

ours, theirs, stream = map(float, sys.argv[1:4])
print(f"medians on {sys.argv[4]} threads, stream x *= s {stream:.1f} GB/s:")
print(f"  trident, 30 bytes an element          {ours:6.1f} GB/s, {3000 / ours:6.1f} ms, {100 * ours / stream:4.0f}% of the stream")
print(f"  PyTorch {sys.argv[5]:12s} fused, 28 bytes {theirs:6.1f} GB/s, {2800 / theirs:6.1f} ms, {100 * theirs / stream:4.0f}% of the stream")
print(f"  trident's rate is {ours / theirs:.2f} times PyTorch's, its update takes {30 / ours * theirs / 28:.2f} times as long")
END
