#!/usr/bin/env bash
# Installs what is missing, builds with warnings as errors and runs every test.   scripts/test.sh [--quick]
#   --quick   unit tests and up to two MPI ranks only, no sanitizers and not the three slowest families of the checked
#             emulation: under three minutes after a first build
# Steps go on after a failure; the last line is "N passed, N failed" and the exit code is 1 when anything failed.
set -uo pipefail
cd "$(dirname "$0")/.."

quick=no
case ${1:-} in
  "") ;;
  --quick) quick=yes ;;
  *)
    echo "test.sh: unknown argument $1 (known: --quick)" >&2
    exit 1
    ;;
esac

scripts/install_deps.sh --test --corpus || exit 1
# shellcheck source=scripts/env.sh
source scripts/env.sh

passed=0
failed=0
failures=()

# step NAME COMMAND...: one check; its output is shown when it fails. Exit code 77: it cannot be made on this system.
step() {
  local name=$1 start=$SECONDS output code=0
  shift
  output=$("$@" 2>&1) || code=$?
  if [ $code = 0 ]; then
    passed=$((passed + 1))
    printf '%-44s passed  %4d s\n' "$name" $((SECONDS - start))
    return 0
  elif [ $code = 77 ]; then
    printf '%-44s skipped: %s\n' "$name" "$(tail -n 1 <<<"$output")"
    return 0
  fi
  failed=$((failed + 1))
  failures+=("$name")
  printf '%-44s FAILED  %4d s\n%s\n' "$name" $((SECONDS - start)) "$(tail -n 60 <<<"$output")"
  return 1
}

# tests NAME BUILD CTEST-ARGUMENT...: runs ctest and adds up the cases.
tests() {
  local name=$1 build=$2 start=$SECONDS log=$2/Testing/Temporary/LastTest.log counts
  shift 2
  rm -f "$log"
  ctest --test-dir "$build" --output-on-failure --parallel "$(nproc)" "$@" >"$build/ctest.txt" 2>&1
  local code=$?
  counts=$(python3 scripts/count_tests.py "$log") || counts="0 1"
  local ok=${counts% *} bad=${counts#* }
  # ctest may fail without a failing case: a program that could not be started, or no test at all.
  [ "$code" = 0 ] || [ "$bad" -gt 0 ] || bad=1
  passed=$((passed + ok))
  failed=$((failed + bad))
  printf '%-44s %d passed, %d failed  %d s\n' "$name" "$ok" "$bad" $((SECONDS - start))
  if [ "$bad" -gt 0 ]; then
    failures+=("$name")
    cat "$build/ctest.txt"
  fi
}

step "layer check, self-test" python3 scripts/check_layers.py --self-test
step "layers and third parties" python3 scripts/check_layers.py
step "size check, self-test" python3 scripts/check_size.py --self-test
step "sizes of files and functions" python3 scripts/check_size.py
step "format" scripts/format.sh --check
step "CUDA audit, self-test" scripts/audit_cuda.sh --self-test

# CUDA's headers are enough for the emulated device, nvcc for the audit and for linking the real one. Where there is no
# toolkit its parts are fetched; what then still cannot run is said at the end.
not_run=()
has_nvcc() { [ -n "$(command -v nvcc || true)" ] || [ -x /usr/local/cuda/bin/nvcc ] || [ -x build/cuda/bin/nvcc ]; }
if [ $quick = no ] && ! has_nvcc; then
  scripts/fetch_cuda.sh || not_run+=("without a CUDA toolkit: the emulated CUDA device, the CUDA audit and the CUDA build")
fi

# The frontend of cuDNN is in no toolkit.
fetch_frontend() {
  [ -e build/cuda/include/cudnn_frontend.h ] || [ -e /usr/local/cuda/include/cudnn_frontend.h ] ||
    scripts/fetch_cuda.sh --frontend
}
if [ $quick = no ] && has_nvcc && ! fetch_frontend; then
  not_run+=("without cuDNN's frontend: attention by cuDNN in the CUDA build")
fi

# links_cuda: the binary with the real libraries, which without a driver must say what is missing and end with 1.
links_cuda() {
  scripts/build.sh release --cuda --werror --into release-cuda --target trident -DTRIDENT_TESTS=OFF \
    -DCMAKE_CUDA_ARCHITECTURES=80-real || return 1 # the audit compiles for the others
  [ ! -e /proc/driver/nvidia/version ] || return 0
  local said code=0
  said=$(build/release-cuda/trident train configs/tiny_gpt2.yaml --set device=cuda 2>&1) || code=$?
  echo "exit code $code: $said"
  [ $code = 1 ] && grep -q "device: cuda finds no GPU.*NVIDIA driver: not found" <<<"$said"
}

if step "build release, warnings are errors" scripts/build.sh release --werror; then
  step "generated parts of the README" python3 scripts/readme.py --check
  if [ $quick = yes ]; then
    tests "tests, quick" build/release --exclude-regex \
      '^(run|comm_timeout|apps_|simt_checked_(attention|gemm|norm))|_([3-9]|[1-9][0-9]+)_ranks$'
  else
    tests "tests" build/release
    if has_nvcc; then
      step "CUDA audit: registers, spills, opcodes, traffic" scripts/audit_cuda.sh
      step "CUDA build, linked and started without a GPU" links_cuda
    fi
  fi
fi

# The readers of files that others made are fuzzed under the sanitizers, with the unit tests of their layers. No --werror
# here: instrumented, GCC 12 warns of uninitialised members inside the standard library.
if [ $quick = no ]; then
  # Of the CPU's kernels the widest vectors and the narrowest.
  sanitized=(base config data kernels cpu_avx2 cpu_amx device checkpoint)
  targets=()
  for program in "${sanitized[@]}"; do targets+=(--target "test_$program"); done
  if step "build asan" scripts/build.sh asan "${targets[@]}"; then
    export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
    export LSAN_OPTIONS=suppressions=$PWD/tests/support/lsan.supp
    tests "fuzz and unit tests under ASan and UBSan" build/asan --tests-regex "^($(IFS='|'; echo "${sanitized[*]}"))\$"
  fi
fi

[ ${#failures[@]} = 0 ] || printf 'failed: %s\n' "${failures[@]}"
[ ${#not_run[@]} = 0 ] || printf 'NOT RUN: %s\n' "${not_run[@]}"
echo "total $((SECONDS / 60)) min $((SECONDS % 60)) s"
echo "$passed passed, $failed failed"
[ $failed = 0 ]
