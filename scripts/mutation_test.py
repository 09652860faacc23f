#!/usr/bin/env python3
"""Mutation test of the CUDA sources: takes out one barrier, wait, event wait or bounds guard at a time and runs the
emulated tests, which must notice.

    scripts/mutation_test.py [--list] [--only ID...] [--every N] [--jobs N]

All mutants are compiled at once, into a copy of the sources under build/mutation: each mutated place asks at run time
whether it is the chosen one (TRIDENT_MUTANT). Kernels run the case list of their families under the checked emulator,
the long families first a few cases that reach every line, and the tests that count work; host code runs the tests
of tests/simt/device and tests/apps/simt_life_check.py, twice.
A mutant counts as caught when its test fails, reports or hangs. The last lines list the survivors, with the reason where
one is known: it is then equivalent, and counts neither way; the exit code is 1 when fewer than 95 % of the others are
caught.
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "mutation"
TREE = WORK / "tree"
HEADER = "kernels/simt/mutants.h"
TIMEOUT = 120  # of a few cases; whole families of a survivor have ten times as long
SHARE_WANTED = 0.95

# Which test cases exercise a kernel source: a prefix of the file's name, tests of tests/simt, and for the long families
# parts of names of cases that suffice for most mutants. The last line is for what every family includes.
TENSOR_CORE_CASES = ["1x16 heads 1/1 of 64 bf16", "1x63 heads 3/1 of 128 f16", "2x65 heads 2/1 of 64 bf16"]
PLAIN_CASES = ["2x7 heads 2/1 of 8 f32", "1x33 heads 1/1 of 256", "2x33 heads 4/2 of 16 f32"]
GEMM_CASES = ["gemm 0x8x16 bf16->bf16 NN", "gemm 16x16x16 bf16->bf16 T", "gemm 17x31x65 bf16->bf16 N",
              "gemm 17x31x65 f32->f32 N", "gemm 72x80x264 f16->f16 TN accumulate", "gemm 66x70x300 bf16->f32 N"]
FAMILIES = [("attention_plain", "cuda: attention", PLAIN_CASES),
            ("attention_statistics", "cuda: attention", PLAIN_CASES + TENSOR_CORE_CASES),
            ("attention", "cuda: attention", TENSOR_CORE_CASES), ("gemm", "cuda: gemm", GEMM_CASES),
            ("norm", "[norm]", []), ("rope", "[rope]", []), ("loss", "[loss]", []), ("embedding", "[embedding]", []),
            ("position", "[embedding]", []), ("optimizer", "[optimizer]", []), ("sum", "[optimizer],[loss]", []),
            ("step_control", "[step]", []), ("activation", "[activation]", []),
            ("dropout", "[dropout]", []), ("bias", "[elementwise]", []),
            ("pointwise", "[elementwise],[dropout]", []),
            ("", "[elementwise],[activation],[dropout],[optimizer],[loss]", [])]
HOST = ["core/run/run.cpp", "core/train/state.cpp", "core/train/zero_store.cpp", "core/train/executor.cpp",
        "core/train/gradient_offload.cpp", "core/train/input_offload.cpp", "core/train/optimizer_state.cpp",
        "core/train/parameter_file.cpp",
        "core/train/optimizer.cpp", "core/model/linear.cpp", "core/comm/nccl_comm.cpp", "core/device/cuda_device.cpp"]

# The driver makes copies of pageable memory wait; the device's contract does not. Freed memory is filled.
LATE = {"TRIDENT_SIMT_POLICY": "lazy", "TRIDENT_SIMT_PAGEABLE": "late", "MALLOC_PERTURB_": "165"}

# Bounds of loops over registers: part of a type, no guard.
CONSTANT = r"(\w+::)?k[A-Z]\w*|\d+|[A-Z]+|static_cast<int>\(sizeof\(T\)\)"

# Survivors that are known, by kind and text of the line: why taking this out changes nothing that can be observed.
EXPLAINED = [
    ("host wait", r"run.cpp.*Role::send", "for the CPU device; a CUDA device frees memory after a wait for all of it"),
    ("host wait", r"optimizer.cpp: device_\.synchronize\(stream\);", "the driver has read pageable memory when the copy returns; a "
     "late copy of this one number still finds it"),
]

HEADER_TEXT = """// Written by scripts/mutation_test.py: which mutant is alive.
#pragma once
#include <cstdlib>
namespace simt {
inline const int alive_mutant = std::getenv("TRIDENT_MUTANT") == nullptr ? 0 : std::atoi(std::getenv("TRIDENT_MUTANT"));
// Not instrumented: kernels ask too, and must not be seen reading the host's memory.
__attribute__((no_sanitize("thread"), noinline)) inline bool mutant(int id) { return id == alive_mutant; }
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
        opening = max(opening, line.rfind("; ", opening, end) + 1)  # behind an initialiser
        condition, rest = line[opening + 1: end].strip(), line[end + 1:].strip()
        if re.match(r"(return|continue|break);", rest):
            if not re.search(r"[<>=!]", condition):
                return line
            alive = self.new(path, number, "early exit", line)
            return f"{line[: opening + 1]}!{alive} && ({condition}){line[end:]}"
        # (What chooses among kernels by a size is no guard.)
        if not re.search(r"<=?\s", condition) or condition.startswith("std::is_") or rest.startswith("return"):
            return line
        alive = self.new(path, number, "guard", line)
        return f"{line[: opening + 1]}{alive} || ({condition}){line[end:]}"

    def loop(self, path, number, line, following):
        """One turn too many, where the bound is a size and not a constant."""
        found = re.search(r"\bfor \(([^;]*); ([^;]*)(<=?) ([^;<]+);", line)
        if not found:
            return line
        bound = found.group(4)
        constant = rf"({CONSTANT}|half|step)"
        if re.fullmatch(rf"\(*{constant}\)*( [-+*/] \(*{constant}\)*)*", bound):
            return line
        both = line + " " + following.strip()
        head = both[: closing(both, both.index("(", found.start()))]
        step = re.search(r"\w+ \+= ([^,]+)", head[found.end():])
        turn = step.group(1) if step else "1"
        alive = self.new(path, number, "loop bound", line)
        return f"{line[: found.start(4)]}({bound}) + ({alive} ? ({turn}) : 0){line[found.end(4):]}"

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

    def named_guard(self, path, number, line):
        """A guard with a name, or a function's result: always true."""
        found = re.search(r"const bool (\w+) = ([^?]* < [^?]*);", line)
        found = found or re.search(r"(\breturn) ([^;?]* < [^;?]*);", line)
        if not found:
            return line
        alive = self.new(path, number, "guard", line)
        return f"{line[: found.start(2)]}{alive} || ({found.group(2)}){line[found.end(2):]}"

    def alignment(self, path, number, line):
        """What chooses the 16-byte accesses: always."""
        call = r"\w*(vectorizable|aligned)\((?:[^()]|\([^()]*\))*\)"
        found = re.search(rf"{call}( && {call})*", line)
        if not found or re.search(r"^inline bool|^bool \w+\(|\[&\]", line.strip()):
            return line
        alive = self.new(path, number, "alignment guard", line)
        return f"{line[: found.start()]}({alive} || ({found.group(0)})){line[found.end():]}"

    def choice(self, path, number, line):
        """`inside ? value : otherwise` is always the value; a clamp, `x < most ? x : most` or min, does not clamp."""
        found = re.search(r"(?<=[=(,] )([^=(,?]+ < [^=,?]+?) \? (?!1 : 0)", line)
        found = found or re.search(r"(\w+ < \w+) \? (?!1 : 0)", line)
        if found and not re.search(rf"< {CONSTANT}$", found.group(1).rstrip()):
            alive = self.new(path, number, "guard", line)
            return f"{line[: found.start(1)]}{alive} || ({found.group(1)}){line[found.end(1):]}"
        if found and re.search(r": k[A-Z]\w*;", line):
            alive = self.new(path, number, "clamp", line)
            return f"{line[: found.start(1)]}!{alive} && ({found.group(1)}){line[found.end(1):]}"
        found = re.search(r"\bmin\(([^,()]+), ([^,()]+)\)", line)
        if not found or re.search(r"std::$", line[: found.start()]):
            return line
        alive = self.new(path, number, "clamp", line)
        return f"{line[: found.start()]}({alive} ? ({found.group(1)}) : {found.group(0)}){line[found.end():]}"

    def kernel_line(self, path, number, line, following):
        line = self.statement(path, number, line, r"__syncthreads\(\);", "barrier")
        line = self.statement(path, number, line, r"__syncwarp\(\w*\);", "warp barrier")
        line = self.statement(path, number, line, r"(simt::)?cp_async_wait<[^;]*>\(\);", "copy wait")
        line = self.statement(path, number, line, r"(simt::)?cp_async_commit\(\);", "copy commit")
        line = self.copy_guard(path, number, line)
        line = self.named_guard(path, number, line)
        line = self.alignment(path, number, line)
        before = line
        line = self.loop(path, number, line, following)
        line = self.condition(path, number, line)
        return line if line != before else self.choice(path, number, line)

    def host_line(self, path, number, line, _):
        line = self.statement(path, number, line, r"(ex\.)?device_?\.wait\(.*\);", "event wait")
        line = self.statement(path, number, line, r"store_\.before_write\(.*\);", "event wait")
        line = self.statement(path, number, line, r"(shared_\.)?device_?(\.|->)synchronize\(.*\);", "host wait")
        line = self.statement(path, number, line, r"check_cuda\(cuda(Event|Stream)Synchronize[^;]*;", "host wait")
        return self.statement(path, number, line, r"check_cuda\(cudaStreamWaitEvent.*\);", "event wait")

    def rewrite(self, path, host):
        lines = (ROOT / path).read_text().split("\n")
        mutate = self.host_line if host else self.kernel_line
        out = []
        for number, line in enumerate(lines, 1):
            code = line.split("//")[0]
            skip = not code.strip() or code.lstrip().startswith("#") or re.search(r"constexpr|template <", code)
            following = lines[number] if number < len(lines) else ""
            out.append(line if skip else mutate(path, number, code.rstrip(), following))
        first = next(i for i, line in enumerate(out) if line.startswith("#include") or line.startswith("#pragma once"))
        out.insert(first + 1 if out[first].startswith("#pragma") else first, f'#include "{HEADER}"')
        return "\n".join(out)


def sources():
    kernels = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "kernels/cuda").glob("*.cu*"))
    kernels += [f"kernels/cuda/{name}" for name in ("element.h", "elementwise.h", "tiles.h", "dropout.h")]
    return [(path, False) for path in kernels] + [(path, True) for path in HOST]


def write(path, text):
    """Leaves an unchanged file alone, for the build."""
    if not path.exists() or path.read_bytes() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)


def make_tree():
    """A copy of the sources with every mutant inside; returns the mutants."""
    mutator = Mutator()
    mutated = {path: mutator.rewrite(path, host) for path, host in sources()}
    write(TREE / HEADER, HEADER_TEXT.encode())
    for name in ("apps", "core", "kernels", "tests", "scripts", "configs", "CMakeLists.txt", "CMakePresets.json"):
        files = (ROOT / name).rglob("*") if (ROOT / name).is_dir() else [ROOT / name]
        for file in files:
            path = file.relative_to(ROOT).as_posix()
            if not file.is_file() or "__pycache__" in path:
                continue
            write(TREE / path, mutated[path].encode() if path in mutated else file.read_bytes())
            (TREE / path).chmod(file.stat().st_mode)
    return mutator.mutants


def build():
    targets = [word for target in ("test_simt_checked", "test_simt_device", "trident-simt-checked") for word in ("--target", target)]
    result = subprocess.run([TREE / "scripts/build.sh", "release", "--werror", *targets], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"mutation_test.py: the mutated tree does not build:\n{(result.stdout + result.stderr)[-4000:]}")


def commands_of(mutant):
    """(seconds, environment, command) of each test, the quick ones first."""
    if mutant.path in HOST:
        check = [sys.executable, ROOT / "tests/apps/simt_life_check.py", "mpirun",
                 TREE / "build/release/trident-simt-checked"]
        device = [(TIMEOUT, {}, [str(TREE / "build/release/tests/test_simt_device")])]
        return device + [(3 * TIMEOUT, environment, list(map(str, check))) for environment in ({}, LATE)]
    name = pathlib.PurePosixPath(mutant.path).name
    tests, cases = next((tests, cases) for prefix, tests, cases in FAMILIES if name.startswith(prefix))
    command = [str(TREE / "build/release/tests/simt/test_simt_checked"), tests, "--abort"]
    # cuBLASLt refuses, so that our own GEMM multiplies.
    environment = {"TRIDENT_CUBLASLT_REFUSE": "1000"} if name.startswith("gemm") else {}
    quick = [(TIMEOUT, dict(environment, TRIDENT_CASE=case), command) for case in cases]
    # What saves work shows in the counters.
    quick.append((TIMEOUT, {}, [command[0], "[work]", "--abort"]))
    # Whole long families only for what is not explained.
    whole = [] if cases and (mutant.number == 0 or reason(mutant)) else [(10 * TIMEOUT, environment, command)]
    return quick + whole


def run(mutant):
    """How the mutant was caught, or None."""
    for seconds, extra, command in commands_of(mutant):
        environment = dict(os.environ, TRIDENT_MUTANT=str(mutant.number), OMP_NUM_THREADS="1", **extra)
        try:
            result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            return "hangs"
        if result.returncode != 0:
            text = result.stdout + result.stderr
            found = re.search(
                r"(race|uninitialised|out-of-bounds|in flight|divergent|deadlock|misaligned|host access)[^\n]*", text)
            return found.group(0)[:90] if found else "wrong numbers or an error"
    return None


def reason(mutant):
    for kind, pattern, why in EXPLAINED:
        if kind == mutant.kind and re.search(pattern, f"{mutant.path}: {mutant.text}"):
            return why
    return ""


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
    for mutant in {str(commands_of(Mutant(0, m.path, 0, "", ""))): m for m in chosen}.values():
        sane = Mutant(0, mutant.path, 0, "", "")
        if (how := run(sane)) is not None:
            sys.exit(f"mutation_test.py: fails without a mutant ({how}): {commands_of(sane)}")
    survivors, start = [], time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for mutant, how in zip(chosen, pool.map(run, chosen)):
            print(f"{mutant}\n      {'SURVIVES' if how is None else 'caught: ' + how}", flush=True)
            if how is None:
                survivors.append(mutant)
    caught = len(chosen) - len(survivors)
    equivalent = sum(bool(reason(m)) for m in survivors)
    share = caught / max(1, len(chosen) - equivalent)
    print(f"\n{len(chosen)} mutants: {caught} caught, {equivalent} equivalent (nothing can be observed), "
          f"{len(survivors) - equivalent} missed: {share:.1%} of those that matter, {time.monotonic() - start:.0f} s")
    for mutant in survivors:
        print(f"survivor {mutant}\n      {reason(mutant) or 'not explained'}")
    return 0 if share >= SHARE_WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
