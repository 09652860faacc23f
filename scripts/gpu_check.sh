#!/usr/bin/env bash
# The first minute on a GPU: builds with nvcc, then shows that what was proven under emulation holds on the real thing.
#   scripts/gpu_check.sh [REPORT]         writes everything into REPORT (default build/gpu_report.txt)
# Every step runs even when one before it failed; the last line says how many passed, and the exit code is 1 unless all did.
set -uo pipefail
cd "$(dirname "$0")/.."

report=${1:-build/gpu_report.txt}
mkdir -p build "$(dirname "$report")"
: >"$report"
say() { printf '%s\n' "$*" | tee -a "$report"; }

passed=0
failed=0
# step NAME COMMAND...: output goes to the report, the verdict to the screen as well.
step() {
  local name=$1 start=$SECONDS
  shift
  printf '\n=== %s: %s\n' "$name" "$*" >>"$report"
  if "$@" >>"$report" 2>&1; then
    passed=$((passed + 1))
    say "$(printf '%-52s passed  %4d s' "$name" $((SECONDS - start)))"
  else
    failed=$((failed + 1))
    say "$(printf '%-52s FAILED  %4d s' "$name" $((SECONDS - start)))"
  fi
}

say "commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown), $(date -u +%FT%TZ)"
if command -v nvidia-smi >/dev/null; then
  nvidia-smi >>"$report" 2>&1
  say "$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader | sort | uniq -c)"
else
  say "nvidia-smi is not there: is this a machine with a GPU?"
fi

scripts/install_deps.sh --test --corpus >>"$report" 2>&1 || say "install_deps.sh failed: see $report"
[ -e data/kjv.idx ] || step "quickstart's text" bash -c 'mkdir -p data && bible -f gen1:1-rev22:21 >data/kjv.txt &&
  scripts/build.sh release --target trident && build/release/trident data prepare data/kjv.txt --out data/kjv'
step "build with nvcc" scripts/build.sh release --cuda
build=build/release
# shellcheck source=scripts/env.sh
source scripts/env.sh
gpus=$(nvidia-smi --list-gpus 2>/dev/null | grep -c '^GPU') || gpus=1
[ "$gpus" -ge 1 ] || gpus=1

step "doctor" $build/trident doctor
step "every case of the op list against the reference" $build/tests/test_cuda
step "trainings on one GPU against the CPU device" python3 tests/apps/simt_check.py mpirun $build/trident $build/trident \
  --device cuda --grids alone
for grid in 2x1x1 1x2x1 1x1x2 1x1x2-zero3 2x2x2; do
  sizes=${grid%%-*}
  needed=$((${sizes//x/*}))
  [ "$gpus" -lt "$needed" ] || step "trainings on $needed GPUs, $grid" python3 tests/apps/simt_check.py mpirun \
    $build/trident $build/trident --device cuda --grids "$grid"
done
step "bench: GEMM peak, bandwidth, every operation on the shapes of GPT-2 124M" $build/trident bench --device cuda ops
step "speed of a small model in bf16 (tokens/s and MFU in the log)" $build/trident train configs/tiny_gpt2.yaml \
  --set device=cuda --set model.layers=12 --set model.hidden=768 --set model.heads=12 --set model.context=1024 \
  --set train.precision=bf16 --set train.micro_batch=8 --set train.steps=20 --set out="build/gpu_check_$$"
say ""
say "report: $report"
say "$passed passed, $failed failed"
[ $failed = 0 ]
