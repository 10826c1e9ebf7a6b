"""Staging: a copy of the state in host memory."""

from __future__ import annotations

from torch.distributed.checkpoint._state_dict_stager import StateDictStager

import understudy
from suite.measure import Contestant, Figure, Workload, interleave, timed
from suite.roofs import Roofs
from suite.states import State, nbytes_of

OURS = "Stager.stage"
OURS_WITH_STATE = "Stager.stage + state()"
PEER = "torch StateDictStager"


def bench_stage(name: str, state: State, roofs: Roofs, repetitions: int) -> list[Workload]:
    nbytes = nbytes_of(state)
    return [
        _first(f"stage {name}, first", state, nbytes, repetitions),
        _steady(f"stage {name}, steady", state, nbytes, roofs, repetitions),
    ]


def _first(name: str, state: State, nbytes: int, repetitions: int) -> Workload:
    """A new stager each time: planning and fresh memory are in the figure."""

    def ours() -> float:
        stager = understudy.Stager()
        with timed() as watch:
            snapshot = stager.stage(state).wait()
        snapshot.close()
        stager.close()
        return watch.seconds

    def peer() -> float:
        stager = StateDictStager()
        with timed() as watch:
            stager.stage(state)
        stager.close()
        return watch.seconds

    # Fresh memory is slow; three times show it well enough.
    times = interleave([ours, peer], min(3, repetitions))
    return Workload(name, nbytes, [Figure(OURS, times[0], "ours"), Figure(PEER, times[1], "peer")])


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

    contestants: list[Contestant] = [ours, ours_with_state, peer]
    interleave(contestants, 2)  # plans, buffers
    times = interleave(contestants, repetitions)
    for closing in (stager, with_state, peer_stager):
        closing.close()
    workload = Workload(name, nbytes, roofs.copy(nbytes, repetitions))
    kinds = ((OURS, "ours"), (OURS_WITH_STATE, "ours"), (PEER, "peer"))
    workload.figures += [
        Figure(label, seconds, kind) for (label, kind), seconds in zip(kinds, times, strict=True)
    ]
    return workload
