#!/usr/bin/env python3
"""Counts what a ctest run executed: test cases where a program reports them, else the program as one.

    scripts/count_tests.py LOG      LOG is BUILD/Testing/Temporary/LastTest.log; prints "PASSED FAILED"
"""
import pathlib
import re
import sys

TEST = re.compile(r"^\d+/\d+ Testing: (\S+)$", re.MULTILINE)
ALL_PASSED = re.compile(r"^All tests passed \(\d+ assertions? in (\d+) test cases?\)", re.MULTILINE)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # mpirun gives its ranks a terminal
SUMMARY = re.compile(r"^test cases:\s+(\d+)\s*\|(.*)$", re.MULTILINE)


def count_program(text):
    """(passed, failed) of one program's part of the log. Ranks of one MPI program report the same cases: one counts."""
    failed_program = "\nTest Passed.\n" not in text
    totals = [(int(found), 0) for found in ALL_PASSED.findall(text)]
    for total, rest in SUMMARY.findall(text):
        found = re.search(r"(\d+) failed", rest)
        failed = int(found.group(1)) if found else 0
        totals.append((int(total) - failed, failed))
    if not totals:
        return (0, 1) if failed_program else (1, 0)
    passed, failed = max(totals, key=lambda total: (total[1], total[0]))
    # A program that ended badly without a failed case crashed, hung or reported a leak.
    return passed, max(failed, int(failed_program))


def main():
    log = COLOUR.sub("", pathlib.Path(sys.argv[1]).read_text(encoding="utf-8", errors="replace"))
    starts = [match.start() for match in TEST.finditer(log)] + [len(log)]
    counts = [count_program(log[begin:end]) for begin, end in zip(starts, starts[1:])]
    print(sum(passed for passed, _ in counts), sum(failed for _, failed in counts))


if __name__ == "__main__":
    main()
