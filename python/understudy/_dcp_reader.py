"""The side of ``torch.distributed.checkpoint`` that reads."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch.distributed.checkpoint import storage
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlan, LoadPlanner, ReadItem
from torch.futures import Future

from understudy._core import PartReader, _error
from understudy._dcp_paths import RAW_KEY, is_path, require_path

_Entry = TensorStorageMetadata | BytesStorageMetadata


class _Entries(dict[str, Any]):
    """What is stored, by name. Made when it is asked for: a large job has millions of chunks, of
    which a rank needs few."""

    def __init__(self, reader: PartReader) -> None:
        self._reader = reader
        # None for values; else dtype and shape, and later the whole entry.
        super().__init__()
        for name, _, dtype, shape in reader.leaves():
            super().__setitem__(name, None if dtype is None else (dtype, shape))

    def __contains__(self, name: object) -> bool:
        # A container is there as well: it may have been saved as one value.
        return super().__contains__(name) or (isinstance(name, str) and self._reader.has(name))

    def __getitem__(self, name: str) -> _Entry:
        known = super().get(name)
        if known is None:
            if name not in self:
                raise KeyError(name)
            return BytesStorageMetadata()
        if isinstance(known, TensorStorageMetadata):
            return known
        dtype, shape = known
        entry = TensorStorageMetadata(
            properties=TensorProperties(dtype=getattr(torch, dtype)),
            size=torch.Size(shape),
            chunks=[
                ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes))
                for offsets, sizes in self._reader.chunks(name)
            ],
        )
        super().__setitem__(name, entry)
        return entry

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default

    def values(self) -> Any:
        return dict(self._all()).values()

    def items(self) -> Any:
        return dict(self._all()).items()

    def _all(self) -> Iterator[tuple[str, _Entry]]:
        for name in self:
            yield name, self[name]

    def __reduce__(self) -> Any:
        return dict, (dict(self._all()),)

    def dtype_of(self, name: str) -> torch.dtype:
        entry = self[name]
        if isinstance(entry, BytesStorageMetadata):
            raise _error("invalid", f"'{name}' is a value, and a tensor is wanted")
        return entry.properties.dtype


class StorageReader(storage.StorageReader):
    """Reads steps of Understudy with ``dcp.load``: those of `StorageWriter` and of
    `Checkpointer`, of any number of ranks, into any placement.

    Every block of which a byte is wanted is verified. That chunks make up each tensor is proved
    before anything is read. DCP loads in place: after an error some tensors may have new values.

    path: the folder of a step; or give ``checkpoint_id`` to each load.
    verify: check the checksums of what is read.
    allow_pickle: load pickled values. A pickle can execute any code: load only what you trust.
    threads: threads that read; None: chosen by the reader.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        verify: bool = True,
        allow_pickle: bool = False,
        threads: int | None = None,
    ) -> None:
        self.path = path
        self._verify = verify
        self._allow_pickle = allow_pickle
        self._threads = threads
        self._reader: PartReader | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reader": None, "_entries": None}

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Whether it is the path of a folder: a URL is not.

        checkpoint_id: what ``dcp.load`` was given.
        """
        return is_path(checkpoint_id)

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Begin a new load.

        checkpoint_id: the step's folder; None: the one of before.
        """
        self._reader = None
        if checkpoint_id is not None:
            self.path = checkpoint_id

    # No **kwargs: with them DCP would try again by ranks after an error on one of them.
    def read_metadata(self) -> Metadata:
        """What the step has.

        raises Error: not_found when there is no step, corrupt when it is damaged or a tensor is
            not there whole.
        """
        path = require_path(self.path, "StorageReader")
        self._reader = PartReader(
            path, verify=self._verify, allow_pickle=self._allow_pickle, threads=self._threads
        )
        facts = self._reader.metadata() or {}
        raw = facts.get(RAW_KEY)
        self._raw = set(raw.get("raw", ())) if isinstance(raw, dict) else set()
        self._entries = _Entries(self._reader)
        return Metadata(
            state_dict_metadata=self._entries,
            planner_data={name: path for name, path, _, _ in self._reader.leaves()},
            storage_meta=StorageMeta(checkpoint_id=self.path),
        )

    def set_up_storage_reader(
        self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any
    ) -> None:
        """Called by DCP on each rank.

        metadata: what `read_metadata` gave.
        is_coordinator: of no meaning here.
        args: none.
        kwargs: of no meaning here.
        """

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """The plan as it is.

        plan: of this rank.
        """
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """The plans as they are.

        plans: of all ranks.
        """
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Read this rank's part, before it returns.

        plan: of this rank.
        planner: knows where the data goes.
        raises Error: corrupt when the bytes are not what was written, with the file and the place.
        """
        if self._reader is None:
            raise _error("invalid", "read_data() was called before read_metadata()")
        tensors = [item for item in plan.items if item.type != LoadItemType.BYTE_IO]
        self._read_tensors(self._reader, tensors, planner)
        for item in plan.items:
            if item.type == LoadItemType.BYTE_IO:
                planner.load_bytes(item, self._bytes_of(self._reader, item.storage_index.fqn))
        future: Future[None] = Future()
        future.set_result(None)
        return future

    def _bytes_of(self, reader: PartReader, name: str) -> io.BytesIO:
        value = reader.value(name)
        if name in self._raw:
            return io.BytesIO(value)
        saved = io.BytesIO()
        torch.save(value, saved)
        saved.seek(0)
        return saved

    def _read_tensors(
        self, reader: PartReader, items: list[ReadItem], planner: LoadPlanner
    ) -> None:
        names: list[str] = []
        offsets: list[tuple[int, ...]] = []
        buffers: list[torch.Tensor] = []
        targets: list[torch.Tensor] = []
        for item in items:
            name = item.storage_index.fqn
            target = planner.resolve_tensor(item).detach()
            if target.size() != item.lengths:
                raise _error(
                    "invalid",
                    f"the planner gave a tensor of the shape {list(target.size())} for '{name}', "
                    f"and had planned {list(item.lengths)}",
                )
            begin = item.storage_index.offset or (0,) * len(item.lengths)
            names.append(name)
            offsets.append(tuple(a + b for a, b in zip(begin, item.storage_offsets, strict=True)))
            targets.append(target)
            buffers.append(_buffer_for(target, self._entries.dtype_of(name)))
        reader.read(names, offsets, buffers)
        for item, target, buffer in zip(items, targets, buffers, strict=True):
            if buffer is not target:
                target.copy_(buffer)
            planner.commit_tensor(item, target)


def _buffer_for(target: torch.Tensor, stored: torch.dtype) -> torch.Tensor:
    """`target` where bytes can be read straight to it; else memory from which it is copied."""
    is_direct = (
        type(target) is torch.Tensor
        and target.device.type == "cpu"
        and target.layout is torch.strided
        and target.dtype == stored
        and not target.is_conj()
        and not target.is_neg()
    )
    return target if is_direct else torch.empty(tuple(target.size()), dtype=stored)
