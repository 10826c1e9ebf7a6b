"""The drop-in: understudy.torch.StateDictStager in place of PyTorch's class of that name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.distributed.checkpoint._state_dict_stager import StateDictStager as Torch

from suite.measure import Figure, Workload, interleave, timed
from suite.roofs import Roofs
from suite.states import State, nbytes_of
from understudy.torch import StateDictStager as Ours

OURS = "understudy StateDictStager"
OURS_SHARED = OURS + ", shared"
PEER = "torch StateDictStager"
PEER_SHARED = PEER + ", shared"


def bench_first(name: str, state: State, roofs: Roofs, repetitions: int) -> list[Workload]:
    private = _first(f"drop-in {name}, first", state, repetitions, shared=False)
    private.figures += roofs.touch(private.nbytes, min(3, repetitions))
    return [private, _first(f"drop-in {name}, first shared", state, repetitions, shared=True)]


def bench_steady(name: str, state: State, roofs: Roofs, repetitions: int) -> list[Workload]:
    what = f"drop-in {name}, steady"
    return [_steady(what, lambda: state, nbytes_of(state), roofs, repetitions)]


def bench_module(module: torch.nn.Module, roofs: Roofs, repetitions: int) -> Workload:
    """`state_dict()` makes new tensors over the same storages at each call; it is timed, too."""
    nbytes = nbytes_of(module.state_dict())
    return _steady(
        "drop-in module.state_dict(), steady", module.state_dict, nbytes, roofs, repetitions
    )


def _first(name: str, state: State, repetitions: int, *, shared: bool) -> Workload:
    def contestant(make: Callable[..., Any]) -> Callable[[], float]:
        def run() -> float:
            stager = make(share_memory=shared)
            with timed() as watch:
                stager.stage(state)
            stager.close()
            return watch.seconds

        return run

    contestants = [contestant(Ours), contestant(Torch)]
    interleave(contestants, 1)  # memory that the host has never backed is slow for the first
    times = interleave(contestants, min(3, repetitions))
    labels = (OURS_SHARED, PEER_SHARED) if shared else (OURS, PEER)
    figures = [
        Figure(label, seconds, kind)
        for label, seconds, kind in zip(labels, times, ("ours", "peer"), strict=True)
    ]
    return Workload(name, nbytes_of(state), figures)


def _steady(
    name: str, state: Callable[[], Any], nbytes: int, roofs: Roofs, repetitions: int
) -> Workload:
    stagers = [Ours(), Ours(share_memory=True), Torch(), Torch(share_memory=True)]

    def contestant(stager: Any) -> Callable[[], float]:
        def run() -> float:
            with timed() as watch:
                stager.stage(state())
            return watch.seconds

        return run

    contestants = [contestant(stager) for stager in stagers]
    interleave(contestants, 2)  # buffers
    times = interleave(contestants, repetitions)
    for stager in stagers:
        stager.close()
    workload = Workload(name, nbytes, roofs.copy(nbytes, repetitions))
    labels = ((OURS, "ours"), (OURS_SHARED, "ours"), (PEER, "peer"), (PEER_SHARED, "peer"))
    workload.figures += [
        Figure(label, seconds, kind) for (label, kind), seconds in zip(labels, times, strict=True)
    ]
    return workload
