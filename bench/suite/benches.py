"""Every benchmark by its name: what is measured, when, and of which state.

A name chooses, and so does the beginning of names up to a dot: `stage` is all of them that stage.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite import (
    beside,
    dcp_ranks,
    drop_in,
    ranks,
    restore,
    save,
    stage,
    states,
    survive,
    training,
)
from suite.measure import Workload
from suite.roofs import Roofs


@dataclass(frozen=True)
class Settings:
    """How large the states are, and how often each is measured."""

    large_nbytes: int
    small: int  # tensors
    repetitions: int
    folder: Path
    roofs: Roofs

    @property
    def few(self) -> int:
        return min(3, self.repetitions)  # where a peer takes seconds


Run = Callable[[Settings, Any], list[Workload]]

# By the state that they share: it is made for the first and dropped after the last.
_SMALL: dict[str, Run] = {
    "stage.first.small": lambda s, x: stage.bench_first("small tensors", x, s.roofs, s.repetitions),
    "stage.steady.small": lambda s, x: stage.bench_steady(
        "small tensors", x, s.roofs, s.repetitions
    ),
    "drop-in.first.small": lambda s, x: drop_in.bench_first(
        "small tensors", x, s.roofs, s.repetitions
    ),
    "drop-in.steady.small": lambda s, x: drop_in.bench_steady(
        "small tensors", x, s.roofs, s.repetitions
    ),
    "save.durable.small": lambda s, x: [
        save.bench_save("small tensors", x, s.folder, s.roofs, s.repetitions)
    ],
    "restore.small": lambda s, x: restore.bench_restore(
        " small tensors", x, s.folder / "small", s.roofs, s.few
    ),
}
_MODULE: dict[str, Run] = {
    "stage.steady.module": lambda s, x: [stage.bench_module(x, s.roofs, s.repetitions)],
    "drop-in.steady.module": lambda s, x: [drop_in.bench_module(x, s.roofs, s.repetitions)],
}
_LARGE: dict[str, Run] = {
    "stage.first.large": lambda s, x: stage.bench_first("large tensors", x, s.roofs, s.repetitions),
    "stage.steady.large": lambda s, x: stage.bench_steady(
        "large tensors", x, s.roofs, s.repetitions
    ),
    "stage.stopped.large": lambda s, x: stage.bench_blocked(
        "large tensors", x, s.roofs, s.repetitions
    ),
    "drop-in.first.large": lambda s, x: drop_in.bench_first(
        "large tensors", x, s.roofs, s.repetitions
    ),
    "drop-in.steady.large": lambda s, x: drop_in.bench_steady(
        "large tensors", x, s.roofs, s.repetitions
    ),
    "save.durable.large": lambda s, x: [
        save.bench_save("large tensors", x, s.folder, s.roofs, s.repetitions, each_writer=True)
    ],
    "save.stopped.large": lambda s, x: [save.bench_blocked(x, s.folder, s.roofs, s.repetitions)],
    "save.first.large": lambda s, x: [save.bench_first(x, s.folder, s.roofs, s.few)],
    "save.beside.large": lambda s, x: [beside.bench_beside(x, s.folder, s.repetitions)],
    "restore.large": lambda s, x: restore.bench_restore(
        "", x, s.folder / "large", s.roofs, s.repetitions
    ),
    "survive": lambda s, x: survive.bench_survive(x, s.folder, s.roofs, s.repetitions),
}
_NONE: dict[str, Run] = {
    "training": lambda s, _: [training.bench_training(s.large_nbytes, s.folder, s.repetitions)],
    "ranks": lambda s, _: ranks.bench_ranks(s.large_nbytes, s.folder / "ranks", s.repetitions),
    "dcp": lambda s, _: dcp_ranks.bench_dcp(
        s.large_nbytes, s.folder, s.roofs.program, s.repetitions
    ),
}

_GROUPS: list[tuple[Callable[[Settings], Any], dict[str, Run]]] = [
    (lambda s: states.small(s.small), _SMALL),
    (lambda s: states.module(s.small // 8), _MODULE),
    (lambda s: states.large(s.large_nbytes), _LARGE),
    (lambda s: None, _NONE),
]

NAMES = [name for _, group in _GROUPS for name in group]


def select(wanted: list[str]) -> list[str]:
    """All names that `wanted` chooses, all where it is empty. ValueError names one that is none."""
    for one in wanted:
        if not any(_chooses(one, name) for name in NAMES):
            raise ValueError(f"no benchmark is called {one}; there are: {', '.join(NAMES)}")
    return [name for name in NAMES if not wanted or any(_chooses(one, name) for one in wanted)]


def _chooses(wanted: str, name: str) -> bool:
    return name == wanted or name.startswith(wanted + ".")


def run(names: list[str], settings: Settings) -> Iterator[Workload]:
    for make, group in _GROUPS:
        chosen = [bench for name, bench in group.items() if name in names]
        state = make(settings) if chosen else None
        for bench in chosen:
            yield from bench(settings, state)
            gc.collect()  # a peer's buffers go before the next workload needs the memory
