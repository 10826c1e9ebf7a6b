"""The parent: starts a training process, listens to it, and may kill it.

The kill comes from outside. The parent watches the run's folder, as anybody
could, sees a step's temporary folder appear, lets a random time pass, and
sends SIGKILL. The training process has no part in it.
"""

from __future__ import annotations

import json
import os
import queue
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Event = dict[str, Any]
_EXAMPLES = Path(__file__).resolve().parent.parent


class WorkerFailed(RuntimeError):
    """The training process ended by itself, and badly."""


class Worker:
    """A process whose events can be read one by one."""

    def __init__(self, module: str, arguments: list[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=_EXAMPLES,
            # The threads that save share the cores with those that train, so one that
            # waits should sleep, not spin: on a busy machine a step is six times as fast.
            env={"OMP_WAIT_POLICY": "passive", **os.environ},
            stdout=subprocess.PIPE,
            text=True,
        )
        self._events: queue.Queue[Event | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            if line.endswith("\n"):  # a killed process may leave half a line
                self._events.put(json.loads(line))
        self._events.put(None)

    def next_event(self, timeout: float | None = None) -> Event | None:
        """The next event; None after the last. Raises queue.Empty when time runs out."""
        event = self._events.get(timeout=timeout)
        if event is None:
            self._events.put(None)  # for whoever asks again
        return event

    def kill(self) -> None:
        self._process.kill()  # SIGKILL: no handler, no exit code path, no flush
        self._process.wait()

    def finish(self) -> None:
        if self._process.wait() != 0:
            raise WorkerFailed(f"the training process ended with code {self._process.returncode}")


def run_to_end(module: str, arguments: list[str], on_event: Callable[[Event], None]) -> None:
    """Runs a process to its end."""
    worker = Worker(module, arguments)
    try:
        while (event := worker.next_event()) is not None:
            on_event(event)
        worker.finish()
    finally:
        worker.kill()


@dataclass
class SaveWatch:
    """Sees saves from outside: a temporary step folder appears and goes away again."""

    folder: Path
    durations: list[float] = field(default_factory=list)
    _name: str | None = None
    _since: float = 0.0

    def unfinished(self) -> list[Path]:
        """Temporary step folders that are there now."""
        return sorted(self.folder.glob("step-*.tmp-*"))

    def look(self) -> bool:
        """True when a save has come into sight since the last look."""
        there = self.unfinished()
        now = time.perf_counter()
        name = there[0].name if there else None
        if name == self._name:
            return False
        if self._name is not None:
            self.durations.append(now - self._since)
        self._name, self._since = name, now
        return name is not None

    def random_delay(self) -> float:
        """Some moment within a save, as long as saves were so far."""
        # Before the first save has been timed: what 100 MB take on a plain disk.
        length = statistics.median(self.durations) if self.durations else 0.1
        return random.SystemRandom().uniform(0, length)

    def forget(self) -> None:
        """The process is gone: what is in sight now is not a save that will end."""
        self._name = None


@dataclass(frozen=True)
class Kill:
    """One kill and what it left behind."""

    after_step: int  # the last step the process told of
    delay: float  # seconds between the sight of the save and the signal
    unfinished: list[tuple[str, list[str]]]  # temporary folders and what lies in them

    @property
    def hit(self) -> bool:
        return bool(self.unfinished)


def run_and_kill(
    module: str,
    arguments: list[str],
    watch: SaveWatch,
    *,
    not_before: int,
    on_event: Callable[[Event], None],
) -> Kill | None:
    """Trains until a save starts after step `not_before`, then kills within that save.

    None when the process came to its end before there was such a save.
    """
    worker = Worker(module, arguments)
    last_step = 0
    try:
        while True:
            appeared = watch.look()
            if appeared and last_step >= not_before:
                delay = watch.random_delay()
                time.sleep(delay)
                break
            try:
                event = worker.next_event(timeout=0.001)  # how often the folder is looked at
            except queue.Empty:
                continue
            if event is None:
                worker.finish()
                return None
            last_step = event.get("step", last_step)
            on_event(event)
    finally:
        worker.kill()
    while (event := worker.next_event()) is not None:  # what it still told us
        last_step = event.get("step", last_step)
        on_event(event)
    watch.forget()
    left = [
        (path.name, sorted(file.name for file in path.iterdir())) for path in watch.unfinished()
    ]
    return Kill(last_step, delay, left)
