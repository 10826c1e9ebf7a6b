"""Times the ways to save against each other in one training loop.

    python -m training.race --folder FOLDER [--quick]

The ways take turns on the same model. Each turn first times steps without a
save, then saves, then goes on training until the save is on disk; what those
steps took beyond plain steps is the training time that the save added.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from training.events import tell
from training.trainer import FULL, QUICK, Trainer
from training.ways import ALL_WAYS, Way

# Steps without a save before each save: their median is what a step costs now.
_PLAIN_STEPS = 4
# Steps after each save, at the least: a save may slow the step after it is done.
_STEPS_AFTER = 3


@dataclass
class Turn:
    """One save and the steps around it. Times in seconds."""

    plain_steps: list[float]
    stopped: float  # the call itself
    durable: float  # call to on disk
    steps_after: list[float]

    added: float  # training time beyond plain steps


@dataclass
class Result:
    """The first save fills caches and finds fresh memory, so it stands apart."""

    way: str
    first: Turn | None = None
    turns: list[Turn] = field(default_factory=list)


def timed_step(trainer: Trainer) -> float:
    start = time.perf_counter()
    trainer.step()
    return time.perf_counter() - start


def take_turn(trainer: Trainer, way: Way, number: int) -> Turn:
    plain = [timed_step(trainer) for _ in range(_PLAIN_STEPS)]
    start = time.perf_counter()
    way.save(number, trainer)
    stopped = time.perf_counter() - start
    after: list[float] = []
    while len(after) < _STEPS_AFTER or way.durable_at() is None:
        after.append(timed_step(trainer))
    durable_at = way.durable_at()
    assert durable_at is not None
    way.forget(number)
    added = stopped + sum(after) - statistics.median(plain) * len(after)
    return Turn(plain, stopped, durable_at - start, after, added)


def race(trainer: Trainer, folder: Path, rounds: int) -> list[Result]:
    """`rounds` turns of each way after its first one."""
    ways = [way(folder / str(index)) for index, way in enumerate(ALL_WAYS)]
    results = [Result(way.name) for way in ways]
    total = (rounds + 1) * len(ways)
    for number in range(rounds + 1):
        for index, way in enumerate(ways):
            turn = take_turn(trainer, way, number)
            if number == 0:
                results[index].first = turn
            else:
                results[index].turns.append(turn)
            done = number * len(ways) + index + 1
            tell("turn", done=done, total=total, way=way.name)
    for way in ways:
        way.close()
    return results


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    trainer = Trainer(QUICK if options.quick else FULL)
    results = race(trainer, options.folder, rounds=2 if options.quick else 5)
    tell("results", results=[asdict(result) for result in results])


if __name__ == "__main__":
    main(sys.argv[1:])
