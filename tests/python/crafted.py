"""Files that no writer makes, with digests that are right: these are checksums, not signatures."""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BLOCK_NBYTES = 4 << 20
DIGEST_DIGITS = 32


class _Hash128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


def _xxhash() -> ctypes.CDLL:
    # The library is built with its headers, so it is there where the tests are.
    name = ctypes.util.find_library("xxhash")
    assert name is not None, "libxxhash is missing (libxxhash-dev brings it)"
    library = ctypes.CDLL(name)
    library.XXH3_64bits.restype = ctypes.c_uint64
    library.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    library.XXH3_128bits.restype = _Hash128
    library.XXH3_128bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    return library


def hash64(data: bytes) -> str:
    return f"{_xxhash().XXH3_64bits(data, len(data)):016x}"


def hash128(data: bytes) -> str:
    found = _xxhash().XXH3_128bits(data, len(data))
    return f"{found.high:016x}{found.low:016x}"


def checksums(data: bytes) -> str:
    blocks = range(0, len(data), BLOCK_NBYTES)
    return "".join(hash64(data[i : i + BLOCK_NBYTES]) for i in blocks)


Entry = tuple[str, str, list[int], int, int]  # name, dtype, shape, begin, end


def craft(
    path: Path,
    tree: object,
    entries: Sequence[Entry] = (),
    data: bytes = b"",
    *,
    digits: str | None = None,
    metadata: dict[str, str] | None = None,
) -> Path:
    """A file of ours. `tree` is the text, or what it is the JSON of."""
    text = tree if isinstance(tree, str) else json.dumps(tree, separators=(",", ":"))
    header: dict[str, Any] = {
        "__metadata__": {
            "understudy.digest": "0" * DIGEST_DIGITS,
            "understudy.format": "1.0",
            **(metadata or {}),
            "understudy.checksums": checksums(data) if digits is None else digits,
            "understudy.tree": text,
        }
    }
    for name, dtype, shape, begin, end in entries:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    raw = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    raw += b" " * (-(8 + len(raw)) % 4096)
    whole = struct.pack("<Q", len(raw)) + raw
    at = whole.index(b"0" * DIGEST_DIGITS)
    whole = whole[:at] + hash128(whole).encode() + whole[at + DIGEST_DIGITS :]
    path.write_bytes(whole + data)
    return path


def manifest(members: dict[str, object], *lines: str) -> str:
    """A manifest's text; `members` go over what an empty step has, `lines` come after them."""
    base: dict[str, object] = {
        "version": "1.0",
        "required_features": [],
        "step": 1,
        "world_size": 1,
        "time": "x",
        "files": [],
        "metadata": None,
    }
    named = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in {**base, **members}.items()]
    text = "{\n" + ",\n".join("  " + line for line in [*named, *lines]) + ',\n  "digest": "'
    return text + hash128((text + "0" * DIGEST_DIGITS + '"\n}\n').encode()) + '"\n}\n'
