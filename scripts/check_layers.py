#!/usr/bin/env python3
"""Proves the include rules: a lower layer never includes a higher one, and third parties stay in their rooms.

    scripts/check_layers.py [ROOT]     exit code 1 and one line per violation
    scripts/check_layers.py --self-test

The layers and rooms below are the ones of core/README.md. Folders of one layer may include each other only
where no cycle arises.
"""
import pathlib
import re
import sys
import tempfile

LAYERS = {
    "core/base": 0,
    "core/config": 1,
    "core/data": 1,
    "kernels": 1,
    "core/device": 2,
    "core/comm": 3,
    "core/model": 4,
    "core/checkpoint": 4,
    "core/train": 5,
    "core/plan": 6,
    "core/run": 7,
    "apps": 8,
}

# Third-party headers (a pattern of the included name) and the files that may include them.
ROOMS = [
    (r"mpi\.h", r"core/comm/.*|kernels/simt/nccl.*|apps/main\.cpp|tests/support/mpi_main\.cpp|tests/comm/.*|tests/simt/.*"),
    (r"yaml-cpp/.*", r"core/config/yaml\.cpp"),
    (r"CLI/.*", r"apps/.*"),
    (r"(oneapi/)?dnnl.*", r"kernels/cpu/gemm\.cpp"),
    (r"nlohmann/.*", r"(core/(data|checkpoint|run)|apps)/.*|core/train/metrics\.(h|cpp)|tests/.*"),
    (r"xxhash\.h", r"core/(data|checkpoint)/.*|core/device/chunk_file\.cpp|tests/.*"),
    (r"liburing\.h", r"core/device/uring_engine\.cpp"),
    (r"cudnn.*", r"kernels/cuda/attention_cudnn\.cpp"),
    (r"nvtx3/.*", r"core/device/cuda_device\.cpp"),
    (r"cuda.*|cublas.*", r"kernels/(cuda|simt)/.*|core/device/cuda_(device|facts)\.cpp|core/comm/nccl_comm\.cpp|tests/simt/.*"),
    (r"nccl\.h", r"core/comm/nccl_comm\.cpp|kernels/simt/nccl.*|tests/simt/.*"),
    (r"catch2/.*", r"tests/support/catch\.h"),
]

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
SUFFIXES = {".h", ".cpp", ".cu", ".cuh"}


def folder_of(path):
    """The layer folder a repository path belongs to, or None."""
    for folder in LAYERS:
        if path == folder or path.startswith(folder + "/"):
            return folder
    return None


def find_cycle(edges):
    """One cycle of the folder graph as a list of names, or None. `edges`: folder -> set of included folders."""
    done, trail = set(), []

    def visit(node):
        if node in trail:
            return trail[trail.index(node):] + [node]
        if node in done:
            return None
        trail.append(node)
        for following in sorted(edges.get(node, ())):
            cycle = visit(following)
            if cycle:
                return cycle
        trail.pop()
        done.add(node)
        return None

    for node in sorted(edges):
        cycle = visit(node)
        if cycle:
            return cycle
    return None


def check_file(root, path, edges):
    """Violations of one file; adds its folder's edges."""
    problems = []
    name = path.relative_to(root).as_posix()
    source = path.read_text(encoding="utf-8", errors="replace")
    home = folder_of(name)
    for match in INCLUDE.finditer(source):
        line = source.count("\n", 0, match.start(2)) + 1
        included = match.group(2)
        for pattern, room in ROOMS:
            if re.fullmatch(pattern, included) and not re.fullmatch(room, name):
                problems.append(f"{name}:{line}: <{included}> may only be included by {room}")
        target = folder_of(included)
        if home is None or target is None or target == home:
            if home is not None and included.startswith("tests/"):
                problems.append(f"{name}:{line}: the source includes a test's \"{included}\"")
            continue
        if LAYERS[target] > LAYERS[home]:
            problems.append(
                f"{name}:{line}: {home} (layer {LAYERS[home]}) includes \"{included}\" of {target} (layer {LAYERS[target]})")
        edges.setdefault(home, set()).add(target)
    return problems


def check(root):
    problems, edges = [], {}
    for top in ("apps", "core", "kernels", "tests"):
        for path in sorted((root / top).rglob("*")):
            if path.suffix in SUFFIXES:
                problems += check_file(root, path, edges)
    cycle = find_cycle(edges)
    if cycle:
        problems.append("folders include each other in a circle: " + " -> ".join(cycle))
    return problems


def self_test():
    """Seeds violations and demands that each is found, and that clean code is not accused."""
    cases = [
        ({"core/base/a.h": "#include <vector>\n", "apps/b.cpp": '#include "core/run/run.h"\n#include <CLI/CLI.hpp>\n'}, 0),
        ({"core/base/a.h": '#pragma once\n\n#include "core/run/run.h"\n'}, 1),
        ({"kernels/cpu/a.cpp": '#include "core/device/device.h"\n'}, 1),
        ({"core/train/a.cpp": "#include <mpi.h>\n"}, 1),
        ({"core/config/validate.cpp": "  #  include <yaml-cpp/yaml.h>\n"}, 1),
        ({"core/data/a.h": '#include "core/config/config.h"\n', "core/config/b.h": '#include "core/data/a.h"\n'}, 1),
        ({"core/run/a.cpp": '#include "tests/support/catch.h"\n'}, 1),
    ]
    for number, (files, expected) in enumerate(cases):
        with tempfile.TemporaryDirectory() as directory:
            root = pathlib.Path(directory)
            for name, text in files.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text, encoding="utf-8")
            problems = check(root)
            if len(problems) != expected:
                print(f"self-test case {number}: expected {expected} violations, found {problems}")
                return 1
    print(f"check_layers self-test: {len(cases)} cases passed")
    return 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent
    problems = check(root)
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
