#!/usr/bin/env python3
"""Fills the generated parts of README.md: the config reference and the table of what works.

    scripts/readme.py [--check] [--trident build/release/trident]

--check changes nothing and fails when README.md is not what it would write.
"""
import argparse
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def replace(text, name, body):
    pattern = re.compile(rf"(<!-- begin:{name} -->\n).*?(<!-- end:{name} -->)", re.S)
    if not pattern.search(text):
        sys.exit(f"README.md has no part <!-- begin:{name} -->")
    return pattern.sub(lambda m: m.group(1) + body.rstrip("\n") + "\n" + m.group(2), text)


def config_reference(trident):
    text = subprocess.run([trident, "explain", "--markdown"], check=True, capture_output=True, text=True).stdout
    return "<details><summary>All keys</summary>\n\n" + text.replace("### ", "#### ") + "\n</details>\n"


MODELS = {
    "gpt2": "GPT-2, tied embeddings",
    "dropout5": "GPT-2, 5 layers, dropout",
    "uneven": "GPT-2, odd sizes",
    "llama": "Llama, grouped-query attention, untied",
    "wide_vocabulary": "GPT-2, vocabulary 50,257",
}


def support_table():
    """The grids that tests/grid/follow_test.cpp trains and holds against one rank, one row a case."""
    source = (ROOT / "tests/grid/follow_test.cpp").read_text()
    lines = ["| ranks | grid | ZeRO | precision | model |", "|---|---|---|---|---|"]
    for ranks, cases in re.findall(r"check_grids\((\d+),\s*\{(.*?)\}\);", source, re.S):
        for model, grid, rest in re.findall(r'\{(\w+)\(\), "([^"]*)"([^}]*)', cases):
            fields = [field.strip(' "') for field in rest.split(",")[1:]]
            zero = fields[0] if fields else "0"
            precision = fields[2] if len(fields) > 2 else "fp32"
            lines.append(f"| {ranks} | {grid} | {zero} | {precision} | {MODELS[model]} |")
    if len(lines) < 10:
        sys.exit("tests/grid/follow_test.cpp: its tables of cases were not understood")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--trident", default=str(ROOT / "build/release/trident"))
    arguments = parser.parse_args()
    path = ROOT / "README.md"
    before = path.read_text()
    after = replace(before, "config", config_reference(arguments.trident))
    after = replace(after, "support", support_table())
    if arguments.check:
        if before != after:
            sys.exit("README.md is out of date: run scripts/readme.py")
        return
    path.write_text(after)


if __name__ == "__main__":
    main()
