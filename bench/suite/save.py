"""Saving: the state on disk, durably; and how long the loop is stopped for it."""

from __future__ import annotations

import contextlib
import functools
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
ROOF = "direct write, depth 8, fsync"
ROOF_HASHED = "the same, XXH3 on the way"
OURS_BLOCKED = "Checkpointer.save"
OURS_OVERLAPPED = "Checkpointer.save, overlapped"
DCP_BLOCKED = "dcp.async_save, stager kept"
OURS_FIRST = "Checkpointer.save, first"
OURS_FIRST_PREWARMED = "Checkpointer.save, first, prewarmed"
OURS_LATER = "Checkpointer.save, later"
DCP_FIRST = "dcp.async_save, first"
WRITERS = ("io_uring", "threads", "buffered")


def forced(writer: str) -> str:
    return f"save_file(writer='{writer}')"


def bench_save(
    name: str,
    state: State,
    folder: Path,
    roofs: Roofs,
    repetitions: int,
    *,
    each_writer: bool = False,
) -> Workload:
    """Everybody's durable save, and the roof, in turns. With `each_writer` ours by each of them."""
    saving = _Saving(folder, repetitions)
    checkpointer = understudy.Checkpointer(folder / "steps")
    named: set[str] = set()
    nbytes = nbytes_of(state)

    def ours(path: Path) -> None:
        ticket = checkpointer.save(int(path.name), state)
        ticket.wait()
        named.add(ticket.metrics()["writer"])

    saving.add_step(OURS_STEP, ours)
    saving.add(OURS_FILE, "ours", lambda path: understudy.save_file(state, path))
    saving.add_roof(ROOF, lambda: roofs.write_once(nbytes))
    saving.add_roof(ROOF_HASHED, lambda: roofs.write_once(nbytes, hashed=True))
    for writer in WRITERS if each_writer and _takes_direct_io(state, folder) else ():
        saving.add(
            forced(writer),
            "ours",
            lambda path, writer=writer: understudy.save_file(state, path, writer=writer),
        )
    saving.add(TORCH, "peer", lambda path: durable.torch_save(state, path))
    saving.add(SAFETENSORS, "peer", lambda path: durable.safetensors_save(state, path))
    saving.add(DCP, "peer", lambda path: durable.dcp_save(state, path))
    workload = Workload(f"save, durable, {name}", nbytes, saving.run())
    checkpointer.close()
    workload.notes.append(f"Understudy's writer: {', '.join(sorted(named))}")
    return workload


def _takes_direct_io(state: State, folder: Path) -> bool:
    """Whether each writer can be asked for here; an error says which cannot."""
    path = folder / "asked"
    name, tensor = next(iter(state.items()))
    try:
        for writer in WRITERS:
            understudy.save_file({name: tensor}, path, writer=writer)
    except understudy.Error as error:
        print(f"  not every writer can be measured: {error}")
        return False
    path.unlink()
    return True


class _Saving:
    """Writers that take turns, each to a new path each time; what they made is deleted after."""

    def __init__(self, folder: Path, repetitions: int) -> None:
        self._folder = folder
        self._repetitions = repetitions
        self._entries: list[tuple[str, str, Callable[[], float]]] = []
        self._cached: dict[str, float] = {}
        self._number = 0

    def add_step(self, name: str, write: Callable[[Path], None]) -> None:
        self.add(
            name, "ours", write, under="steps", made=lambda path: path.parent / f"step-{path.name}"
        )

    def add_roof(self, name: str, measure: Callable[[], float]) -> None:
        self._entries.append((name, "roof", measure))

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
            Figure(name, seconds, kind, self._note(name))
            for (name, kind, _), seconds in zip(self._entries, times, strict=True)
        ]

    def _note(self, name: str) -> str:
        if name not in self._cached:
            return ""
        return f"{self._cached[name]:.0%} of the file in the page cache"


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def bench_blocked(state: State, folder: Path, roofs: Roofs, repetitions: int) -> Workload:
    """How long the call keeps the training loop, with nothing else in flight."""
    checkpointers = {OURS_BLOCKED: understudy.Checkpointer(folder / "blocked-steps")}
    with contextlib.suppress(understudy.Error):  # what is missing, `doctor` says
        checkpointers[OURS_OVERLAPPED] = understudy.Checkpointer(
            folder / "blocked-overlapped", capture="overlapped"
        )
    stager = DefaultStager(StagingOptions(False, False, False, False))
    number = 0

    def ours(checkpointer: understudy.Checkpointer) -> float:
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

    contestants = [functools.partial(ours, c) for c in checkpointers.values()]
    interleave([*contestants, peer], 1)
    times = interleave([*contestants, peer], repetitions)
    for checkpointer in checkpointers.values():
        checkpointer.close()
    stager.close()
    nbytes = nbytes_of(state)
    figures = [
        Figure(name, seconds, "ours") for name, seconds in zip(checkpointers, times, strict=False)
    ]
    figures.append(Figure(DCP_BLOCKED, times[-1], "peer"))
    return Workload("save, loop stopped", nbytes, roofs.copy(nbytes, repetitions) + figures)


def bench_first(state: State, folder: Path, roofs: Roofs, repetitions: int) -> Workload:
    """How long the first save of a run keeps the loop, whose memory is made for it; and a later
    one. Everybody is new each time."""
    captures: set[str] = set()

    def ours(*, is_prewarmed: bool, is_later: bool = False) -> float:
        path = folder / "first-steps"
        with understudy.Checkpointer(path, images=1) as checkpointer:
            if is_prewarmed:
                checkpointer.prewarm(state).wait()
            if is_later:
                checkpointer.save(1, state).wait()
            with timed() as watch:
                ticket = checkpointer.save(2, state)
            ticket.wait()
            if not is_later:
                captures.add(ticket.capture)
        shutil.rmtree(path)
        return watch.seconds

    def peer() -> float:
        path = folder / "first-dcp"
        stager = DefaultStager(StagingOptions(False, False, False, False))
        with timed() as watch:
            future = dcp.async_save(state, checkpoint_id=path, async_stager=stager, no_dist=True)
        assert isinstance(future, Future)
        future.result()
        stager.close()
        shutil.rmtree(path)
        return watch.seconds

    entries = {
        OURS_FIRST: functools.partial(ours, is_prewarmed=False),
        OURS_FIRST_PREWARMED: functools.partial(ours, is_prewarmed=True),
        OURS_LATER: functools.partial(ours, is_prewarmed=False, is_later=True),
        DCP_FIRST: peer,
    }
    times = interleave(list(entries.values()), repetitions)
    nbytes = nbytes_of(state)
    figures = [
        Figure(name, seconds, "peer" if name == DCP_FIRST else "ours")
        for name, seconds in zip(entries, times, strict=True)
    ]
    workload = Workload("save, loop stopped by the first", nbytes)
    workload.figures = roofs.touch(nbytes, repetitions) + figures
    workload.notes.append(f"the first were captured {' or '.join(sorted(captures))}")
    return workload
