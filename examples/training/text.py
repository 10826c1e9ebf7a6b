"""Real text that is on every machine: the source of Python's standard library."""

from __future__ import annotations

import os
import random
import sysconfig
from pathlib import Path
from typing import Any

import torch

# What other people installed is not the standard library.
_SKIPPED_FOLDERS = {"site-packages", "dist-packages", "__pycache__"}


def standard_library_text(limit: int) -> tuple[torch.Tensor, int]:
    """The first `limit` bytes of all `*.py` files in a fixed order, and in how many they lie."""
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in _SKIPPED_FOLDERS]
        paths += [Path(folder, name) for name in names if name.endswith(".py")]
    text = bytearray()
    files = 0
    for path in sorted(paths):
        if len(text) >= limit:
            break
        text += path.read_bytes()
        files += 1
    del text[limit:]
    return torch.frombuffer(text, dtype=torch.uint8), files


class TextLoader:
    """Walks through the text; each row starts a little further on than the last ended.

    The gap comes from Python's `random`, so a batch depends on the loader's
    position *and* on a global random generator: both are training state.
    """

    def __init__(self, text: torch.Tensor, *, batch: int, context: int) -> None:
        self._text = text
        self._batch = batch
        self._context = context
        self._position = 0

    def next_batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets, (batch, context), of type int64."""
        rows = [self._next_row() for _ in range(self._batch)]
        window = torch.stack(rows).long()
        return window[:, :-1], window[:, 1:]

    def _next_row(self) -> torch.Tensor:
        length = self._context + 1  # one more: the targets are the inputs moved by one
        self._position += random.randrange(self._context)
        if self._position + length > len(self._text):
            self._position = 0
        row = self._text[self._position : self._position + length]
        self._position += length
        return row

    def state_dict(self) -> dict[str, Any]:
        return {"position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._position = int(state["position"])
