"""Saving: the state on disk, durably; and how long the loop is stopped for it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

import understudy
from suite import durable
from suite.measure import Figure, Workload, interleave, timed
from suite.page_cache import resident_share
from suite.roofs import Roofs
from suite.states import State, nbytes_of

OURS_STEP = "Checkpointer.save().wait()"
OURS_FILE = "save_file"
TORCH = "torch.save + fsync"
SAFETENSORS = "safetensors save_file + fsync"
DCP = "dcp.save"
OURS_BLOCKED = "Checkpointer.save"
DCP_BLOCKED = "dcp.async_save, stager kept"


def bench_save(state: State, folder: Path, roofs: Roofs, repetitions: int) -> Workload:
    saving = _Saving(folder, repetitions)
    checkpointer = understudy.Checkpointer(folder / "steps")
    writers: set[str] = set()

    def ours(path: Path) -> None:
        ticket = checkpointer.save(int(path.name), state)
        ticket.wait()
        writers.add(ticket.metrics()["writer"])

    saving.add(
        OURS_STEP,
        "ours",
        ours,
        under="steps",
        made=lambda p: p.parent / f"step-{p.name}",
    )
    saving.add(OURS_FILE, "ours", lambda path: understudy.save_file(state, path))
    saving.add(TORCH, "peer", lambda path: durable.torch_save(state, path))
    saving.add(SAFETENSORS, "peer", lambda path: durable.safetensors_save(state, path))
    saving.add(DCP, "peer", lambda path: durable.dcp_save(state, path))
    figures = saving.run()
    checkpointer.close()
    nbytes = nbytes_of(state)
    workload = Workload("save, durable", nbytes, roofs.write(nbytes, repetitions) + figures)
    workload.notes.append(f"Understudy's writer: {', '.join(sorted(writers))}")
    return workload


class _Saving:
    """Writers that take turns, each to a new path each time; what they made is deleted after."""

    def __init__(self, folder: Path, repetitions: int) -> None:
        self._folder = folder
        self._repetitions = repetitions
        self._entries: list[tuple[str, str, Callable[[], float]]] = []
        self._cached: dict[str, float] = {}
        self._number = 0

    def add(
        self,
        name: str,
        kind: str,
        write: Callable[[Path], None],
        *,
        under: str = ".",
        made: Callable[[Path], Path] = lambda path: path,
    ) -> None:
        def contestant() -> float:
            self._number += 1
            path = self._folder / under / str(self._number)
            with timed() as watch:
                write(path)
            self._cached[name] = resident_share(made(path))
            _delete(made(path))
            durable.sync(self._folder / under)
            return watch.seconds

        self._entries.append((name, kind, contestant))

    def run(self) -> list[Figure]:
        contestants = [contestant for _, _, contestant in self._entries]
        interleave(contestants, 1)  # images, buffers, code
        times = interleave(contestants, self._repetitions)
        return [
            Figure(
                name,
                seconds,
                kind,
                f"{self._cached[name]:.0%} of the file in the page cache",
            )
            for (name, kind, _), seconds in zip(self._entries, times, strict=True)
        ]


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def bench_blocked(state: State, folder: Path, roofs: Roofs, repetitions: int) -> Workload:
    """How long the call keeps the training loop, with nothing else in flight."""
    checkpointer = understudy.Checkpointer(folder / "blocked-steps")
    stager = DefaultStager(StagingOptions(False, False, False, False))
    number = 0

    def ours() -> float:
        nonlocal number
        number += 1
        with timed() as watch:
            ticket = checkpointer.save(number, state)
        shutil.rmtree(ticket.wait())
        return watch.seconds

    def peer() -> float:
        path = folder / "blocked-dcp"
        with timed() as watch:
            future = dcp.async_save(state, checkpoint_id=path, async_stager=stager, no_dist=True)
        assert isinstance(future, Future)
        future.result()
        shutil.rmtree(path)
        return watch.seconds

    interleave([ours, peer], 1)
    times = interleave([ours, peer], repetitions)
    checkpointer.close()
    stager.close()
    nbytes = nbytes_of(state)
    figures = [
        Figure(OURS_BLOCKED, times[0], "ours"),
        Figure(DCP_BLOCKED, times[1], "peer"),
    ]
    return Workload("save, loop stopped", nbytes, roofs.copy(nbytes, repetitions) + figures)
