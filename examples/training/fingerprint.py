"""Two independent answers to one question: are these states the same to the last bit?"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of a state dict with its path, in order."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield from leaves(child, f"{path}.{key}" if path else str(key))
    elif isinstance(value, (list, tuple)):
        for index, child in enumerate(value):
            yield from leaves(child, f"{path}.{index}" if path else str(index))
    else:
        yield path, value


def fingerprint(state: dict[str, Any]) -> dict[str, str]:
    """A SHA-256 for each part of the state, taken by the process that holds it.

    Nothing of Understudy has a hand in this: a witness of its own.
    """
    return {name: _digest(part) for name, part in state.items()}


def _digest(part: Any) -> str:
    digest = hashlib.sha256()
    for path, leaf in leaves(part):
        digest.update(path.encode())
        digest.update(_leaf_bytes(leaf))
    return digest.hexdigest()


def _leaf_bytes(leaf: Any) -> bytes | memoryview:
    if isinstance(leaf, torch.Tensor):
        return leaf.detach().contiguous().view(-1).view(torch.uint8).numpy().data
    if isinstance(leaf, np.ndarray):
        return leaf.tobytes()
    if isinstance(leaf, float):
        return struct.pack("<d", leaf)  # the bits, so that -0.0 and NaN count
    if leaf is None or isinstance(leaf, (bool, int, str, bytes)):
        return repr(leaf).encode()
    raise TypeError(f"a {type(leaf).__name__} has no fingerprint")


def differences(a: Any, b: Any) -> list[str]:
    """Paths at which two states differ; tensors are compared with `torch.equal`."""
    left, right = dict(leaves(a)), dict(leaves(b))
    found = [f"{path}: only in one of them" for path in left.keys() ^ right.keys()]
    for path in left.keys() & right.keys():
        x, y = left[path], right[path]
        if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor):
            same = x.dtype == y.dtype and torch.equal(x, y)
        elif isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
            same = x.dtype == y.dtype and np.array_equal(x, y)
        else:
            same = type(x) is type(y) and x == y
        if not same:
            found.append(f"{path}: the values differ")
    return sorted(found)
