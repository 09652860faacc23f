#!/usr/bin/env bash
# From nothing to a trained model: installs what is missing, builds, prepares the King James Bible (public domain) as
# bytes, trains on 8 ranks (2 pipeline stages x 2 tensor x 2 data) and writes three samples.
#   scripts/quickstart.sh [--set key=value]...      more overrides for the training
# Runs again without harm: what is done already is kept, and the training goes on from its newest checkpoint.
set -euo pipefail
cd "$(dirname "$0")/.."

config=configs/quickstart.yaml
ranks=8
trident=build/release/trident
run=runs/quickstart

scripts/install_deps.sh --corpus
echo "building $trident (the first time takes some minutes)"
scripts/build.sh release --target trident
# shellcheck source=scripts/env.sh
source scripts/env.sh "$ranks"

if [ ! -e data/kjv.idx ] || [ ! -e data/kjv-valid.idx ]; then
  # `bible` prints "Gen1:1 In the beginning ..."; the reference before each verse is cut off. The last 2 % of the text
  # (from 2 Peter 3 on) is for validation.
  mkdir -p data
  bible -f gen1:1-rev22:21 | sed -E 's/^[1-3]?[A-Za-z]+[0-9]+:[0-9]+ //' >data/kjv.txt
  "$trident" data prepare data/kjv.txt --out data/kjv --valid-fraction 0.02 --overwrite
fi

mpirun -n "$ranks" "$trident" train "$config" "$@"

echo
echo "three samples:"
mpirun -n "$ranks" "$trident" generate "$config" "$@" --prompt "In the beginning " --samples 3 --max-tokens 200 \
  --temperature 0.8 --seed 7
cat <<END

checkpoints   $run/checkpoints/ (newest: $(ls "$run/checkpoints" | grep '^step-' | sort | tail -n 1))
log           $run/log.txt, one JSON object a step in $run/metrics.jsonl
loss picture  $run/loss.svg
again         source scripts/env.sh $ranks; mpirun -n $ranks $trident train $config
END
