"""A process whose captured state outlives it, and one that comes back to it.

    python -m training.restart save --folder FOLDER [--quick]
    python -m training.restart memory|disk --folder FOLDER [--quick]

The first trains a little, saves, and waits to be killed; the second resumes from there and tells
how long that took.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

import understudy
from training.events import tell
from training.fingerprint import fingerprint
from training.trainer import FULL, QUICK, Trainer


def save(trainer: Trainer, folder: Path) -> None:
    """Saves what a step has changed, and waits for the signal that ends the process."""
    trainer.step()
    # Where memory has no room, the demo says so and goes on.
    checkpointer = understudy.Checkpointer(folder, survive=True, when_no_room="go_on")
    ticket = checkpointer.save(trainer.steps_done, trainer.app)
    ticket.wait()
    tell("saved", fingerprint=fingerprint(trainer.state_dict()), **ticket.metrics())
    while True:
        signal.pause()


def resume(trainer: Trainer, folder: Path, source: str) -> None:
    """Resumes from memory or from disk."""
    with understudy.Checkpointer(folder, survive=source == "memory") as checkpointer:
        begin = time.perf_counter()
        checkpointer.resume(trainer.app, source=source)
        seconds = time.perf_counter() - begin
    tell("resumed", seconds=seconds, fingerprint=fingerprint(trainer.state_dict()))


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["save", "memory", "disk"])
    parser.add_argument("--folder", type=Path, required=True, help="of the run")
    parser.add_argument("--quick", action="store_true", help="a small model, for tests")
    options = parser.parse_args(arguments)
    trainer = Trainer(QUICK if options.quick else FULL)
    if options.what == "save":
        save(trainer, options.folder)
    else:
        resume(trainer, options.folder, options.what)


if __name__ == "__main__":
    main(sys.argv[1:])
