"""Filling and emptying the page cache for one file, and proof of it."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import numpy as np

_CHUNK = 8 << 20  # bytes a read
_libc = ctypes.CDLL(None, use_errno=True)


class NotCold(RuntimeError):
    """The page cache would not let go of a file."""


def files_below(path: Path) -> list[Path]:
    return [path] if path.is_file() else [p for p in sorted(path.rglob("*")) if p.is_file()]


def resident_share(path: Path) -> float:
    """The share of the pages of a file, or of a folder's files, that the page cache holds."""
    resident = total = 0
    for file in files_below(path):
        if file.stat().st_size:
            here, pages = _resident_pages(file)
            resident += here
            total += pages
    return resident / max(1, total)


def _resident_pages(path: Path) -> tuple[int, int]:
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapping,
    ):
        pages = -(-len(mapping) // mmap.PAGESIZE)
        flags = (ctypes.c_ubyte * pages)()
        view = np.frombuffer(mapping, dtype=np.uint8)
        address, length = view.ctypes.data, len(mapping)
        del view  # else the mapping cannot be closed
        if _libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(length), flags) != 0:
            raise OSError(ctypes.get_errno(), "mincore", str(path))
        # The lowest bit says "resident"; the others are reserved.
        return int((np.ctypeslib.as_array(flags) & 1).sum()), pages


def warm(path: Path) -> None:
    """Reads everything once."""
    buffer = bytearray(_CHUNK)
    for file in files_below(path):
        with file.open("rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass


def evict(path: Path) -> str:
    """Empties the page cache of the files, checks it, and says how."""
    for file in files_below(path):
        with file.open("rb") as stream:
            os.fsync(stream.fileno())  # dirty pages cannot be dropped
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    how = "posix_fadvise"
    if resident_share(path) > 0.01 and os.geteuid() == 0:
        Path("/proc/sys/vm/drop_caches").write_text("1")
        how = "drop_caches"
    share = resident_share(path)
    if share > 0.01:  # a page or two may be read ahead by others; a real share may not
        raise NotCold(f"{share:.0%} of {path} stay in the page cache")
    return how
