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


def support_table():
    """The grids that tests/grid trains and compares: a table in tests/grid/cases.h, one row a case."""
    source = (ROOT / "tests/grid/cases.h").read_text()
    rows = re.findall(r'^\s*\{"([^"]+)",\s*(\d+),\s*"([^"]*)"', source, re.M)
    if not rows:
        sys.exit("tests/grid/cases.h: no cases found")
    lines = ["| grid | ranks | config |", "|---|---|---|"]
    lines += [f"| {name} | {ranks} | `{overrides}` |" for name, ranks, overrides in rows]
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
