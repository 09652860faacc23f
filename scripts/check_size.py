#!/usr/bin/env python3
"""Checks the house rule on sizes: files over 600 lines and functions over 100 are refused; files over 400 and functions
over 60 are listed, to be argued for.

    scripts/check_size.py [ROOT]     exit code 1 when something is refused
    scripts/check_size.py --self-test
"""
import pathlib
import re
import sys
import tempfile

FILE_LIMIT, FILE_NOTED = 600, 400
FUNCTION_LIMIT, FUNCTION_NOTED = 100, 60
SUFFIXES = {".h", ".cpp", ".cu", ".cuh", ".py", ".sh"}
TOPS = ("apps", "core", "kernels", "tests", "scripts")

# What comes before a brace that opens no function body.
NOT_A_FUNCTION = re.compile(r"\b(namespace|class|struct|enum|union|extern)\b[^()]*$|=\s*$|\b(do|else|try)\s*$")
CONTROL = re.compile(r"^\s*(if|for|while|switch|catch)\b")
TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.DOTALL)


def blanked(source):
    """The source with comments, strings and preprocessor lines emptied, line for line."""
    keep_lines = lambda text: re.sub(r"[^\n]", " ", text)
    source = re.sub(r"(?<=\w)'(?=\w)", " ", source)  # 1'000 is a number, not a character
    source = TOKEN.sub(lambda match: keep_lines(match.group(0)), source)
    return re.sub(r"^[ \t]*#(?:[^\n\\]|\\\n|\\.)*", lambda match: keep_lines(match.group(0)), source, flags=re.MULTILINE)


def is_function(head):
    """Whether the text before an opening brace is the head of a function. A lambda belongs to the function around it."""
    return "(" in head and not CONTROL.match(head) and not NOT_A_FUNCTION.search(head)


def functions(source):
    """(first line, lines, head) of each outermost function body of C++ source."""
    text = blanked(source)
    found, stack, head_start = [], [], 0
    for at, char in enumerate(text):
        if char == "{":
            head = text[head_start:at]
            inside = any(opened is not None for opened in stack)
            opens = not inside and is_function(head)
            begin = head_start + len(head) - len(head.lstrip())
            stack.append((text.count("\n", 0, begin) + 1, " ".join(head.split())) if opens else None)
            head_start = at + 1
        elif char == "}" and stack:
            opened = stack.pop()
            if opened is not None:
                first, head = opened
                found.append((first, text.count("\n", 0, at) + 2 - first, head))
            head_start = at + 1
        elif char == ";" and text.count("(", head_start, at) == text.count(")", head_start, at):
            head_start = at + 1
    return found


def check(root):
    """(refused, noted): lists of messages."""
    refused, noted = [], []
    for top in TOPS:
        for path in sorted((root / top).rglob("*")):
            if path.suffix not in SUFFIXES or not path.is_file():
                continue
            name = path.relative_to(root).as_posix()
            source = path.read_text(encoding="utf-8", errors="replace")
            lines = source.count("\n")
            if lines > FILE_NOTED:
                (refused if lines > FILE_LIMIT else noted).append(f"{name}: {lines} lines")
            if path.suffix in {".py", ".sh"}:
                continue
            for first, length, head in functions(source):
                # A test case is a list of cases, not a function to follow; the file limit bounds it.
                if head.startswith(("TEST_CASE", "TEMPLATE_TEST_CASE")):
                    continue
                if length > FUNCTION_NOTED:
                    (refused if length > FUNCTION_LIMIT else noted).append(
                        f"{name}:{first}: {length} lines in {head[-60:]}")
    return refused, noted


def self_test():
    body = "  x = '{' + f(\"}\");  // {\n" * 98
    cases = [
        ("void small() {\n  if (a) {\n  }\n}\n", 0, 0),
        ("namespace a {\nclass B {\n  int f() {\n" + body + "  }\n};\n}\n", 0, 1),
        ("void g(int a,\n       int b) {\n" + body + "\n\n}\n", 1, 0),
        ("int x[] = {\n" + "1,\n" * 120 + "};\n", 0, 0),
        ("// line\n" * 601, 1, 0),
        ("// line\n" * 401, 0, 1),
    ]
    for number, (source, refused, noted) in enumerate(cases):
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory) / "core" / "a.cpp"
            path.parent.mkdir()
            path.write_text(source, encoding="utf-8")
            found = check(pathlib.Path(directory))
            if (len(found[0]), len(found[1])) != (refused, noted):
                print(f"self-test case {number}: expected {refused} refused and {noted} noted, found {found}")
                return 1
    print(f"check_size self-test: {len(cases)} cases passed")
    return 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent
    refused, noted = check(root)
    for message in noted:
        print("long:", message)
    for message in refused:
        print("refused:", message)
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
