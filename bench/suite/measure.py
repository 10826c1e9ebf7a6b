"""Timing contestants against each other, fairly."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

# Does one repetition and returns its seconds, without preparation and cleaning up.
Contestant = Callable[[], float]


@dataclass
class Figure:
    """All repetitions of one contestant, in seconds."""

    name: str
    seconds: list[float]
    kind: str  # ours, peer or roof
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@dataclass
class Workload:
    """One question, and everybody's answers to it on the same bytes."""

    name: str
    nbytes: int
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def figure(self, name: str) -> Figure:
        return next(figure for figure in self.figures if figure.name == name)


@dataclass(frozen=True)
class Target:
    """How many times as fast as a peer we mean to be."""

    workload: str
    ours: str
    peer: str
    at_least: float


class Stopwatch:
    seconds = 0.0


@contextmanager
def timed() -> Iterator[Stopwatch]:
    watch = Stopwatch()
    start = time.perf_counter()
    yield watch
    watch.seconds = time.perf_counter() - start


def interleave(contestants: Sequence[Contestant], repetitions: int) -> list[list[float]]:
    """Seconds of each contestant. They take turns, and another one begins each round, so that
    a machine that slows down or a disk that fills up is nobody's disadvantage."""
    times: list[list[float]] = [[] for _ in contestants]
    for round_number in range(repetitions):
        for position in range(len(contestants)):
            index = (round_number + position) % len(contestants)
            times[index].append(contestants[index]())
    return times
