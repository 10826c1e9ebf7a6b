"""Restoring: the bytes on disk back into tensors that are already there, and into new ones."""

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
LOAD = "load_file"
LOAD_UNVERIFIED = "load_file(verify=False)"
TORCH_LOAD = "torch.load"
SAFETENSORS_LOAD = "safetensors load_file + clone"

_COLD_NOTES = [
    "cold: out of this system's page cache, proved by mincore; a disk behind a",
    "hypervisor may have caches of its own. Only Understudy verifies what it reads",
]


@dataclass(frozen=True)
class Restorer:
    """Brings a state back. Its answer, if there is one, is new and is checked instead of the
    target."""

    name: str
    kind: str
    source: Path
    restore: Callable[[State], State | None]
    how: Callable[[], str] = lambda: ""  # how the last one read


def bench_restore(
    name: str, state: State, folder: Path, roofs: Roofs, repetitions: int
) -> list[Workload]:
    folder.mkdir()
    restorers = _write_all(state, folder)
    target = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    loaders = _loaders(restorers)
    for restorer in [*restorers, *loaders]:
        _check(restorer, state, target)
    nbytes = nbytes_of(state)
    del state  # the caller's; the target is enough from here on
    direct, cached = roofs.cold_and_cached_read(nbytes, repetitions)
    workloads = []
    for what, contestants in ((f"resume in place{name}", restorers), (f"load{name}", loaders)):
        warm = Workload(f"{what}, warm page cache", nbytes, [cached])
        warm.figures += _race(contestants, target, _make_warm, repetitions)
        cold = Workload(f"{what}, cold page cache", nbytes, [direct])
        try:
            cold.figures += _race(contestants, target, _make_cold, repetitions)
        except page_cache.NotCold as failure:
            cold.notes.append(f"not measured: {failure}")
        cold.notes += _COLD_NOTES
        workloads += [warm, cold]
    return workloads


def _loaders(restorers: list[Restorer]) -> list[Restorer]:
    """Into new private memory: what safetensors maps is cloned, for it is read no sooner."""
    sources = {restorer.name: restorer.source for restorer in restorers}
    (ours,) = sources[OURS].glob("*.safetensors")
    torch_file, safetensors_file = sources[TORCH], sources[SAFETENSORS]

    def with_safetensors(_: State) -> State:
        mapped = safetensors.torch.load_file(safetensors_file)
        return {name: tensor.clone() for name, tensor in mapped.items()}

    return [
        Restorer(LOAD, "ours", ours, lambda _: understudy.load_file(ours)),
        Restorer(LOAD_UNVERIFIED, "ours", ours, lambda _: understudy.load_file(ours, verify=False)),
        Restorer(TORCH_LOAD, "peer", torch_file, lambda _: torch.load(torch_file)),
        Restorer(SAFETENSORS_LOAD, "peer", safetensors_file, with_safetensors),
    ]


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

    how = ""

    def ours(target: State) -> None:
        nonlocal how
        checkpointer = understudy.Checkpointer(folder / "restore-steps")
        assert checkpointer.resume(target) == 1
        resumed = checkpointer.resumed
        how = resumed.reader if resumed else ""

    def with_torch(target: State) -> None:
        _copy(torch.load(torch_file), target)

    def with_torch_mapped(target: State) -> None:
        _copy(torch.load(torch_file, mmap=True), target)

    def with_safetensors(target: State) -> None:
        _copy(safetensors.torch.load_file(safetensors_file), target)

    def with_dcp(target: State) -> None:
        dcp.load(target, checkpoint_id=dcp_folder, no_dist=True)

    return [
        Restorer(OURS, "ours", step, ours, lambda: how),
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
    restored = restorer.restore(target) or target
    for name, tensor in state.items():
        if not torch.equal(tensor, restored[name]):
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
            before = prepare(restorer.source)
            with timed() as watch:
                restored = restorer.restore(target)
            del restored  # after the watch has stopped
            notes[restorer.name] = "; ".join(filter(None, [before, restorer.how()]))
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
