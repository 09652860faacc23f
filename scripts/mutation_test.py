#!/usr/bin/env python3
"""Mutation test of the CUDA sources: takes out one barrier, wait, event wait or bounds guard at a time and runs the
emulated tests, which must notice.

    scripts/mutation_test.py [--list] [--only ID...] [--every N] [--jobs N]

All mutants are compiled at once, into a copy of the sources under build/mutation: each mutated place asks at run time
whether it is the chosen one (TRIDENT_MUTANT). Kernels run the case list of their families under the checked emulator,
host code a training on eight ranks. A mutant counts as caught when its test fails, reports or hangs. The last lines list
the survivors, with the reason where one is known; the exit code is 1 when fewer than 95 % are caught.
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "mutation"
HEADER = "kernels/simt/mutants.h"
TIMEOUT = 300
SHARE_WANTED = 0.95

# Which test cases exercise a kernel source: a prefix of the file's name, and tags of tests/simt.
FAMILIES = [("attention", "[attention]"), ("gemm", "[gemm]"), ("norm", "[norm]"), ("rope", "[rope]"), ("loss", "[loss]"),
            ("embedding", "[embedding]"), ("position", "[embedding]"), ("optimizer", "[optimizer]"),
            ("sum", "[optimizer],[loss]"), ("step_control", "[step]"), ("activation", "[activation]"),
            ("dropout", "[dropout]"), ("bias", "[elementwise]"), ("pointwise", "[elementwise]"),
            ("", "[elementwise],[activation],[dropout],[optimizer]")]
HOST = ["core/train/zero_store.cpp", "core/train/executor.cpp", "core/train/optimizer.cpp", "core/comm/nccl_comm.cpp",
        "core/device/cuda_device.cpp"]

# Survivors that are known, by kind and text of the line: why taking this out changes nothing that can be observed.
EXPLAINED = []

HEADER_TEXT = """// Written by scripts/mutation_test.py: which mutant is alive.
#pragma once
#include <cstdlib>
namespace simt {
inline const int alive_mutant = std::getenv("TRIDENT_MUTANT") == nullptr ? 0 : std::atoi(std::getenv("TRIDENT_MUTANT"));
inline bool mutant(int id) { return id == alive_mutant; }
}  // namespace simt
"""


class Mutant:
    def __init__(self, number, path, line, kind, text):
        self.number, self.path, self.line, self.kind, self.text = number, path, line, kind, text.strip()

    def __str__(self):
        return f"{self.number:4d}  {self.path}:{self.line}  {self.kind}: {self.text}"


def closing(text, opening):
    """Index of the parenthesis that closes the one at `opening`, or -1."""
    depth = 0
    for i in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        if depth == 0:
            return i
    return -1


class Mutator:
    """Rewrites lines so that each mutated place asks simt::mutant(ID)."""

    def __init__(self):
        self.mutants = []

    def new(self, path, line, kind, text):
        self.mutants.append(Mutant(len(self.mutants) + 1, path, line, kind, text))
        return f"simt::mutant({self.mutants[-1].number})"

    def statement(self, path, number, line, pattern, kind):
        """`statement;` becomes `if (!mutant) statement;`."""
        found = re.search(pattern, line)
        if not found:
            return line
        alive = self.new(path, number, kind, line)
        return line[: found.start()] + f"if (!{alive}) " + line[found.start():]

    def condition(self, path, number, line):
        """Guards: an early exit is never taken, a guarded statement always."""
        found = re.search(r"\bif (constexpr )?\(", line)
        if not found or found.group(1):
            return line
        opening = found.end() - 1
        end = closing(line, opening)
        if end < 0:
            return line
        condition, rest = line[opening + 1: end], line[end + 1:].strip()
        if re.match(r"(return|continue|break);", rest):
            if not re.search(r"[<>=!]", condition):
                return line
            alive = self.new(path, number, "early exit", line)
            return line[: opening + 1] + f"!{alive} && ({condition})" + line[end:]
        if re.search(r"<=?\s", condition) and not condition.startswith("std::is_"):
            alive = self.new(path, number, "guard", line)
            return line[: opening + 1] + f"{alive} || ({condition})" + line[end:]
        return line

    def loop(self, path, number, line):
        """One turn too many, where the bound is a size and not a constant."""
        found = re.search(r"\bfor \(([^;]*); (\w+) < ([^;]+); ", line)
        if not found or re.match(r"(k[A-Z]\w*|[\d ]+|[A-Z]+)( [*/] (k[A-Z]\w*|\d+))*$", found.group(3)):
            return line
        alive = self.new(path, number, "loop bound", line)
        return line[: found.start(3)] + f"({found.group(3)}) + ({alive} ? 1 : 0)" + line[found.end(3):]

    def copy_guard(self, path, number, line):
        """cp_async16's last argument says whether the source is inside: always."""
        found = re.search(r"cp_async16\(", line)
        if not found:
            return line
        end = closing(line, found.end() - 1)
        comma = line.rfind(",", 0, end)
        if end < 0 or comma < 0 or line[comma + 1: end].strip() == "true":
            return line
        alive = self.new(path, number, "copy guard", line)
        return line[: comma + 1] + f" {alive} || ({line[comma + 1: end].strip()})" + line[end:]

    def kernel_line(self, path, number, line):
        line = self.statement(path, number, line, r"__syncthreads\(\);", "barrier")
        line = self.statement(path, number, line, r"__syncwarp\(\w*\);", "warp barrier")
        line = self.statement(path, number, line, r"(simt::)?cp_async_wait<[^;]*>\(\);", "copy wait")
        line = self.statement(path, number, line, r"(simt::)?cp_async_commit\(\);", "copy commit")
        line = self.copy_guard(path, number, line)
        if " for (" in line or line.lstrip().startswith("for ("):
            return self.loop(path, number, line)
        return self.condition(path, number, line)

    def host_line(self, path, number, line):
        line = self.statement(path, number, line, r"device_?\.wait\(.*\);", "event wait")
        line = self.statement(path, number, line, r"(shared_\.)?device_?\.synchronize\(.*\);", "host wait")
        return self.statement(path, number, line, r"check_cuda\(cudaStreamWaitEvent.*\);", "event wait")

    def rewrite(self, tree, path, host):
        file = tree / path
        lines = file.read_text().split("\n")
        mutate = self.host_line if host else self.kernel_line
        out = []
        for number, line in enumerate(lines, 1):
            code = line.split("//")[0]
            # An unrolled loop runs over registers: its bound is part of the type, not a guard.
            unrolled = number > 1 and lines[number - 2].strip().startswith("#pragma unroll")
            skip = not code.strip() or code.lstrip().startswith("#") or "constexpr" in code or unrolled
            out.append(line if skip else mutate(path, number, code.rstrip()))
        first = next(i for i, line in enumerate(out) if line.startswith("#include") or line.startswith("#pragma once"))
        out.insert(first + 1 if out[first].startswith("#pragma") else first, f'#include "{HEADER}"')
        file.write_text("\n".join(out))


def sources():
    kernels = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "kernels/cuda").glob("*.cu*"))
    return [(path, False) for path in kernels] + [(path, True) for path in HOST]


def make_tree():
    """A copy of the sources with every mutant inside; returns the mutants."""
    tree = WORK / "tree"
    for name in ("apps", "core", "kernels", "tests", "scripts", "configs"):
        shutil.copytree(ROOT / name, tree / name, dirs_exist_ok=True)
    shutil.copy(ROOT / "CMakeLists.txt", tree)
    (tree / HEADER).write_text(HEADER_TEXT)
    mutator = Mutator()
    for path, host in sources():
        mutator.rewrite(tree, path, host)
    return mutator.mutants


def build():
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    launcher = ["-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
    steps = (["cmake", "-S", WORK / "tree", "-B", WORK / "build", "-DCMAKE_BUILD_TYPE=Release", "-DTRIDENT_CUDA=OFF",
              *generator, *launcher],
             ["cmake", "--build", WORK / "build", "--parallel", str(os.cpu_count()), "--target", "test_simt_checked",
              "--target", "trident", "--target", "trident-simt-checked"])
    for step in steps:
        result = subprocess.run(list(map(str, step)), capture_output=True, text=True)
        if result.returncode != 0:
            sys.exit(f"mutation_test.py: the mutated tree does not build:\n{(result.stdout + result.stderr)[-4000:]}")


def command_of(mutant):
    if mutant.path in HOST:
        check = [sys.executable, ROOT / "tests/apps/simt_check.py", "mpirun", WORK / "build/trident",
                 WORK / "build/trident-simt-checked", "--steps", "3", "--policies", "random", "--grids", "2x2x2"]
        return list(map(str, check))
    name = pathlib.PurePosixPath(mutant.path).name
    tags = next(tags for prefix, tags in FAMILIES if name.startswith(prefix))
    return [str(WORK / "build/tests/test_simt_checked"), tags, "--abort"]


def run(mutant):
    """How the mutant was caught, or None."""
    environment = dict(os.environ, TRIDENT_MUTANT=str(mutant.number), OMP_NUM_THREADS="1")
    try:
        result = subprocess.run(command_of(mutant), env=environment, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return "hangs"
    if result.returncode == 0:
        return None
    text = result.stdout + result.stderr
    reported = re.search(r"(race|uninitialised|out-of-bounds|in flight|divergent|deadlock|misaligned)[^\n]*", text)
    return reported.group(0)[:90] if reported else "wrong numbers"


def reason(mutant):
    for kind, pattern, why in EXPLAINED:
        if kind == mutant.kind and re.search(pattern, f"{mutant.path}: {mutant.text}"):
            return why
    return "not explained"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="only list the mutants")
    parser.add_argument("--only", type=int, nargs="+", help="these mutants")
    parser.add_argument("--every", type=int, default=1, help="each N-th mutant")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    mutants = make_tree()
    chosen = [m for m in mutants if not arguments.only or m.number in arguments.only][:: arguments.every]
    if arguments.list:
        print("\n".join(map(str, chosen)))
        return 0
    build()
    # Without a mutant everything must pass, or nothing below means anything.
    for mutant in {str(command_of(m)): m for m in chosen}.values():
        sane = Mutant(0, mutant.path, 0, "", "")
        if (how := run(sane)) is not None:
            sys.exit(f"mutation_test.py: fails without a mutant ({how}): {command_of(sane)}")
    survivors, start = [], time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for mutant, how in zip(chosen, pool.map(run, chosen)):
            print(f"{mutant}\n      {'SURVIVES' if how is None else 'caught: ' + how}", flush=True)
            if how is None:
                survivors.append(mutant)
    caught = len(chosen) - len(survivors)
    print(f"\n{len(chosen)} mutants, {caught} caught ({caught / len(chosen):.1%}), {time.monotonic() - start:.0f} s")
    for mutant in survivors:
        print(f"survivor {mutant}\n      {reason(mutant)}")
    return 0 if caught >= SHARE_WANTED * len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
