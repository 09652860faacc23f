#!/usr/bin/env bash
# Does training reach the loss it has to? configs/bytes.yaml on one rank, in bf16 and in fp32; the validation loss of
# either must be at most 1.46 nats a byte (PyTorch in fp32 reached 1.451). Exit code 1 when one is not.
#   scripts/bench_bytes.sh [--set key=value]...      more overrides for both
set -euo pipefail
cd "$(dirname "$0")/.."

most=1.46
trident=build/release/trident

scripts/install_deps.sh --corpus
scripts/build.sh release --target trident
# shellcheck source=scripts/env.sh
source scripts/env.sh 1

if [ ! -e data/nt.idx ] || [ ! -e data/nt-valid.idx ]; then
  # As in quickstart.sh: without the reference before each verse.
  mkdir -p data
  bible -f mat1:1-rev22:21 | sed -E 's/^[1-3]?[A-Za-z]+[0-9]+:[0-9]+ //' >data/nt.txt
  "$trident" data prepare data/nt.txt --out data/nt --valid-fraction 0.1 --overwrite
fi

code=0
for precision in bf16 fp32; do
  out=runs/bytes-$precision
  rm -rf "$out"
  mpirun -n 1 "$trident" train configs/bytes.yaml --resume none --set "train.precision=$precision" --set "out=$out" "$@"
  loss=$(sed -nE 's/.*"valid_loss": *([0-9.]+).*/\1/p' "$out/metrics.jsonl" | tail -n 1)
  if awk -v loss="$loss" -v most="$most" 'BEGIN { exit !(loss != "" && loss <= most) }'; then verdict=passed; else verdict=FAILED code=1; fi
  results+=("$(printf '%s  %.4f nats/byte, at most %s  %s' "$precision" "$loss" "$most" "$verdict")")
done
printf '%s\n' "validation loss after the last step" "${results[@]}"
exit $code
