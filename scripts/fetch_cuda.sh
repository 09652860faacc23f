#!/usr/bin/env bash
# Fetches the parts of the CUDA toolkit that building and testing without a GPU need, from NVIDIA's packages on PyPI, into
# build/cuda: headers (cudart, cuBLASLt, NCCL, cuDNN and its frontend), nvcc, and the disassembler.
#   scripts/fetch_cuda.sh [--tools | --frontend]
#     --tools     only cuobjdump and nvdisasm, for machines whose toolkit lacks them
#     --frontend  only cuDNN's frontend, which no toolkit has
# Nothing is installed outside the repository; a second call does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

root=build/cuda
# The versions that the audit's verdicts (registers, spills) were made with; the disassemblers begin with 13.2.
tools=(nvidia-cuda-cuobjdump==13.2.51 nvidia-cuda-nvdisasm==13.2.51)
packages=(nvidia-cuda-runtime==13.0.96 nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88
  nvidia-cuda-cccl==13.0.85 nvidia-cublas==13.1.0.3 nvidia-nccl-cu13==2.28.9 nvidia-cudnn-cu13==9.19.0.56
  nvidia-cudnn-frontend==1.32.0 nvidia-nvtx==13.0.85 nvidia-cuda-nvrtc==13.0.88)
case ${1:-} in
  "") wanted=("${packages[@]}" "${tools[@]}") mark=$root/.all ;;
  --tools) wanted=("${tools[@]}") mark=$root/.tools ;;
  --frontend) wanted=(nvidia-cudnn-frontend==1.32.0) mark=$root/.frontend ;;
  *)
    echo "fetch_cuda.sh: unknown argument $1 (known: --tools, --frontend)" >&2
    exit 1
    ;;
esac
[ ! -e "$mark" ] && [ ! -e "$root/.all" ] || exit 0

python=$(command -v python3) || { echo "fetch_cuda.sh: python3 is missing: scripts/install_deps.sh --test" >&2; exit 1; }
wheels=$root/wheels
mkdir -p "$wheels"
# --no-deps and one package at a time: a missing one is named, and the rest still comes.
missing=()
for package in "${wanted[@]}"; do
  "$python" -m pip download -q --no-deps --disable-pip-version-check -d "$wheels" "$package" >/dev/null 2>&1 ||
    missing+=("$package")
done
"$python" - "$wheels" "$root" <<'END'
"""Unpacks every wheel: what lies under nvidia/<part>/ (include, bin, lib, nvvm) is merged into one toolkit folder."""
import pathlib, re, sys, zipfile

wheels, root = map(pathlib.Path, sys.argv[1:])
for wheel in sorted(wheels.glob("*.whl")):
    with zipfile.ZipFile(wheel) as archive:
        for item in archive.infolist():
            found = re.match(r"(?:nvidia/[^/]+/|)((?:include|bin|lib|nvvm)/.+)", item.filename)
            if not found or item.is_dir():
                continue
            target = root / found.group(1)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(item))
            if (item.external_attr >> 16) & 0o111 or target.parent.name == "bin":
                target.chmod(0o755)
    wheel.unlink()
# The linker and CMake look for lib64/libX.so, the packages bring lib/libX.so.N.
for library in root.glob("lib/*.so.*"):
    plain = library.with_name(library.name.split(".so.")[0] + ".so")
    if not plain.exists():
        plain.symlink_to(library.name)
if (root / "lib").is_dir() and not (root / "lib64").exists():
    (root / "lib64").symlink_to("lib")
END
if [ ${#missing[@]} -gt 0 ]; then
  echo "fetch_cuda.sh: not to be had: ${missing[*]}" >&2
  exit 1
fi
touch "$mark"
