"""Restoring: the bytes on disk back into tensors that are already there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
import torch.distributed.checkpoint as dcp

import understudy
from suite import durable, page_cache
from suite.measure import Figure, Workload, interleave, timed
from suite.roofs import Roofs
from suite.states import State, nbytes_of

OURS = "Checkpointer.resume"
TORCH = "torch.load + copy_"
TORCH_MAPPED = "torch.load(mmap) + copy_"
SAFETENSORS = "safetensors load_file + copy_"
DCP = "dcp.load"


@dataclass(frozen=True)
class Restorer:
    name: str
    kind: str
    source: Path
    restore: Callable[[State], None]


def bench_restore(state: State, folder: Path, roofs: Roofs, repetitions: int) -> list[Workload]:
    restorers = _write_all(state, folder)
    target = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    for restorer in restorers:
        _check(restorer, state, target)
    nbytes = nbytes_of(state)
    del state  # the caller's; the target is enough from here on
    direct, cached = roofs.cold_and_cached_read(nbytes, repetitions)
    warm = Workload("resume in place, warm page cache", nbytes, [cached])
    warm.figures += _race(restorers, target, _make_warm, repetitions)
    cold = Workload("resume in place, cold page cache", nbytes, [direct])
    try:
        cold.figures += _race(restorers, target, _make_cold, repetitions)
    except page_cache.NotCold as failure:
        cold.notes.append(f"not measured: {failure}")
    cold.notes.append("cold: out of this system's page cache, proved by mincore; a disk behind a")
    cold.notes.append(
        "hypervisor may have caches of its own. Only Understudy verifies what it reads"
    )
    return [warm, cold]


def _write_all(state: State, folder: Path) -> list[Restorer]:
    checkpointer = understudy.Checkpointer(folder / "restore-steps")
    step = Path(checkpointer.save(1, state).wait())
    checkpointer.close()
    torch_file, safetensors_file, dcp_folder = (
        folder / "a.pt",
        folder / "a.st",
        folder / "a.dcp",
    )
    durable.torch_save(state, torch_file)
    durable.safetensors_save(state, safetensors_file)
    durable.dcp_save(state, dcp_folder)

    def ours(target: State) -> None:
        assert understudy.Checkpointer(folder / "restore-steps").resume(target) == 1

    def with_torch(target: State) -> None:
        _copy(torch.load(torch_file), target)

    def with_torch_mapped(target: State) -> None:
        _copy(torch.load(torch_file, mmap=True), target)

    def with_safetensors(target: State) -> None:
        _copy(safetensors.torch.load_file(safetensors_file), target)

    def with_dcp(target: State) -> None:
        dcp.load(target, checkpoint_id=dcp_folder, no_dist=True)

    return [
        Restorer(OURS, "ours", step, ours),
        Restorer(TORCH, "peer", torch_file, with_torch),
        Restorer(TORCH_MAPPED, "peer", torch_file, with_torch_mapped),
        Restorer(SAFETENSORS, "peer", safetensors_file, with_safetensors),
        Restorer(DCP, "peer", dcp_folder, with_dcp),
    ]


def _copy(source: State, target: State) -> None:
    for name, tensor in target.items():
        tensor.copy_(source[name])


def _check(restorer: Restorer, state: State, target: State) -> None:
    """A restorer that restores nothing would be the fastest."""
    for tensor in target.values():
        tensor.zero_()
    restorer.restore(target)
    for name, tensor in state.items():
        if not torch.equal(tensor, target[name]):
            raise SystemExit(f"{restorer.name} did not bring back {name}")


def _race(
    restorers: list[Restorer],
    target: State,
    prepare: Callable[[Path], str],
    repetitions: int,
) -> list[Figure]:
    notes: dict[str, str] = {}

    def contestant(restorer: Restorer) -> Callable[[], float]:
        def run() -> float:
            notes[restorer.name] = prepare(restorer.source)
            with timed() as watch:
                restorer.restore(target)
            return watch.seconds

        return run

    times = interleave([contestant(restorer) for restorer in restorers], repetitions)
    return [
        Figure(restorer.name, seconds, restorer.kind, notes[restorer.name])
        for restorer, seconds in zip(restorers, times, strict=True)
    ]


def _make_warm(path: Path) -> str:
    page_cache.warm(path)
    return f"{page_cache.resident_share(path):.0%} in the page cache before"


def _make_cold(path: Path) -> str:
    how = page_cache.evict(path)
    return f"{page_cache.resident_share(path):.0%} in the page cache before, by {how}"
