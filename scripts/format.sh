#!/usr/bin/env bash
# Formats every C++ file in the repository by .clang-format.   scripts/format.sh [--check]
# With --check nothing is changed; files that would be are listed and the exit code is 1. Exit code 77: cannot tell here.
set -euo pipefail
cd "$(dirname "$0")/.."

# Every release of clang-format breaks some lines differently: one decides, Debian 12's.
version=14
formatter=clang-format-$version
command -v "$formatter" >/dev/null || formatter=clang-format
command -v "$formatter" >/dev/null || { echo "format.sh: clang-format is missing: scripts/install_deps.sh --test" >&2; exit 1; }
if ! "$formatter" --version | grep -q "version $version\."; then
  echo "format.sh: clang-format $version decides, here is only $("$formatter" --version)" >&2
  exit 77
fi
mapfile -t files < <(find apps core kernels tests -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' | sort)
case ${1:-} in
  "") "$formatter" -i "${files[@]}" ;;
  --check)
    # "FILE:LINE:COLUMN: error: ..." for every place.
    "$formatter" --dry-run --Werror "${files[@]}" 2>&1 |
      { ! sed -nE 's/^([^: ]+):[0-9]+:.*/not formatted: \1 (scripts\/format.sh)/p' | sort -u | grep .; }
    ;;
  *)
    echo "format.sh: unknown argument $1 (known: --check)" >&2
    exit 1
    ;;
esac
