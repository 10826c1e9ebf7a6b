"""The loop beside a save: how long the steps of a training loop take while one is in flight."""

from __future__ import annotations

import contextlib
import shutil
import statistics
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

import understudy
from suite.measure import Figure, Workload
from suite.states import State

ALONE = "steps with no save"
OURS = "beside Checkpointer.save"
OVERLAPPED = "beside Checkpointer.save, overlapped"
PEER = "beside dcp.async_save"

_STEPS_ALONE = 100  # a round, about as many as come beside a save
_WIDTH, _BATCH = 512, 64  # a step of a few milliseconds: a save spans many


def bench_beside(state: State, folder: Path, repetitions: int) -> Workload:
    """Step times only; how long the call itself stops the loop is asked elsewhere. `state` is not
    what is trained, so that its size does not decide how long a step takes."""
    step = _training_step()
    checkpointers = {OURS: understudy.Checkpointer(folder / "beside")}
    with contextlib.suppress(understudy.Error):  # what is missing, `doctor` says
        checkpointers[OVERLAPPED] = understudy.Checkpointer(
            folder / "beside-overlapped", capture="overlapped"
        )
    stager = DefaultStager(StagingOptions(False, False, False, False))
    times: dict[str, list[float]] = {name: [] for name in (*checkpointers, ALONE, PEER)}
    seconds: dict[str, list[float]] = {name: [] for name in (*checkpointers, PEER)}

    def alone(_: int) -> None:
        times[ALONE] += [_timed(step) for _ in range(_STEPS_ALONE)]

    def beside(name: str, is_done: Callable[[], bool]) -> None:
        start = time.perf_counter()
        while not is_done():
            times[name].append(_timed(step))
        seconds[name].append(time.perf_counter() - start)

    def ours(number: int) -> None:
        for name, checkpointer in checkpointers.items():
            ticket = checkpointer.save(number, state)
            beside(name, ticket.done)
            shutil.rmtree(ticket.wait())

    def peer(number: int) -> None:
        path = folder / f"beside-dcp-{number}"
        future = dcp.async_save(state, checkpoint_id=path, async_stager=stager, no_dist=True)
        assert isinstance(future, Future)
        beside(PEER, future.done)
        future.result()
        shutil.rmtree(path)

    for number in range(repetitions + 1):
        if number == 1:  # images, buffers, code
            for found in (*times.values(), *seconds.values()):
                found.clear()
        for run in (alone, ours, peer):
            run(number)
    for checkpointer in checkpointers.values():
        checkpointer.close()
    stager.close()
    figures = [
        Figure(name, times[name], kind, _note(times[name], seconds.get(name)))
        for name, kind in (
            *((name, "ours") for name in checkpointers),
            (ALONE, "roof"),
            (PEER, "peer"),
        )
    ]
    return Workload("training steps beside a save", 0, figures)


def _training_step() -> Callable[[], None]:
    layers = [torch.nn.Linear(_WIDTH, _WIDTH) for _ in range(4)]
    model = torch.nn.Sequential(*layers)
    optimizer = torch.optim.AdamW(model.parameters())
    batch = torch.rand(_BATCH, _WIDTH)

    def step() -> None:
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()

    return step


def _timed(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def _note(steps: list[float], saves: list[float] | None) -> str:
    p99 = statistics.quantiles(steps, n=100)[98] if len(steps) > 1 else steps[0]
    note = f"99th percentile {p99 * 1e3:.1f} ms of {len(steps)} steps"
    if saves:
        note += f", saves in flight for {statistics.median(saves):.2f} s"
    return note
