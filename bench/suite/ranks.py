"""Two processes under torchrun, FSDP2 with AdamW: saved durably, the loop stopped, and loaded.

Run as a program under torchrun, it prints the figures as JSON: `ranks.py GIB REPETITIONS FOLDER`.
A time is that of the slower process, from a barrier on.
"""

from __future__ import annotations

import functools
import json
import mmap
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from suite.durable import sync
from suite.measure import Figure, Workload, interleave

OURS_SAVE, DCP_SAVE = "Checkpointer.save().wait()", "dcp.save"
OURS_CALL, DCP_CALL = "Checkpointer.save", "dcp.async_save"
OURS_LOAD, DCP_LOAD = "Checkpointer.resume", "dcp.load"
ROOF = "O_DIRECT and fsync by both"
SAVE = "two ranks, FSDP2, save, durable"
STOPPED = "two ranks, FSDP2, loop stopped"
LOAD = "two ranks, FSDP2, load in place, warm page cache"

_RANKS = 2
_BYTES_PER_WEIGHT = 12  # weights and two moments of AdamW, float32
_WIDTH = 1024
_WRITE_NBYTES = 4 << 20


def bench_ranks(nbytes: int, folder: Path, repetitions: int) -> list[Workload]:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", str(_RANKS), "-m", "suite.ranks"),
            *map(str, (nbytes, repetitions, folder)),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
    )
    if done.returncode != 0:
        raise SystemExit(f"the benchmark of two ranks failed:\n{done.stdout}{done.stderr}")
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    workloads = []
    for name, times in found["workloads"].items():
        workload = Workload(name, found["nbytes"])
        for contestant, seconds in times.items():
            is_ours, is_roof = contestant.startswith("Checkpointer"), contestant == ROOF
            kind = "roof" if is_roof else "ours" if is_ours else "peer"
            workload.figures.append(Figure(contestant, seconds, kind))
        workloads.append(workload)
    workloads[1].notes.append(
        f"a call of {found['tensors']} tensors of one element: {found['call'] * 1e3:.2f} ms"
    )
    return workloads


class _Training:
    def __init__(self, nbytes: int) -> None:
        import torch
        from torch.distributed.fsdp import fully_shard

        layers = max(1, nbytes // _BYTES_PER_WEIGHT // _WIDTH**2)
        self.model = torch.nn.Sequential(
            *[torch.nn.Linear(_WIDTH, _WIDTH, bias=False) for _ in range(layers)]
        )
        for layer in self.model:
            fully_shard(layer)
        fully_shard(self.model)
        self.optimizer = torch.optim.AdamW(self.model.parameters())
        self.model(torch.randn(2, _WIDTH)).square().mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def app(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer}

    def state(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def own_nbytes(self) -> int:
        own = sum(p.to_local().nbytes for p in self.model.parameters())
        return own * _BYTES_PER_WEIGHT // 4


def _slowest(do: Callable[[], None]) -> float:
    import torch
    import torch.distributed as dist

    group = _own_group()
    dist.barrier(group)
    start = time.perf_counter()
    do()
    seconds = torch.tensor(time.perf_counter() - start, dtype=torch.float64)
    dist.all_reduce(seconds, dist.ReduceOp.MAX, group)
    return float(seconds)


@functools.cache
def _own_group() -> Any:
    """For barriers and times: saves in the background use the default one."""
    import torch.distributed as dist

    return dist.new_group()


class _Contestants:
    def __init__(self, nbytes: int, folder: Path) -> None:
        import torch.distributed as dist

        import understudy

        self.folder = folder
        self.rank = dist.get_rank()
        self.training = _Training(nbytes)
        self.ckpt = understudy.Checkpointer(folder / "ours")
        self.step = 0

    def save(self) -> float:
        self._begin_step()
        return _slowest(lambda: self.ckpt.save(self.step, self.training.app()).wait() and None)

    def call(self) -> float:
        self._begin_step()
        seconds = _slowest(lambda: self.ckpt.save(self.step, self.training.app()) and None)
        self.ckpt.wait()
        return seconds

    def resume(self) -> float:
        return _slowest(lambda: self.ckpt.resume(self.training.app()) and None)

    def dcp_save(self) -> float:
        import torch.distributed.checkpoint as dcp

        path = self._new("dcp")

        def save() -> None:
            dcp.save(self.training.state(), checkpoint_id=path)  # it calls fsync for its files
            if self.rank == 0:
                sync(path)
                sync(path.parent)

        return _slowest(save)

    def dcp_call(self) -> float:
        import torch.distributed.checkpoint as dcp

        path = self._new("dcp")
        saved: list[Any] = []
        seconds = _slowest(
            lambda: saved.append(dcp.async_save(self.training.state(), checkpoint_id=path))
        )
        saved[0].result()
        return seconds

    def dcp_load(self) -> float:
        import torch.distributed.checkpoint as dcp

        def load() -> None:
            state = self.training.state()
            dcp.load(state, checkpoint_id=self.folder / "dcp")
            self.training.model.load_state_dict(state["model"])
            self.training.optimizer.load_state_dict(state["optimizer"])

        return _slowest(load)

    def write(self) -> float:
        path = self.folder / f"roof-{self.rank}"
        path.unlink(missing_ok=True)
        buffer = mmap.mmap(-1, _WRITE_NBYTES)
        count = -(-self.training.own_nbytes() // _WRITE_NBYTES)

        def write() -> None:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_DIRECT, 0o600)
            try:
                for _ in range(count):
                    os.write(descriptor, buffer)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

        return _slowest(write)

    def _begin_step(self) -> None:
        """Its predecessor is removed outside of the time, as that of DCP is."""
        self._new(f"ours/step-{self.step}")
        self.step += 1

    def _new(self, name: str) -> Path:
        import torch.distributed as dist

        path = self.folder / name
        dist.barrier(_own_group())
        if self.rank == 0:
            shutil.rmtree(path, ignore_errors=True)
        return path


def _small_call(folder: Path, tensors: int, repetitions: int) -> float:
    import torch

    import understudy

    state = {f"w{i}": torch.zeros(1) for i in range(tensors)}
    with understudy.Checkpointer(folder / "small", keep=1) as ckpt:
        times = []
        for step in range(3 * repetitions):
            times.append(_slowest(lambda step=step: ckpt.save(step, state) and None))
            ckpt.wait()
    return sorted(times)[len(times) // 2]


def main(nbytes: int, repetitions: int, folder: Path) -> None:
    import torch.distributed as dist

    dist.init_process_group("gloo")
    turns = _Contestants(nbytes, folder)
    rounds: dict[str, dict[str, Callable[[], float]]] = {
        SAVE: {OURS_SAVE: turns.save, DCP_SAVE: turns.dcp_save, ROOF: turns.write},
        STOPPED: {OURS_CALL: turns.call, DCP_CALL: turns.dcp_call},
        LOAD: {OURS_LOAD: turns.resume, DCP_LOAD: turns.dcp_load},
    }
    workloads = {}
    for name, contestants in rounds.items():
        for once in contestants.values():
            once()  # images and files are made, pages are read
        times = interleave(list(contestants.values()), repetitions)
        workloads[name] = dict(zip(contestants, times, strict=True))
    turns.ckpt.close()
    tensors = 1000
    call = _small_call(folder, tensors, repetitions)
    if turns.rank == 0:
        print(
            json.dumps(
                {
                    "nbytes": _RANKS * turns.training.own_nbytes(),
                    "workloads": workloads,
                    "tensors": tensors,
                    "call": call,
                }
            ),
            flush=True,
        )
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
