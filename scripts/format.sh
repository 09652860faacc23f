#!/usr/bin/env bash
# Formats every C++ file in the repository by .clang-format.   scripts/format.sh [--check]
# With --check nothing is changed; files that would be are listed and the exit code is 1.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v clang-format >/dev/null || { echo "format.sh: clang-format is missing: scripts/install_deps.sh --test" >&2; exit 1; }
mapfile -t files < <(find apps core kernels tests -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' | sort)
case ${1:-} in
  "") clang-format -i "${files[@]}" ;;
  --check)
    bad=0
    for file in "${files[@]}"; do
      clang-format --dry-run --Werror "$file" >/dev/null 2>&1 || { echo "not formatted: $file (scripts/format.sh)"; bad=1; }
    done
    exit $bad
    ;;
  *)
    echo "format.sh: unknown argument $1 (known: --check)" >&2
    exit 1
    ;;
esac
