#!/usr/bin/env bash
# Builds Trident.   scripts/build.sh [release|debug|asan|tsan] [--target T]... [--cuda] [--werror] [--into NAME] [-D...]
# The binary is build/release/trident (or debug, ...; build/NAME with --into). Without --target everything is built. --cuda
# builds the CUDA device in, also where no GPU is visible; without it that is done where nvcc and a GPU are there. Uses
# Ninja and ccache when they are there.
set -euo pipefail
cd "$(dirname "$0")/.."

preset=release
into=
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
    --cuda) configure+=(-DTRIDENT_CUDA=ON) ;;
    --into)
      [ $# -gt 1 ] || { echo "build.sh: --into needs a name" >&2; exit 1; }
      into=$2
      shift
      ;;
    -D*) configure+=("$1") ;;
    *)
      echo "build.sh: unknown argument $1; usage: scripts/build.sh [release|debug|asan|tsan] [--target T] [--cuda] [--werror] [--into NAME] [-D...]" >&2
      exit 1
      ;;
  esac
  shift
done

build=build/${into:-$preset}
# A build folder keeps the generator it was made with.
if [ ! -e "$build/CMakeCache.txt" ] && command -v ninja >/dev/null; then
  configure+=(-G Ninja)
fi
if command -v ccache >/dev/null; then
  configure+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  # Clones in different folders share what they compile.
  export CCACHE_BASEDIR="$PWD" CCACHE_NOHASHDIR=1
fi
mkdir -p build
if ! cmake --preset "$preset" -B "$build" "${configure[@]}" >"$build.configure.log" 2>&1; then
  cat "$build.configure.log" >&2
  exit 1
fi
exec cmake --build "$build" --parallel "${TRIDENT_JOBS:-$(nproc)}" "${targets[@]}"
