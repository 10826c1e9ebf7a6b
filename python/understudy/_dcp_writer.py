"""The side of ``torch.distributed.checkpoint`` that writes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch.distributed.checkpoint import storage
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex, StorageMeta
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner, WriteItem, WriteItemType
from torch.futures import Future

from understudy._core import PartWriter, StepInParts, _error
from understudy._dcp_paths import RAW_KEY, is_path, require_path

# The process that has drawn it, and eight hex digits.
_drawn: tuple[int, str] = (0, "")


def _mark() -> str:
    """What ends the names of temporary folders: drawn once in a coordinator's process, because
    plans that DCP has cached bring an old one along."""
    global _drawn
    if _drawn[0] != os.getpid():
        _drawn = (os.getpid(), secrets.token_hex(4))
    return _drawn[1]


@dataclass(frozen=True)
class _Task:
    """What the coordinator tells a rank."""

    mark: str
    rank: int
    count: int


@dataclass(frozen=True)
class _Written:
    """What a rank tells the coordinator of one file."""

    report: bytes
    raw: list[str]


@dataclass
class _Part:
    """What goes into one file."""

    leaves: dict[str, Any] = field(default_factory=dict)
    places: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    raw: list[str] = field(default_factory=list)


class StorageWriter(storage.StorageWriter):
    """Writes the checkpoints of ``dcp.save`` and ``dcp.async_save`` as steps of Understudy.

    A checkpoint is there whole, durable and with checksums, or not at all: all ranks write into a
    temporary folder beside it, and the coordinator renames that when all have succeeded. It is
    read by `StorageReader`, ``understudy.load_file``, the command line, a `Checkpointer` (when its
    name is a step's, such as ``step-7``) and DCP's own ``HuggingFaceStorageReader``.

    Values that are no tensors are kept as they are, without pickle. A planner with a
    ``resolve_data`` or ``transform_object`` of its own decides about their bytes itself: those are
    stored as they are.

    path: the folder of one checkpoint; or give ``checkpoint_id`` to each save.
    overwrite: replace a checkpoint that exists, atomically. Else it is Error (invalid), unless it
        is an empty folder.
    allow_pickle: pickle values that have no other representation.
    writer: ``"auto"``, ``"io_uring"``, ``"threads"`` or ``"buffered"``, as for `Checkpointer`.
    threads: threads that write; None: chosen by the writer.
    max_write_rate: bytes a second that a rank writes at most, 1 MiB or more. None: no limit.
    raises Error: invalid for an argument that makes no sense.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        overwrite: bool = False,
        allow_pickle: bool = False,
        writer: Literal["auto", "io_uring", "threads", "buffered"] = "auto",
        threads: int | None = None,
        max_write_rate: float | None = None,
    ) -> None:
        self.path = path
        self._overwrite = overwrite
        self._allow_pickle = allow_pickle
        self._options: dict[str, Any] = {
            "writer": writer,
            "threads": threads,
            "max_write_rate": max_write_rate,
        }
        self._make()

    def _make(self) -> None:
        self._writer = PartWriter(**self._options)
        self._step: StepInParts | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_writer", "_step")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._make()

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Whether it is the path of a folder: a URL is not.

        checkpoint_id: what ``dcp.save`` was given.
        """
        return is_path(checkpoint_id)

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Begin a new checkpoint.

        checkpoint_id: its folder; None: the one of before.
        """
        self._abandon()
        if checkpoint_id is not None:
            self.path = checkpoint_id

    def storage_meta(self) -> StorageMeta:
        """What planners are told of the storage: the path."""
        return StorageMeta(checkpoint_id=self.path)

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Called by DCP on each rank.

        is_coordinator: whether this rank commits.
        args: none.
        kwargs: ``use_collectives`` must not be False: ranks that do not talk have no common step.
        raises Error: unsupported for that, invalid without a path.
        """
        self._abandon()
        require_path(self.path, "StorageWriter")
        if not kwargs.get("use_collectives", True):
            raise _error(
                "unsupported",
                "use_collectives=False has every rank commit by itself, and a step of Understudy "
                "is there for all ranks or for none; leave it out",
            )

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """The plan as it is.

        plan: of this rank.
        """
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Make the temporary folder, on the coordinator.

        plans: of all ranks.
        raises Error: invalid when the checkpoint exists, busy when another process saves there.
        """
        mark = _mark()
        self._step = StepInParts(self._folder(), mark, self._overwrite)
        return [
            replace(plan, storage_data=_Task(mark, rank, len(plans)))
            for rank, plan in enumerate(plans)
        ]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[storage.WriteResult]]:
        """Write this rank's part, durably, before it returns.

        plan: of this rank.
        planner: gives the data.
        raises Error: unsupported with the path of a value that cannot be stored, no_space when the
            disk is full, io when the system refuses or the ranks do not see one folder.
        """
        try:
            written = list(self._write(plan, planner))
        except BaseException:
            self._abandon()
            raise
        future: Future[list[storage.WriteResult]] = Future()
        future.set_result(written)
        return future

    def finish(self, metadata: Metadata, results: list[list[storage.WriteResult]]) -> None:
        """Commit, on the coordinator: index, manifest, fsync, rename, fsync.

        metadata: of the planner.
        results: what `write_data` gave on all ranks.
        raises Error: invalid when the parts do not make up every tensor, io when the system
            refuses. Then there is no checkpoint.
        """
        if self._step is None:
            raise _error("invalid", "finish() was called before prepare_global_plan()")
        written = [result.storage_data for rank in results for result in rank]
        raw = sorted(name for one in written for name in one.raw)
        step, self._step = self._step, None
        step.commit(
            [one.report for one in written],
            metadata.planner_data,
            {RAW_KEY: {"raw": raw}} if raw else None,
        )

    def _folder(self) -> str | os.PathLike[str]:
        return require_path(self.path, "StorageWriter")

    def _abandon(self) -> None:
        step, self._step = self._step, None
        if step is not None:
            step.abandon()

    def _write(self, plan: SavePlan, planner: SavePlanner) -> Iterator[storage.WriteResult]:
        task = plan.storage_data
        if not isinstance(task, _Task):
            raise _error(
                "invalid",
                "this plan was made for another storage; with enable_plan_caching, DCP gives a "
                "plan to the next save of the same planner class, whatever storage it has",
            )
        parts = _take_parts(plan, planner)
        for number, part in enumerate(parts):
            report = self._writer.write(
                self._folder(),
                task.mark,
                (task.rank, task.count),
                number,
                len(parts) == 1,
                part.leaves,
                part.places,
                plan.planner_data,
                self._allow_pickle,
            )
            nbytes = sum(x.nbytes for x in part.leaves.values() if isinstance(x, torch.Tensor))
            index = MetadataIndex(f"understudy.part.{task.rank}.{number}")
            yield storage.WriteResult(index, nbytes, _Written(report, part.raw))


def _take_parts(plan: SavePlan, planner: SavePlanner) -> list[_Part]:
    """The data of a plan, by files: the second chunk of a name goes into a second one."""
    parts = [_Part()]
    resolves_itself = not (
        isinstance(planner, DefaultSavePlanner)
        and type(planner).resolve_data is DefaultSavePlanner.resolve_data
        and type(planner).transform_object is DefaultSavePlanner.transform_object
    )
    for item in plan.items:
        name = item.index.fqn
        part = next((part for part in parts if name not in part.leaves), None)
        if part is None:
            part = _Part()
            parts.append(part)
        if item.type != WriteItemType.BYTE_IO:
            part.leaves[name] = _tensor_of(item, planner)
            _note_place(part, item)
        elif resolves_itself:
            part.leaves[name] = planner.resolve_data(item).getvalue()  # type: ignore[union-attr]
            part.raw.append(name)
        else:
            part.leaves[name] = planner.lookup_object(item.index)  # type: ignore[attr-defined]
    return parts


def _tensor_of(item: WriteItem, planner: SavePlanner) -> torch.Tensor:
    tensor = planner.resolve_data(item)
    if not isinstance(tensor, torch.Tensor):
        raise _error("invalid", f"the planner gave no tensor for '{item.index.fqn}'")
    data = item.tensor_data
    if data is not None and data.chunk is not None and data.chunk.sizes != tensor.size():
        raise _error(
            "invalid",
            f"the planner gave a tensor of the shape {list(tensor.size())} for '{item.index.fqn}', "
            f"and had planned {list(data.chunk.sizes)}",
        )
    return tensor if tensor.device.type == "cpu" else tensor.cpu()


def _note_place(part: _Part, item: WriteItem) -> None:
    data = item.tensor_data
    if data is not None and data.chunk is not None and data.chunk.sizes != data.size:
        part.places[item.index.fqn] = (tuple(data.chunk.offsets), tuple(data.size))
