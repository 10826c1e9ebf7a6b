#!/usr/bin/env python3
"""Checks that what the documents point to is there (links, files, headings, make targets), and that
their lines are no longer than 120 columns.

    tools/check_docs.py [ROOT]

Prints `file:line: message` for each problem. Exit status 1 when there is one, or when there was
nothing to check.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

FENCE = re.compile(r"^\s*(```|~~~)")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`]+)`")
# A path of this tree inside backticks: begins with one of its folders, holds no placeholder.
TREE_PATH = re.compile(
    r"^(include|src|cli|python|tests|fuzz|bench|examples|docs|tools|\.ci)/[\w./-]*$"
)
ROOT_FILE = re.compile(r"^[A-Z][\w-]*\.(md|txt|json)$|^(Makefile|LICENSE|pyproject\.toml)$")
MAKE = re.compile(r"^make ([a-z-]+)$")
COLUMNS = 120  # what a review shows side by side on one screen


def prose(text: str) -> Iterator[tuple[int, str]]:
    """The numbered lines outside of fenced blocks."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if FENCE.match(line):
            fenced = not fenced
        elif not fenced:
            yield number, line


def anchors(text: str) -> set[str]:
    """The anchors that a reader's browser makes of the headings."""
    return {
        re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower()).replace(" ", "-")
        for _, line in prose(text)
        if line.startswith("#")
    }


def check_link(root: Path, path: Path, target: str) -> str | None:
    if re.match(r"[a-z]+:", target):
        return None  # other places answer for themselves
    name, _, anchor = target.partition("#")
    file = path.parent / name if name else path
    if not file.exists():
        return f"the link to {target} leads nowhere"
    if not file.resolve().is_relative_to(root.resolve()):
        return f"the link to {target} leads out of the tree"
    if anchor and file.suffix == ".md" and anchor not in anchors(file.read_text("utf-8")):
        return f"{name or path.name} has no heading for #{anchor}"
    return None


def check_code(root: Path, code: str, targets: set[str]) -> str | None:
    if match := MAKE.match(code):
        return None if match[1] in targets else f"the Makefile has no target {match[1]}"
    if (TREE_PATH.match(code) or ROOT_FILE.match(code)) and not (root / code).exists():
        return f"there is no {code}"
    return None


def check_width(line: str) -> str | None:
    """Rows of tables are left alone: Markdown has no way to break one."""
    if len(line) <= COLUMNS or line.lstrip().startswith("|"):
        return None
    return f"the line has {len(line)} columns, more than {COLUMNS}"


def documents(root: Path) -> list[Path]:
    return [*sorted(root.glob("*.md")), *sorted(root.glob("docs/**/*.md"))]


def main() -> int:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    makefile = root / "Makefile"
    rules = makefile.read_text("utf-8") if makefile.exists() else ""
    targets = set(re.findall(r"^([a-z-]+):", rules, re.MULTILINE))
    problems = 0
    for path in documents(root):
        text = path.read_text("utf-8")
        checks: list[tuple[int, str | None]] = [
            (number, check_width(line)) for number, line in enumerate(text.splitlines(), 1)
        ]
        for number, line in prose(text):
            found = [check_link(root, path, target) for target in LINK.findall(line)]
            found += [check_code(root, code, targets) for code in CODE.findall(line)]
            checks += [(number, message) for message in found]
        for number, message in checks:
            if message:
                problems += 1
                print(f"{path.relative_to(root)}:{number}: {message}")
    print(f"check_docs: {len(documents(root))} documents, {problems} problems")
    return 1 if problems or not documents(root) else 0


if __name__ == "__main__":
    sys.exit(main())
