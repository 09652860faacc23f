#!/usr/bin/env bash
# Audits the CUDA kernels without a GPU: what nvcc made of them, and what they move.   scripts/audit_cuda.sh [--self-test]
# Needs nvcc (PATH, /usr/local/cuda, build/cuda); cuobjdump is fetched into build/cuda where the toolkit lacks it. The
# traffic is counted by build/release/tests/simt/test_simt_checked, where that is built. What is checked: audit_cuda.py.
set -euo pipefail
cd "$(dirname "$0")/.."

# tool NAME: its path, or nothing.
tool() {
  local folder
  command -v "$1" && return
  for folder in /usr/local/cuda/bin build/cuda/bin; do
    [ ! -x "$folder/$1" ] || { echo "$PWD/$folder/$1" | sed "s|^$PWD//|/|"; return; }
  done
}

nvcc=$(tool nvcc)
cuobjdump=$(tool cuobjdump)
if [ -n "$nvcc" ] && [ -z "$cuobjdump" ] && [ "${1:-}" != --self-test ]; then
  scripts/fetch_cuda.sh --tools || true
  cuobjdump=$(tool cuobjdump)
fi
export PATH=$PATH${cuobjdump:+:$(dirname "$cuobjdump")} # where nvdisasm lies, too
exec python3 scripts/audit_cuda.py --nvcc "$nvcc" --cuobjdump "$cuobjdump" "$@"
