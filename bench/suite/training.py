"""What training pays for a checkpoint, from the call until it is durable.

Run as a program, it prints the figures as JSON: `training.py GIB REPETITIONS FOLDER`. It is run in
a process of its own because OpenMP reads OMP_WAIT_POLICY once: threads of the trainer that spin
while they wait would take the cores from whoever saves in the background.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from suite.measure import Figure, Workload

OURS = "Checkpointer.save"
OURS_OVERLAPPED = "Checkpointer.save, overlapped"
DCP = "dcp.async_save, stager kept"

# Weights and two moments of AdamW, float32.
_BYTES_PER_WEIGHT = 12
_WIDTH = 1024


def bench_training(nbytes: int, folder: Path, repetitions: int) -> Workload:
    command = [sys.executable, "-m", "suite.training", str(nbytes), str(repetitions), str(folder)]
    environment = {
        **os.environ,
        "OMP_WAIT_POLICY": "passive",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    output = subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment
    ).stdout
    found = json.loads(output)
    workload = Workload("training, time added by a checkpoint", found["nbytes"])
    for name, seconds in found["added"].items():
        workload.figures.append(Figure(name, seconds, "peer" if name == DCP else "ours"))
    steps = found["step"]
    workload.figures.append(Figure("a step without one", steps, "roof"))
    workload.notes.append(f"Understudy's capture: {found['capture']}")
    return workload


class _Training:
    def __init__(self, nbytes: int) -> None:
        import torch

        layers = max(1, nbytes // _BYTES_PER_WEIGHT // _WIDTH**2)
        self.model = torch.nn.Sequential(
            *[torch.nn.Linear(_WIDTH, _WIDTH, bias=False) for _ in range(layers)]
        )
        self.optimizer = torch.optim.AdamW(self.model.parameters(), fused=True)
        self.x = torch.randn(16, _WIDTH)
        self.step()

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.model(self.x).square().mean().backward()
        self.optimizer.step()

    def state(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def timed_steps(self, is_over: Callable[[int], bool]) -> tuple[int, float]:
        """At least one step, until `is_over` says so; their number and their seconds."""
        start, count = time.perf_counter(), 0
        while count == 0 or not is_over(count):
            self.step()
            count += 1
        return count, time.perf_counter() - start


def main(nbytes: int, repetitions: int, folder: Path) -> None:
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

    import understudy

    training = _Training(nbytes)
    stager = DefaultStager(StagingOptions(False, False, False, False))
    checkpointers = {
        OURS: understudy.Checkpointer(folder / "training-ours"),
    }
    captures = ""
    with contextlib.suppress(understudy.Error):  # what is missing, `doctor` says
        checkpointers[OURS_OVERLAPPED] = understudy.Checkpointer(
            folder / "training-overlapped", capture="overlapped"
        )
    number = 0

    def save(name: str) -> tuple[Callable[[], bool], Callable[[], None]]:
        """Begins a save; says whether it is durable, and waits for it."""
        nonlocal captures
        if name == DCP:
            future: Any = dcp.async_save(
                training.state(),
                checkpoint_id=folder / "training-dcp" / str(number),
                async_stager=stager,
                no_dist=True,
            )
            return future.done, lambda: future.result() and None
        ticket = checkpointers[name].save(number, training.state())
        if name == OURS:
            captures = ticket.capture
        return ticket.done, lambda: ticket.wait() and None

    def added(name: str) -> tuple[float, float]:
        """Seconds that the loop lost to one save, and a step's without one, before and after."""
        nonlocal number
        number += 1
        alone = [training.timed_steps(lambda count: count == 4) for _ in range(2)]
        start = time.perf_counter()
        done, wait = save(name)
        count, _ = training.timed_steps(lambda _: done())
        seconds = time.perf_counter() - start
        wait()
        alone += [training.timed_steps(lambda count: count == 4)]
        step = statistics.median(total / steps for steps, total in alone)
        for path in folder.glob("training-*/*"):
            if path.is_dir():
                shutil.rmtree(path)
        return seconds - count * step, step

    names = [*checkpointers, DCP]
    losses: dict[str, list[float]] = {name: [] for name in names}
    steps: list[float] = []
    for round_number in range(repetitions + 1):
        for position in range(len(names)):
            name = names[(round_number + position) % len(names)]
            lost, step = added(name)
            if round_number > 0:  # the first finds no plan, no image and no buffer
                losses[name].append(lost)
                steps.append(step)
    for checkpointer in checkpointers.values():
        checkpointer.close()
    stager.close()
    weights = sum(p.numel() for p in training.model.parameters())
    print(
        json.dumps(
            {
                "nbytes": weights * _BYTES_PER_WEIGHT,
                "added": losses,
                "step": steps[:repetitions],
                "capture": captures,
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
