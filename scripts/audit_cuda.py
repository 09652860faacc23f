#!/usr/bin/env python3
"""Audits the CUDA kernels without a GPU: every kernels/cuda/*.cu for every architecture. Started by audit_cuda.sh.

    scripts/audit_cuda.py --nvcc PATH [--cuobjdump PATH]     exit code 1 and one line per violation
    scripts/audit_cuda.py --self-test

Checked: no warning; no spill, no stack frame, no local access in the machine code; launch bounds on every kernel,
registers x threads within an SM; the block and the shared memory of each launch within bounds and the architecture's
limit; the tensor-core and asynchronous instructions that a kernel is written for. Launches and memory traffic are those
that the emulator counts in tests/simt/traffic_test.cpp, which holds them against the least possible, and argues where a
kernel asks for more: the columns here are as the warps ask, before any cache.
"""
import argparse
import collections
import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import time

import cubin

Arch = collections.namedtuple("Arch", "card shared_limit bytes_per_s flops_per_s")
ARCHS = {
    "sm_80": Arch("A100", 163 * 1024, 1555e9, 312e12),
    "sm_90": Arch("H100", 227 * 1024, 3350e9, 989e12),
    "sm_100": None,  # compiled, no more
}
SM_REGISTERS = 65536
MMA_FLOPS = 2 * 16 * 8 * 16

# Source and kernel name (a pattern), and what its machine code must contain. Every pattern must meet a kernel, and
# every kernel with one of these opcodes a pattern.
SPECIAL = ("HMMA", "LDGSTS", "LDSM")  # tensor cores, cp.async, ldmatrix
EXPECTED = [
    (r"attention_forward\.cu:attention::forward_kernel<.*", SPECIAL),
    (r"attention_backward\.cu:attention::(key|query)_kernel<.*", SPECIAL),
    (r"gemm_handwritten\.cu:gemm_mma_kernel<.*, true>", SPECIAL),
    (r"gemm_handwritten\.cu:gemm_mma_kernel<.*, false>", ("HMMA", "LDSM")),  # rows too odd for 16 bytes
]


class Checks:
    def __init__(self):
        self.passed, self.problems = 0, []

    def check(self, holds, problem):
        if holds:
            self.passed += 1
        else:
            self.problems.append(problem)


def row_name(kernel):
    """What kernels share a row: the instantiations of one template, and those of one body of elements_kernel."""
    source = kernel.source.split("/")[-1].removesuffix(".cu")
    body = re.match(r"elements_kernel<(\w+)", kernel.name)
    return f"{source}: {body.group(1) if body else kernel.name.split('<')[0].removeprefix('attention::')}"


def check_kernel(checks, kernel, disassembled):
    where = f"{kernel.source} for {kernel.arch}: {kernel.name}: "
    checks.check(kernel.spills == 0, f"{where}{kernel.spills} bytes spilled")
    checks.check(kernel.stack == 0, f"{where}a stack frame of {kernel.stack} bytes")
    if not disassembled:
        return
    checks.check(kernel.threads > 0, f"{where}no __launch_bounds__")
    given = (kernel.registers + 7) // 8 * 8  # an SM gives a warp's registers in steps of 8 a thread
    checks.check(given * kernel.threads <= SM_REGISTERS,
                 f"{where}{kernel.threads} threads of {given} registers: an SM has {SM_REGISTERS}")
    local = [opcode for opcode in ("LDL", "STL") if kernel.opcodes.get(opcode)]
    checks.check(not local, f"{where}local memory in the code: {', '.join(local)}")


def check_opcodes(checks, kernels):
    """Of one architecture."""
    met = set()
    for kernel in kernels:
        name = f"{pathlib.Path(kernel.source).name}:{kernel.name}"
        patterns = [(pattern, wanted) for pattern, wanted in EXPECTED if re.fullmatch(pattern, name)]
        met |= {pattern for pattern, _ in patterns}
        expected = {opcode for _, wanted in patterns for opcode in wanted}
        present = {opcode for opcode in SPECIAL if kernel.opcodes.get(opcode)}
        checks.check(present == expected,
                     f"{kernel.source} for {kernel.arch}: {kernel.name}: the code has "
                     f"{', '.join(sorted(present)) or 'no special opcode'}, EXPECTED of audit_cuda.py says "
                     f"{', '.join(sorted(expected)) or 'none'}")
    arch = kernels[0].arch if kernels else "?"
    for pattern, _ in EXPECTED:
        checks.check(pattern in met, f"{arch}: no kernel is called {pattern}, which EXPECTED of audit_cuda.py lists")


def check_launches(checks, kernels, launches):
    """Of one architecture: what was launched is what was compiled, and fits. `launches`: name -> counters."""
    by_name = {kernel.name: kernel for kernel in kernels}
    dynamic = collections.Counter()
    for name, counted in launches.items():
        kernel = by_name.get(name)
        checks.check(kernel is not None, f"the emulator ran {name}, which nvcc did not make")
        if kernel is None:
            continue
        largest = max(one["largest_block"] for one in counted)
        checks.check(kernel.threads == 0 or largest <= kernel.threads,
                     f"{kernel.arch}: {name}: a block of {largest} threads, __launch_bounds__ says {kernel.threads}")
        row = row_name(kernel)
        dynamic[row] = max(dynamic[row], max(one["dynamic_shared"] for one in counted))
    for kernel in kernels:
        limit = ARCHS[kernel.arch].shared_limit
        needed = kernel.static_shared + dynamic[row_name(kernel)]
        checks.check(needed <= limit, f"{kernel.arch}: {kernel.name}: {needed} bytes of shared memory; a block has {limit}")
    return dynamic


def estimate(launch, arch):
    """Seconds at least: what the kernel asks for at the memory's speed, or its products at the tensor cores'."""
    return max(32 * launch["sectors"] / arch.bytes_per_s, launch["mma"] * MMA_FLOPS / arch.flops_per_s)


def traffic_columns(counted, arch):
    """moved/least, coalescing, conflicts and the time of the largest launch; the worst of all launches of a row."""
    if not counted:
        return ["", "", "", ""]
    ratio = max(32 * one["sectors"] / max(1, one["minimum"]) for one in counted)
    whole = min(one["ideal_sectors"] / max(1, one["sectors"]) for one in counted)
    micros = 1e6 * max(estimate(one, arch) for one in counted)
    return [f"{ratio:.2f}", f"{100 * whole:.0f} %", str(max(one["conflicts"] for one in counted)), f"{micros:.2f}"]


def table(kernels, launches, dynamic):
    """One row per template and architecture: the worst of its instantiations."""
    rows = collections.defaultdict(list)
    for kernel in kernels:
        rows[row_name(kernel), kernel.arch].append(kernel)
    lines = [["kernel", "arch", "of", "regs", "threads", "shared", "opcodes", "moved", "whole", "confl.", "us"]]
    for (name, arch), some in sorted(rows.items()):
        counted = [one for kernel in some for one in launches.get(kernel.name, [])]
        opcodes = [f"{opcode} {max(kernel.opcodes.get(opcode, 0) for kernel in some)}" for opcode in SPECIAL
                   if any(kernel.opcodes.get(opcode) for kernel in some)]
        lines.append([name, arch, str(len(some)), str(max(kernel.registers for kernel in some)),
                      str(max(kernel.threads for kernel in some)),
                      str(max(kernel.static_shared for kernel in some) + dynamic.get((arch, name), 0)),
                      ", ".join(opcodes), *traffic_columns(counted, ARCHS[arch])])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    left = (0, 1, 6)
    return "\n".join("  ".join(cell.ljust(width) if i in left else cell.rjust(width)
                               for i, (cell, width) in enumerate(zip(line, widths))).rstrip() for line in lines)


def count_traffic(checks, root):
    """name -> counters of its launches, from the emulator's traffic test; empty where that is not built."""
    program = root / "build/release/tests/simt/test_simt_checked"
    kept = root / "build/audit/traffic.jsonl"
    if not program.exists():
        print("NOT RUN: launches and memory traffic: build/release/tests/simt/test_simt_checked is not built")
        return {}
    if not kept.exists() or kept.stat().st_mtime < program.stat().st_mtime:
        fresh = kept.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        done = subprocess.run([str(program), "[traffic]"], cwd=root, env={**os.environ, "TRIDENT_AUDIT": str(fresh)},
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        checks.check(done.returncode == 0, "the traffic test fails: " + done.stdout[-3000:])
        if done.returncode != 0 or not fresh.exists():
            return {}
        fresh.rename(kept)
    launches = collections.defaultdict(list)
    for line in kept.read_text().splitlines():
        launch = json.loads(line)
        launches[launch["kernel"]].append(launch)
    return launches


def audit(root, nvcc, cuobjdump):
    start, checks = time.monotonic(), Checks()
    compiler = cubin.Compiler(root, nvcc, cuobjdump)
    archs = compiler.architectures(ARCHS)
    sources = [path.relative_to(root).as_posix() for path in sorted((root / "kernels/cuda").glob("*.cu"))]
    # The heavy ones first, so that the two jobs end together.
    sources.sort(key=lambda source: "attention" not in source)
    kernels = compiler.kernels([(source, arch, ARCHS[arch] is not None) for source in sources for arch in archs])
    checks.passed += len(sources) * len(archs) - len(compiler.problems)
    checks.problems += compiler.problems
    if not cuobjdump:
        print("NOT RUN: launch bounds and opcodes: there is no cuobjdump (scripts/fetch_cuda.sh --tools fetches it)")
    launches = count_traffic(checks, root)
    dynamic = {}
    for arch in archs:
        some = [kernel for kernel in kernels if kernel.arch == arch]
        for kernel in some:
            check_kernel(checks, kernel, cuobjdump and ARCHS[arch] is not None)
        if ARCHS[arch] is None:
            continue
        if cuobjdump:
            check_opcodes(checks, some)
        dynamic |= {(arch, row): size for row, size in check_launches(checks, some, launches).items()}
    shown = [kernel for kernel in kernels if ARCHS[kernel.arch] is not None]
    print("Each row: the worst of `of` instantiations. shared: static and dynamic bytes of a block. moved: sectors over "
          "the bytes touched.\nwhole: sectors that coalesced access would take, of those taken. us: roofline of the "
          "traffic test's largest launch on " + ", ".join(f"{a} ({ARCHS[a].card})" for a in archs if ARCHS[a]) + ".\n")
    print(table(shown, launches, dynamic) + "\n")
    most = max((kernel.registers for kernel in kernels), default=0)
    print(f"{len(kernels)} kernels for {', '.join(archs)}; most registers {most}; "
          f"nvcc ran {compiler.compiled} times; {time.monotonic() - start:.0f} s, of CPU "
          f"{resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime:.0f} s")
    for problem in checks.problems:
        print(problem)
    print(f"{checks.passed} passed, {len(checks.problems)} failed")
    return 1 if checks.problems else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nvcc", default="")
    parser.add_argument("--cuobjdump", default="")
    parser.add_argument("--self-test", action="store_true")
    args = parser.parse_args()
    if args.self_test:
        import audit_cuda_test  # beside this file
        return audit_cuda_test.main()
    if not args.nvcc:
        print("audit_cuda: NOT RUN: there is no nvcc (PATH, /usr/local/cuda, build/cuda; scripts/fetch_cuda.sh fetches it)")
        return 0
    return audit(pathlib.Path(__file__).resolve().parent.parent, args.nvcc, args.cuobjdump)


if __name__ == "__main__":
    sys.exit(main())
