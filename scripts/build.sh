#!/usr/bin/env bash
# Builds Trident.   scripts/build.sh [release|debug|asan|tsan] [--target T]... [--werror] [-D...]
# The binary is build/NAME/trident. Without --target everything is built. Uses Ninja and ccache when they are there.
set -euo pipefail
cd "$(dirname "$0")/.."

preset=release
configure=()
targets=()
while [ $# -gt 0 ]; do
  case $1 in
    release | debug | asan | tsan) preset=$1 ;;
    --target)
      [ $# -gt 1 ] || { echo "build.sh: --target needs a name" >&2; exit 1; }
      targets+=(--target "$2")
      shift
      ;;
    --werror) configure+=(-DTRIDENT_WERROR=ON) ;;
    -D*) configure+=("$1") ;;
    *)
      echo "build.sh: unknown argument $1; usage: scripts/build.sh [release|debug|asan|tsan] [--target T] [--werror] [-D...]" >&2
      exit 1
      ;;
  esac
  shift
done

# A build folder keeps the generator it was made with.
if [ ! -e "build/$preset/CMakeCache.txt" ] && command -v ninja >/dev/null; then
  configure+=(-G Ninja)
fi
if command -v ccache >/dev/null; then
  configure+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  # Clones in different folders share what they compile.
  export CCACHE_BASEDIR="$PWD" CCACHE_NOHASHDIR=1
fi
mkdir -p build
if ! cmake --preset "$preset" "${configure[@]}" >"build/$preset.configure.log" 2>&1; then
  cat "build/$preset.configure.log" >&2
  exit 1
fi
exec cmake --build "build/$preset" --parallel "${TRIDENT_JOBS:-$(nproc)}" "${targets[@]}"
