"""Memory that survives: what it costs a save, and what a restart from it takes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

import understudy
from suite import page_cache
from suite.measure import Figure, Workload, interleave, timed
from suite.roofs import Roofs
from suite.states import State, nbytes_of

STOPPED = "survive: save, loop stopped"
DURABLE = "survive: save, durable"
RESTART = "survive: restart"
WITHOUT = "Checkpointer.save"
WITH = "Checkpointer(survive=True).save"
SEALED = "the same, until it is sealed"
MEMORY = "resume from memory"
COLD = "resume from the disk, cold page cache"

_MEMORY_FOLDER = "/dev/shm"
_NOTES = ["images in a tmpfs; blocking captures"]

# The run that ended: it leaves its only step in memory and on the disk.
_KILLED = """
import os, signal, sys
import torch, understudy

run, memory, file = sys.argv[1:]
state = understudy.load_file(file)
ckpt = understudy.Checkpointer(run, survive=memory)
ticket = ckpt.save(1, state)
ticket.wait()
assert ticket.metrics()["survival"] == "sealed", ticket.metrics()
os.kill(os.getpid(), signal.SIGKILL)
"""


def bench_survive(state: State, folder: Path, roofs: Roofs, repetitions: int) -> list[Workload]:
    nbytes = nbytes_of(state)
    if refusal := _refusal(4 * nbytes):  # two images, what survived, and the test's own
        return [Workload(name, nbytes, [], [refusal]) for name in (STOPPED, DURABLE, RESTART)]
    with tempfile.TemporaryDirectory(dir=_MEMORY_FOLDER) as memory:
        return [
            *_bench_save(state, folder / "survive", Path(memory), roofs, repetitions),
            _bench_restart(state, folder / "restart", Path(memory), roofs, repetitions),
        ]


def _refusal(needed: int) -> str:
    try:
        free = shutil.disk_usage(_MEMORY_FOLDER).free
    except OSError as failure:
        return f"not measured: {failure}"
    return "" if free >= needed else f"not measured: {_MEMORY_FOLDER} has {free} bytes free"


def _bench_save(
    state: State, folder: Path, memory: Path, roofs: Roofs, repetitions: int
) -> list[Workload]:
    checkpointers = {
        WITHOUT: understudy.Checkpointer(folder / "without", capture="blocking"),
        WITH: understudy.Checkpointer(folder / "with", capture="blocking", survive=memory),
    }
    durable: dict[str, list[float]] = {WITHOUT: [], WITH: [], SEALED: []}
    number = 0

    def saving(name: str) -> Callable[[], float]:
        def save() -> float:
            nonlocal number
            number += 1
            with timed() as watch:
                ticket = checkpointers[name].save(number, state)
            step = ticket.wait()
            metrics = ticket.metrics()
            durable[name].append(metrics["durable_s"])
            if name == WITH:
                durable[SEALED].append(metrics["sealed_s"])
            shutil.rmtree(step)
            return watch.seconds

        return save

    contestants = [saving(name) for name in checkpointers]
    interleave(contestants, 2)  # both images of each are made
    for seconds in durable.values():
        seconds.clear()
    times = interleave(contestants, repetitions)
    for checkpointer in checkpointers.values():
        checkpointer.close()
    nbytes = nbytes_of(state)
    stopped = [Figure(name, t, "ours") for name, t in zip(checkpointers, times, strict=True)]
    return [
        Workload(STOPPED, nbytes, roofs.copy(nbytes, repetitions) + stopped, list(_NOTES)),
        Workload(DURABLE, nbytes, [Figure(n, t, "ours") for n, t in durable.items()], list(_NOTES)),
    ]


def _bench_restart(
    state: State, folder: Path, memory: Path, roofs: Roofs, repetitions: int
) -> Workload:
    file = folder.parent / "restart.safetensors"
    understudy.save_file(state, file)
    subprocess.run([sys.executable, "-c", _KILLED, folder, memory, file], check=False)
    file.unlink()
    target = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    checkpointer = understudy.Checkpointer(folder, survive=memory)
    notes: dict[str, str] = {}

    def resuming(source: str, name: str) -> Callable[[], float]:
        def resume() -> float:
            if source == "disk":
                page_cache.evict(folder / "step-1")
            with timed() as watch:
                checkpointer.resume(target, source=source)
            resumed = checkpointer.resumed
            notes[name] = resumed.reader if resumed else ""
            return watch.seconds

        return resume

    names = {MEMORY: "memory", COLD: "disk"}
    contestants = [resuming(source, name) for name, source in names.items()]
    nbytes = nbytes_of(state)
    workload = Workload(RESTART, nbytes, roofs.copy(nbytes, repetitions), list(_NOTES))
    try:
        contestants[0]()
        for name, tensor in state.items():
            if not torch.equal(tensor, target[name]):
                raise SystemExit(f"memory did not bring back {name}")
        times = interleave(contestants, repetitions)
        workload.figures += [
            Figure(name, t, "ours", notes[name]) for name, t in zip(names, times, strict=True)
        ]
    except page_cache.NotCold as failure:
        workload.notes.append(f"not measured: {failure}")
    checkpointer.close()
    return workload
