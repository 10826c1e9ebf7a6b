"""For ``torch.distributed.checkpoint`` (DCP): a stager whose copies nobody overwrites, and storage
whose checkpoints are there whole, durable and with checksums, or not at all.

    stager = understudy.dcp.AsyncStager()
    writer = understudy.dcp.StorageWriter()
    while training:
        train_one_step()
        if time_to_save:
            saved = dcp.async_save(
                state_dict, checkpoint_id=path, storage_writer=writer, async_stager=stager
            )
    saved.result()
    stager.close()
    dcp.load(state_dict, storage_reader=understudy.dcp.StorageReader(path))

Importing this module imports torch.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from concurrent.futures import Future
from typing import Any, Literal

import torch
from torch.distributed.checkpoint import staging

from understudy._core import Error, TensorStager, _error
from understudy._dcp_reader import StorageReader
from understudy._dcp_writer import StorageWriter

__all__ = ["AsyncStager", "StorageReader", "StorageWriter"]

# Names as users import them, in messages.
for _public in (StorageReader, StorageWriter):
    _public.__module__ = __name__
del _public

# While it waits for an image: often enough that nobody notices, rarely enough to cost nothing.
_POLL_S = 0.002
# What only a cycle refers to (a failed save and its traceback) is collected after this long.
_COLLECT_AFTER_S = 0.1


class AsyncStager(staging.AsyncStager):
    """Stages state dicts for ``async_save``, in threads and in processes.

    The copy is complete when ``stage`` returns: what the trainer writes after that, and what later
    calls stage, never reaches it. It leases an image, a set of buffers that is used again once
    nobody refers to any tensor of the copy. Use one stager for all saves of a run.

    images: copies that may exist at once; each costs the size of the state.
    memory: ``"shared"`` is sent to the process of ``AsyncCheckpointerType.PROCESS`` without being
        copied, and is as good for threads; ``"pageable"`` is private memory. ``"auto"`` is shared.
    when_busy: when all images are leased, because earlier saves still write: ``"wait"``, or
        ``"error"`` (Error with code busy). ``"skip"``, with `future`: the Future has that error,
        and training goes on.
    threads: copying threads; by default the cores that this process may use.
    future: return a Future, so that ``async_save`` returns an ``AsyncSaveResponse``.
    """

    _synchronize_after_execute = False

    def __init__(
        self,
        *,
        images: int = 2,
        memory: Literal["auto", "pageable", "shared"] = "auto",
        when_busy: str = "wait",
        threads: int | None = None,
        future: bool = False,
    ) -> None:
        if images < 1:
            raise _error("invalid", f"images must be at least 1, not {images}")
        if memory not in ("auto", "pageable", "shared"):
            raise _error("invalid", f"memory is 'auto', 'pageable' or 'shared', not {memory!r}")
        if when_busy not in ("wait", "skip", "error"):
            raise _error("invalid", f"when_busy is 'wait', 'skip' or 'error', not {when_busy!r}")
        if when_busy == "skip" and not future:
            raise _error(
                "invalid", "when_busy='skip' needs future=True: async_save has no other way to skip"
            )
        self._images = images
        self._memory: Literal["pageable", "shared"] = (
            "pageable" if memory == "pageable" else "shared"
        )
        self._when_busy = when_busy
        self._threads = threads
        self._future = future
        self._process = os.getpid()
        self._here = os.getpid  # at the interpreter's end modules are empty
        self._lock = threading.Lock()
        self._stagers = [self._make_stager()]
        self.waited_s = 0.0  # in all calls together

    def stage(self, state_dict: dict[str, Any]) -> Future[dict[str, Any]] | dict[str, Any]:
        """A copy of `state_dict` in host memory: the same containers, and tensors, DTensors and
        ShardedTensors on the CPU. An error says where in the state it happened; the stager can be
        used on.

        state_dict: what ``async_save`` was given.
        raises Error: busy when all images are leased and `when_busy` is ``"error"``, no_space when
            there is no memory for a copy.
        """
        if not self._future:
            return self._stage(state_dict)
        future: Future[dict[str, Any]] = Future()
        try:
            future.set_result(self._stage(state_dict))
        except Error as error:
            if error.code != "busy" or self._when_busy != "skip":
                raise
            future.set_exception(error)
        return future

    def synchronize_staging(self) -> None:
        """Nothing to wait for: the copy is complete when `stage` returns."""

    def close(self) -> None:
        """Give the images back; leased ones when their leases end. A later call starts anew."""
        if self._here() != self._process:
            return  # in a forked child, whose copy of the lock may be held for ever
        with self._lock:
            stagers, self._stagers = self._stagers, []
            for stager in stagers:
                stager.close()

    def _stage(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        self._require_home()
        with self._lock, torch.inference_mode(False), torch.no_grad():
            staged: dict[str, Any] = self._free_stager().stage(state_dict, None, None, False)
            return staged

    def _require_home(self) -> None:
        # Before the lock, which a thread that a forked child does not have may hold for ever.
        here = self._here()
        if here != self._process:
            raise _error(
                "closed",
                f"a stager belongs to process {self._process} and cannot be used in process "
                f"{here}, which was forked from it; make a new one there",
            )

    def _make_stager(self) -> TensorStager:
        return TensorStager(memory=self._memory, threads=self._threads, lease=True)

    def _free_stager(self) -> TensorStager:
        began = time.monotonic()
        is_collected = False
        while True:
            for stager in self._stagers:
                if not stager.is_leased():
                    self.waited_s += time.monotonic() - began
                    return stager
            if len(self._stagers) < self._images:
                self._stagers.append(self._make_stager())
                continue
            if self._when_busy != "wait":
                raise _error(
                    "busy",
                    f"all {self._images} images are leased: earlier copies are still being "
                    "written or held",
                )
            time.sleep(_POLL_S)
            if not is_collected and time.monotonic() - began > _COLLECT_AFTER_S:
                gc.collect()
                is_collected = True
