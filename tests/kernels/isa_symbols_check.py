#!/usr/bin/env python3
"""No instruction beyond the baseline where every processor comes by.   isa_symbols_check.py BUILD_DIR SET...

Of what is compiled for one instruction set (BUILD_DIR/trident_cpu_SET.o) the linker must see nothing but kernels(): any
other function could become the program's only copy of it. And what the libraries hold besides must be free of AVX-512.
"""
import pathlib
import re
import subprocess
import sys

BEYOND = re.compile(r"%(?:[zt]mm\d|[xy]mm(?:1[6-9]|2\d|3[01])\b|k[0-7]\b)")


def lines_of(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def main():
    build, sets = pathlib.Path(sys.argv[1]), sys.argv[2:]
    wrong, wide = [], 0
    for name in sets:
        path = build / f"trident_cpu_{name}.o"
        seen = lines_of("nm", "--defined-only", "--extern-only", "--demangle", path)
        if len(seen) != 1 or "trident::cpu::kernels<" not in seen[0]:
            wrong.append(f"{path} shows other symbols than kernels():\n  " + "\n  ".join(seen))
        wide += any(BEYOND.search(line) for line in lines_of("objdump", "-d", "--no-show-raw-insn", path))
    if wide != len(sets) - 1:
        wrong.append(f"{wide} of {len(sets)} sets hold AVX-512, where all but avx2 must")
    # The emulated device asks the processor before it takes its wider clones.
    libraries = [path for path in build.glob("libtrident_*.a") if "simt" not in path.name]
    for library in libraries:
        member = function = ""
        for line in lines_of("objdump", "-d", "--no-show-raw-insn", "--demangle", library):
            if "file format" in line:
                member = line.split(":")[0]
            elif line.endswith(">:"):
                function = line
            elif BEYOND.search(line) and not member.startswith("trident_cpu_"):
                wrong.append(f"{library.name}, {member}, {function}\n  {line.strip()}")
    print("\n".join(wrong[:20]) or f"{len(sets)} sets and {len(libraries)} libraries: as they should be")
    return 1 if wrong or not libraries else 0


if __name__ == "__main__":
    sys.exit(main())
