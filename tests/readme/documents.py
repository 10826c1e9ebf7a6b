"""Finds the fenced examples of a document.

A block that cannot run here stands below a line `<!-- not run: reason -->`. What an example leaves
to its reader (a model, a loop) stands in an HTML comment before it, where readers do not see it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOT_RUN = re.compile(r"<!-- not run: \S.* -->")


@dataclass
class Block:
    language: str
    line: int  # of its first line of code, from 1
    text: str
    is_run: bool


def blocks(document: Path) -> list[Block]:
    found = []
    opened: Block | None = None
    before = ""
    for number, line in enumerate(document.read_text("utf-8").splitlines(), 1):
        if opened is None and line.startswith("```"):
            opened = Block(line[3:].strip(), number + 1, "", not NOT_RUN.fullmatch(before))
        elif opened is not None and line.startswith("```"):
            found.append(opened)
            opened = None
        elif opened is not None:
            opened.text += line + "\n"
        if line.strip():
            before = line.strip()
    if opened is not None:
        raise ValueError(f"{document}:{opened.line}: the block never ends")
    return found


def documents() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def script(document: Path, language: str) -> str:
    """All blocks of a language that are run, on the lines where the document has them, so that an
    error points into the document."""
    text = ""
    for block in blocks(document):
        if block.language == language and block.is_run:
            text += "\n" * (block.line - 1 - text.count("\n")) + block.text
    return text
