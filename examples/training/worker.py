"""The process that trains. Tells its parent what happens, one JSON object a line.

    python -m training.worker --final FILE [--checkpoints FOLDER] [--quick]

It knows nothing of being killed.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import understudy
from training.events import tell
from training.fingerprint import fingerprint
from training.trainer import FULL, QUICK, Trainer


def run(trainer: Trainer, checkpoints: Path | None) -> None:
    """Trains to the end; with a folder, resumes from it and saves into it."""
    settings = trainer.settings
    checkpointer = understudy.Checkpointer(checkpoints, keep=3) if checkpoints else None
    resumed = checkpointer.resume(trainer.app) if checkpointer else None
    tell("ready", resumed=resumed)
    while trainer.steps_done < settings.steps:
        start = time.perf_counter()
        loss = trainer.step()
        step = trainer.steps_done
        save = checkpointer is not None and step % settings.save_every == 0
        if checkpointer and save:
            checkpointer.save(step, trainer.app)  # returns at once; training goes on
        tell(
            "step",
            step=step,
            loss=loss,
            seconds=time.perf_counter() - start,
            saved=save,
        )
    if checkpointer:
        checkpointer.close()  # waits for the last save; raises the first failure


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--final", type=Path, required=True, help="file for the final state")
    parser.add_argument("--checkpoints", type=Path, help="folder to resume from and save into")
    parser.add_argument("--quick", action="store_true", help="a small model, for tests")
    options = parser.parse_args(arguments)

    trainer = Trainer(QUICK if options.quick else FULL)
    run(trainer, options.checkpoints)
    understudy.save_file(trainer.state_dict(), options.final)
    tell("done", fingerprint=fingerprint(trainer.state_dict()))


if __name__ == "__main__":
    main(sys.argv[1:])
