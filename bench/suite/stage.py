"""Staging: a copy of the state in host memory."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch.distributed.checkpoint._state_dict_stager import StateDictStager

import understudy
from suite.measure import Contestant, Figure, Workload, interleave, timed
from suite.roofs import HUGE_COPY, Roofs
from suite.states import State, nbytes_of

OURS = "Stager.stage"
ROOF = HUGE_COPY
OURS_PREWARMED = "Stager.stage, prewarmed"
OURS_WITH_STATE = "Stager.stage + state()"
OVERLAPPED = "Stager.stage, overlapped"
OVERLAPPED_HUGE = "Stager.stage, overlapped, huge_pages"
BLOCKING = "Stager.stage, blocking"
PEER = "torch StateDictStager"


def bench_first(name: str, state: State, roofs: Roofs, repetitions: int) -> list[Workload]:
    return [_first(f"stage {name}, first", state, nbytes_of(state), roofs, repetitions)]


def bench_steady(name: str, state: State, roofs: Roofs, repetitions: int) -> list[Workload]:
    what = f"stage {name}, steady"
    return [_steady(what, lambda: state, nbytes_of(state), roofs, repetitions)]


def bench_module(module: torch.nn.Module, roofs: Roofs, repetitions: int) -> Workload:
    """`state_dict()` makes new tensors over the same storages each time; it is not timed."""
    nbytes = nbytes_of(module.state_dict())
    return _steady(
        "stage module.state_dict(), steady", module.state_dict, nbytes, roofs, repetitions
    )


def _first(name: str, state: State, nbytes: int, roofs: Roofs, repetitions: int) -> Workload:
    """A new stager each time: planning and fresh memory are in the figure. That of prewarming is
    not: it goes on behind whatever comes before the first stage."""
    prewarming: list[float] = []

    def first(stager: understudy.Stager) -> float:
        with timed() as watch:
            snapshot = stager.stage(state).wait()
        snapshot.close()
        stager.close()
        return watch.seconds

    def ours() -> float:
        return first(understudy.Stager(images=1))

    def prewarmed() -> float:
        stager = understudy.Stager(images=1)
        with timed() as watch:
            stager.prewarm(state).wait()
        prewarming.append(watch.seconds)
        return first(stager)

    def peer() -> float:
        stager = StateDictStager()
        with timed() as watch:
            stager.stage(state)
        stager.close()
        return watch.seconds

    # Fresh memory is slow; three times show it well enough. Once more before that: memory that the
    # host has never backed is slower still, for whoever comes first.
    contestants: list[Contestant] = [ours, prewarmed, peer]
    interleave(contestants, 1)
    times = interleave(contestants, min(3, repetitions))
    workload = Workload(name, nbytes, roofs.touch(nbytes, min(3, repetitions)))
    kinds = ((OURS, "ours"), (OURS_PREWARMED, "ours"), (PEER, "peer"))
    workload.figures += [
        Figure(label, seconds, kind) for (label, kind), seconds in zip(kinds, times, strict=True)
    ]
    median = statistics.median(prewarming) * 1e3
    workload.notes.append(f"prewarming took {median:.0f} ms on one thread of low priority")
    return workload


def _steady(
    name: str, make: Callable[[], State], nbytes: int, roofs: Roofs, repetitions: int
) -> Workload:
    """Stagers that have their plans and buffers. Giving the result back is in the figure."""
    # Until the snapshot is complete, which a blocking capture has sooner.
    stager, with_state, peer_stager = (
        understudy.Stager(capture="blocking"),
        understudy.Stager(capture="blocking"),
        StateDictStager(),
    )

    def ours() -> float:
        state = make()
        with timed() as watch, stager.stage(state).wait():
            pass
        return watch.seconds

    def ours_with_state() -> float:
        state = make()
        with timed() as watch, with_state.stage(state).wait() as snapshot:
            snapshot.state()
        return watch.seconds

    def peer() -> float:
        state = make()
        with timed() as watch:
            peer_stager.stage(state)
        return watch.seconds

    kinds = [(OURS, "ours", ours), (OURS_WITH_STATE, "ours", ours_with_state), (PEER, "peer", peer)]
    with roofs.copier(nbytes) as copies:
        everybody = [(label, "roof", copy) for label, copy in copies] + kinds
        contestants = [contestant for _, _, contestant in everybody]
        interleave(contestants, 2)  # plans, buffers
        times = interleave(contestants, repetitions)
    for closing in (stager, with_state, peer_stager):
        closing.close()
    figures = [
        Figure(label, seconds, kind)
        for (label, kind, _), seconds in zip(everybody, times, strict=True)
    ]
    return Workload(name, nbytes, figures)


def bench_blocked(name: str, state: State, roofs: Roofs, repetitions: int) -> list[Workload]:
    """How long the call keeps the loop; and the loop's whole loss where it overwrites everything
    at once, as an optimizer does that steps right after the call."""
    nbytes = nbytes_of(state)
    blocked = Workload(f"stage {name}, loop stopped", nbytes)
    lost = Workload(f"stage {name}, then overwritten", nbytes)
    huge = {key: tensor.clone() for key, tensor in state.items()}
    peer_stager = StateDictStager()
    calls: dict[str, list[float]] = {}
    entries: list[tuple[str, str, Contestant]] = []

    def overwrite(tensors: State) -> None:
        for tensor in tensors.values():
            tensor.add_(1)

    def add_ours(label: str, tensors: State, **options: Any) -> None:
        try:
            stager = understudy.Stager(**options)
        except understudy.Error as error:
            blocked.notes.append(f"{label} was not measured: {error}")
            return

        def contestant() -> float:
            with timed() as watch:
                with timed() as call:
                    ticket = stager.stage(tensors)
                overwrite(tensors)
            calls[label].append(call.seconds)
            ticket.wait().close()
            return watch.seconds

        calls[label] = []
        entries.append((label, "ours", contestant))
        stagers.append(stager)

    def peer() -> float:
        with timed() as watch:
            with timed() as call:
                peer_stager.stage(state)
            overwrite(state)
        calls[PEER].append(call.seconds)
        return watch.seconds

    def nothing() -> float:
        with timed() as watch:
            overwrite(state)
        return watch.seconds

    stagers: list[understudy.Stager] = []
    add_ours(OVERLAPPED, state, capture="overlapped")
    add_ours(OVERLAPPED_HUGE, huge, capture="overlapped", huge_pages=True)
    add_ours(BLOCKING, state, capture="blocking")
    calls[PEER] = []
    entries += [(PEER, "peer", peer), ("overwriting alone", "roof", nothing)]
    contestants = [contestant for _, _, contestant in entries]
    interleave(contestants, 2)  # plans, buffers, huge pages
    for seconds in calls.values():
        seconds.clear()
    times = interleave(contestants, repetitions)
    for closing in (*stagers, peer_stager):
        closing.close()
    for (label, kind, _), seconds in zip(entries, times, strict=True):
        lost.figures.append(Figure(label, seconds, kind))
        if label in calls:
            blocked.figures.append(Figure(label, calls[label], kind))
    blocked.figures += roofs.copy(nbytes, repetitions)
    return [blocked, lost]
