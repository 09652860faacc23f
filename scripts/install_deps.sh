#!/usr/bin/env bash
# Installs what Trident needs from the distribution (Debian, Ubuntu), and only what is missing.
#   scripts/install_deps.sh [--test] [--corpus]
#     --test     also what the test run needs (clang-format, python3)
#     --corpus   also the quickstart's text (the King James Bible, public domain)
set -euo pipefail

packages=(g++ cmake ninja-build ccache pkg-config libopenmpi-dev openmpi-bin libyaml-cpp-dev libcli11-dev
  nlohmann-json3-dev libxxhash-dev libdnnl-dev liburing-dev ocl-icd-opencl-dev catch2)
for argument in "$@"; do
  case $argument in
    --test) packages+=(clang-format python3) ;;
    --corpus) packages+=(bible-kjv bible-kjv-text) ;;
    *)
      echo "install_deps.sh: unknown argument $argument (known: --test, --corpus)" >&2
      exit 1
      ;;
  esac
done

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "install_deps.sh: this is not Debian or Ubuntu; install the equivalents of: ${packages[*]}" >&2
  echo "(going on: CMake names whatever is still missing)" >&2
  exit 0
fi

missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$state" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" != 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "install_deps.sh: not root and there is no sudo; ask for: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
echo "installing: ${missing[*]}"
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300)
# An out-of-date package list is the usual reason for a failure, but without a mirror the list at hand may still do.
"${apt[@]}" update >/dev/null || echo "install_deps.sh: apt-get update failed; trying with the lists at hand" >&2
"${apt[@]}" install --no-install-recommends "${missing[@]}" </dev/null >/dev/null
