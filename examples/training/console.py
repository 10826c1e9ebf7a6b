"""What the demo shows while it runs: headings, one moving line, tables."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

_BAR = 30  # characters


def heading(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def say(text: str) -> None:
    print(f"  {text}", flush=True)


class ProgressLine:
    """A bar that moves on a terminal; a line every few seconds anywhere else."""

    _PLAIN_SECONDS = 5.0  # often enough to see that it lives, seldom enough for a log

    def __init__(self) -> None:
        self._last_plain = time.perf_counter()

    def show(self, done: int, total: int, note: str) -> None:
        if sys.stdout.isatty():
            filled = _BAR * done // total
            bar = "#" * filled + "." * (_BAR - filled)
            print(f"\r  [{bar}] {done:4}/{total}  {note}\033[K", end="", flush=True)
        elif time.perf_counter() - self._last_plain >= self._PLAIN_SECONDS:
            self._last_plain = time.perf_counter()
            say(f"{done:4}/{total}  {note}")

    def clear(self) -> None:
        if sys.stdout.isatty():
            print("\r\033[K", end="", flush=True)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest cell; the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    rule = ["-" * width for width in widths]
    for row in [header, rule, *rows]:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        say("  ".join(cells))
