#!/bin/bash
# A collective that never ends must end the job: exit code 2 and exactly one line that names who is missing, the
# collective, the step and the layer. Usage: timeout_check.sh MPIEXEC TEST_COMM
set -u
mpiexec=$1
program=$2
failures=0

# check NAME RANKS PATTERN...: the one line must match every pattern (extended regular expressions).
check() {
  local name=$1 ranks=$2 errors code lines
  shift 2
  errors=$(mktemp)
  timeout -k 5 120 "$mpiexec" -n "$ranks" "$program" "$name" >/dev/null 2>"$errors"
  code=$?
  lines=$(grep -c '^trident: ' "$errors")
  if [ "$code" -ne 2 ]; then
    echo "FAILED $name: exit code $code, expected 2"
    failures=$((failures + 1))
  fi
  if [ "$lines" -ne 1 ]; then
    echo "FAILED $name: $lines lines, expected 1"
    failures=$((failures + 1))
  fi
  for pattern in "$@"; do
    if ! grep '^trident: ' "$errors" | grep -Eq "$pattern"; then
      echo "FAILED $name: nothing matches: $pattern"
      failures=$((failures + 1))
    fi
  done
  if [ "$failures" -ne 0 ]; then sed 's/^/    /' "$errors"; else grep '^trident: ' "$errors"; fi
  rm -f "$errors"
}

place='at step 7, forward of block 3, micro-batch 0; missing: '
check 'stall: rank 2 computes for ever' 4 \
  "^trident: rank [013] \(.+\): all_reduce #3 on tensor waited 2\.0 s \(comm\.timeout\) $place" \
  'missing: rank 2 \(.+\): step 7, forward of block 2, micro-batch 0, computing$'
check 'stall: rank 2 computes for ever, over messages' 4 \
  "^trident: rank [013] \(.+\): all_reduce #3 on tensor waited 2\.0 s \(comm\.timeout\) $place" \
  'missing: rank 2 \(.+\): step 7, forward of block 2, micro-batch 0, computing$'
check 'stall: rank 1 is stopped' 3 "all_reduce #3 on tensor waited 2\.0 s \(comm\.timeout\) $place" \
  'missing: rank 1 \(.+\): not answering \(stopped or dead\)$'
check 'stall: rank 0 is stopped' 3 "all_reduce #3 on tensor waited 2\.0 s \(comm\.timeout\) $place" \
  'missing: rank 0 \(.+\): not answering \(stopped or dead\)$'
check 'stall: nobody sends to rank 0' 2 \
  '^trident: rank 0 \(.+\): recv #1 on pipeline waited 2\.0 s \(comm\.timeout\) at step 4, backward of block 2, micro-batch 5' \
  'missing: rank 1 \(.+\): step 4, backward of block 2, micro-batch 5, computing$'
check 'stall: rank 1 aborts' 2 '^trident: rank 1 \(.+\): the disk is full$'

# A rank that dies takes the job with it, whatever the others wait for.
timeout -k 5 60 "$mpiexec" -n 3 "$program" 'stall: rank 1 is killed' >/dev/null 2>&1
code=$?
if [ "$code" -eq 0 ] || [ "$code" -eq 124 ]; then
  echo "FAILED stall: rank 1 is killed: exit code $code"
  failures=$((failures + 1))
fi
exit $((failures > 0))
