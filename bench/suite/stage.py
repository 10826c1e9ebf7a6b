"""Staging: a copy of the state in host memory."""

from __future__ import annotations

import statistics

from torch.distributed.checkpoint._state_dict_stager import StateDictStager

import understudy
from suite.measure import Contestant, Figure, Workload, interleave, timed
from suite.roofs import HUGE_COPY, Roofs
from suite.states import State, nbytes_of

OURS = "Stager.stage"
ROOF = HUGE_COPY
OURS_PREWARMED = "Stager.stage, prewarmed"
OURS_WITH_STATE = "Stager.stage + state()"
PEER = "torch StateDictStager"


def bench_stage(name: str, state: State, roofs: Roofs, repetitions: int) -> list[Workload]:
    nbytes = nbytes_of(state)
    return [
        _first(f"stage {name}, first", state, nbytes, roofs, repetitions),
        _steady(f"stage {name}, steady", state, nbytes, roofs, repetitions),
    ]


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


def _steady(name: str, state: State, nbytes: int, roofs: Roofs, repetitions: int) -> Workload:
    """Stagers that have their plans and buffers. Giving the result back is in the figure."""
    stager, with_state, peer_stager = (
        understudy.Stager(),
        understudy.Stager(),
        StateDictStager(),
    )

    def ours() -> float:
        with timed() as watch, stager.stage(state).wait():
            pass
        return watch.seconds

    def ours_with_state() -> float:
        with timed() as watch, with_state.stage(state).wait() as snapshot:
            snapshot.state()
        return watch.seconds

    def peer() -> float:
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
