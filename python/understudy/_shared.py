"""Storages in shared memory of ours, and how they are sent to other processes.

torch's own shared storages take a descriptor, a mapping and a page each. These are pieces of a few
segments, each of which is sent once and mapped once by who receives it.
"""

from __future__ import annotations

import copy
import os
import weakref
from collections.abc import Callable
from multiprocessing import reduction
from typing import Any, cast

import torch
from torch.multiprocessing import reductions

from understudy._core import SharedSegment

# What torch does not annotate.
_new: Callable[[int], torch.UntypedStorage] = torch.UntypedStorage
_reduce_moved: Callable[..., Any] = reductions.reduce_storage


class UntypedStorage(torch.UntypedStorage):
    """What torch calls an UntypedStorage, over a piece of a segment. Each object that is one was
    made by torch, and got this class afterwards."""

    __slots__ = ()

    def is_shared(self) -> bool:
        return self.nbytes() == 0 or _segment_of(self) is not None or super().is_shared()

    def share_memory_(self, *args: Any, **kwargs: Any) -> UntypedStorage:
        if not self.is_shared():
            super().share_memory_(*args, **kwargs)
        return self

    # Copies are torch's own: it does not take a derived class for them.

    def clone(self) -> torch.UntypedStorage:
        return _new(self.nbytes()).copy_(self)

    def cpu(self) -> torch.UntypedStorage:
        return self.clone()

    def __reduce__(self) -> Any:
        return copy.copy, (self.clone(),)


# The storages here that have been sent or received, by where they begin: a storage that comes back,
# or comes twice, is the one that is here.
_known: weakref.WeakValueDictionary[int, UntypedStorage] = weakref.WeakValueDictionary()
# Where the segments begin that have been sent or received, by the file's identity.
_segments: dict[tuple[int, int], int] = {}


def _segment_of(storage: torch.UntypedStorage) -> SharedSegment | None:
    return SharedSegment.at(storage.data_ptr())


def _reduce_storage(storage: UntypedStorage) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    nbytes = storage.nbytes()
    if nbytes == 0:
        return _no_bytes, ()
    segment = _segment_of(storage)
    if segment is None:  # torch has moved it
        reduced: tuple[Callable[..., Any], tuple[Any, ...]] = _reduce_moved(storage)
        return reduced
    at = storage.data_ptr()
    _known[at] = storage
    return _rebuild_storage, (segment, at - segment.data_ptr, nbytes)


def _reduce_segment(segment: SharedSegment) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Once for all storages that are sent together: who pickles remembers the object."""
    _remember(segment)
    return _rebuild_segment, (reduction.DupFd(segment.fd), segment.nbytes)


def _rebuild_segment(sent: Any, nbytes: int) -> SharedSegment:
    fd = sent.detach()
    known = _found(_identity(fd))
    if known is not None:
        os.close(fd)
        return known
    segment = SharedSegment.map(fd, nbytes)
    _remember(segment)
    return segment


def _found(identity: tuple[int, int]) -> SharedSegment | None:
    segment = SharedSegment.at(_segments.get(identity, 0))
    return segment if segment is not None and _identity(segment.fd) == identity else None


def _remember(segment: SharedSegment) -> None:
    identity = _identity(segment.fd)
    if _segments.get(identity) == segment.data_ptr:
        return
    for known in list(_segments):
        if _found(known) is None:
            _segments.pop(known, None)
    _segments[identity] = segment.data_ptr


def _rebuild_storage(segment: SharedSegment, offset: int, nbytes: int) -> UntypedStorage:
    at = segment.data_ptr + offset
    known = _known.get(at)
    if known is not None and known.nbytes() == nbytes and known.data_ptr() == at:
        return known
    storage = cast(UntypedStorage, segment.storage(offset, nbytes))
    _known[at] = storage
    return storage


def _no_bytes() -> UntypedStorage:
    storage = _new(0)
    storage.__class__ = UntypedStorage
    return cast(UntypedStorage, storage)


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


reduction.register(UntypedStorage, _reduce_storage)
reduction.register(SharedSegment, _reduce_segment)
