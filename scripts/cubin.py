"""Compiles the CUDA sources for one architecture each and reads what nvcc made: resources, launch bounds, opcodes.

Results are kept in build/audit under a hash of everything they follow from, so that only what changed is compiled.
"""
import collections
import concurrent.futures
import hashlib
import json
import pathlib
import re
import subprocess

FLAGS = ["-std=c++20", "--expt-relaxed-constexpr", "-I.", "-cubin", "-Xptxas", "-v", "-Werror", "all-warnings"]
HEADERS = ["kernels/cuda/*.h", "kernels/cuda/*.cuh", "kernels/*.h", "core/base/*.h"]
WATCHED = ("HMMA", "LDGSTS", "LDSM", "LDL", "STL")  # opcodes that a rule speaks of

ENTRY = re.compile(r"ptxas info\s*: Compiling entry function '(\w+)'")
FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"ptxas info\s*: Used (\d+) registers(.*)")
SHARED = re.compile(r"(\d+) bytes smem")
BOUNDS = re.compile(r"EIATTR_MAX_THREADS\s+Format:\s*\w+\s+Value:\s*(0x[0-9a-f]+) (0x[0-9a-f]+) (0x[0-9a-f]+)")
OPCODE = re.compile(r"^\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_]*)")


class Kernel:
    """One instantiation of one kernel for one architecture. `threads`: of __launch_bounds__, 0 where it has none."""

    def __init__(self, source, arch, symbol, **facts):
        self.source, self.arch, self.symbol, self.name = source, arch, symbol, symbol
        self.registers = self.stack = self.spills = self.static_shared = self.threads = 0
        self.opcodes = {}
        self.__dict__.update(facts)


def short_name(demangled):
    """As the emulator names kernels: no trident namespaces, no parameters."""
    name = demangled
    for part in ("(anonymous namespace)::", "trident::cuda::", "trident::"):
        name = name.replace(part, "")
    name = name.removeprefix("void ")
    depth = 0
    for i, letter in enumerate(name):
        depth += (letter == "<") - (letter == ">")
        if letter == "(" and depth == 0:
            return name[:i]
    return name


def demangle(kernels):
    if kernels:
        text = "\n".join(kernel.symbol for kernel in kernels)
        lines = subprocess.run(["c++filt"], input=text, capture_output=True, text=True, check=True).stdout.splitlines()
        for kernel, line in zip(kernels, lines):
            kernel.name = short_name(line)


def read_log(source, arch, log):
    """The kernels that ptxas -v speaks of."""
    kernels = []
    for line in log.splitlines():
        if found := ENTRY.search(line):
            kernels.append(Kernel(source, arch, found.group(1)))
        elif not kernels:
            continue
        elif found := FRAME.search(line):
            stack, stores, loads = map(int, found.groups())
            kernels[-1].stack, kernels[-1].spills = stack, stores + loads
        elif found := USED.search(line):
            kernels[-1].registers = int(found.group(1))
            shared = SHARED.search(found.group(2))
            kernels[-1].static_shared = int(shared.group(1)) if shared else 0
    return kernels


def read_elf(text):
    """symbol -> threads of its launch bounds, from cuobjdump -elf."""
    threads = {}
    for part in re.split(r"^\.nv\.info\.", text, flags=re.MULTILINE)[1:]:
        if found := BOUNDS.search(part):
            x, y, z = (int(value, 16) for value in found.groups())
            threads[part.split(None, 1)[0]] = x * y * z
    return threads


def read_sass(text):
    """symbol -> how often each watched opcode occurs, from cuobjdump -sass."""
    opcodes, symbol = {}, None
    for line in text.splitlines():
        if "Function :" in line:
            symbol = line.split(":", 1)[1].strip()
            opcodes[symbol] = collections.Counter()
        elif (found := OPCODE.match(line)) and symbol and found.group(1) in WATCHED:
            opcodes[symbol][found.group(1)] += 1
    return opcodes


class Compiler:
    """`problems` collects what nvcc refuses or warns of; `compiled` counts how often it ran."""

    def __init__(self, root, nvcc, cuobjdump):
        self.root, self.nvcc, self.cuobjdump = root, nvcc, cuobjdump
        self.folder = root / "build" / "audit"
        self.problems, self.compiled = [], 0
        digest = hashlib.sha256(self.run([nvcc, "--version"]).stdout.encode())
        for pattern in HEADERS:
            for path in sorted(root.glob(pattern)):
                digest.update(path.read_bytes())
        digest.update(pathlib.Path(__file__).read_bytes())
        self.common = digest

    def run(self, command):
        return subprocess.run(command, cwd=self.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False)

    def architectures(self, wanted):
        """Those of `wanted` that this nvcc compiles for."""
        known = self.run([self.nvcc, "--list-gpu-arch"]).stdout.split()
        return [arch for arch in wanted if arch.replace("sm_", "compute_") in known]

    def kernels(self, jobs):
        """Of all (source, arch, disassemble) jobs, two at a time."""
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            kernels = [kernel for some in pool.map(lambda job: self.kernels_of(*job), jobs) for kernel in some]
        demangle(kernels)
        return kernels

    def kernels_of(self, source, arch, disassemble):
        digest = self.common.copy()
        digest.update((self.root / source).read_bytes())
        digest.update(repr((FLAGS, arch, disassemble and bool(self.cuobjdump))).encode())
        stem = self.folder / f"{pathlib.Path(source).stem}.{arch}"
        kept = stem.with_suffix(f".{arch}.json")
        if kept.exists():
            found = json.loads(kept.read_text())
            if found["hash"] == digest.hexdigest():
                return [Kernel(**facts) for facts in found["kernels"]]
        kernels = self.compile(source, arch, stem.with_suffix(f".{arch}.cubin"), disassemble)
        if kernels is None:
            return []
        kept.write_text(json.dumps({"hash": digest.hexdigest(), "kernels": [vars(kernel) for kernel in kernels]}))
        return kernels

    def compile(self, source, arch, cubin, disassemble):
        self.folder.mkdir(parents=True, exist_ok=True)
        self.compiled += 1
        done = self.run([self.nvcc, *FLAGS, f"-arch={arch}", "-o", str(cubin), source])
        if done.returncode != 0 or "warning" in done.stdout:
            lines = [line for line in done.stdout.splitlines() if not line.startswith("ptxas info")]
            self.problems.append(f"{source} for {arch}: nvcc: " + "\n    ".join(lines[-20:]))
            return None
        kernels = read_log(source, arch, done.stdout)
        if disassemble and self.cuobjdump:
            threads = read_elf(self.run([self.cuobjdump, "-elf", str(cubin)]).stdout)
            opcodes = read_sass(self.run([self.cuobjdump, "-sass", str(cubin)]).stdout)
            for kernel in kernels:
                kernel.threads = threads.get(kernel.symbol, 0)
                kernel.opcodes = opcodes.get(kernel.symbol, {})
                if kernel.symbol not in opcodes:
                    self.problems.append(f"{source} for {arch}: cuobjdump shows no code of {kernel.symbol}")
        cubin.unlink()
        return kernels
