"""torch.distributed.checkpoint of two ranks: its storage, and ours.

Run by itself it is the program of each rank under torchrun; it prints the seconds as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from suite.measure import Figure, Workload

RANKS = 2
OURS = "StorageWriter"
PEER = "FileSystemWriter"
OURS_READER = "StorageReader, verified"
PEER_READER = "FileSystemReader"
ROOF = "direct write, both ranks"
SAVE = "dcp.save, 2 ranks"
LOAD = "dcp.load, 2 ranks, warm page cache"


def bench_dcp(nbytes: int, folder: Path, roofs: Path, repetitions: int) -> list[Workload]:
    package = Path(__file__).resolve().parent.parent
    paths = os.pathsep.join([str(package), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc-per-node", str(RANKS), str(Path(__file__).resolve())),
        *(str(nbytes), str(folder), str(roofs), str(repetitions)),
    ]
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )
    seconds = json.loads(done.stdout.strip().splitlines()[-1])
    kinds = {ROOF: "roof", PEER: "peer", PEER_READER: "peer"}
    return [
        Workload(
            name,
            nbytes,
            [Figure(who, seconds[who], kinds.get(who, "ours")) for who in figures],
            notes,
        )
        for name, figures, notes in (
            (SAVE, (ROOF, OURS, PEER), ["the slower rank's seconds; all sync what they write"]),
            (LOAD, (OURS_READER, PEER_READER), ["only ours verifies what it reads"]),
        )
    ]


def _measure(nbytes: int, folder: Path, roofs: str, repetitions: int) -> dict[str, list[float]]:
    import torch
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    from suite.durable import sync
    from suite.measure import interleave, timed
    from understudy.dcp import StorageReader, StorageWriter

    tensors = 64
    mesh = init_device_mesh("cpu", (RANKS,))
    whole = torch.rand(RANKS, nbytes // RANKS // 4 // tensors)
    state = {
        f"layers.{i}.weight": distribute_tensor(whole, mesh, [Shard(0)]) for i in range(tensors)
    }
    is_first = dist.get_rank() == 0

    def slowest(run: Callable[[], Any]) -> float:
        dist.barrier()
        with timed() as watch:
            found = run()
        times = [0.0] * RANKS
        dist.all_gather_object(times, watch.seconds if found is None else found)
        return max(times)

    def saver(name: str, make: Callable[[], Any]) -> Callable[[], float]:
        def run() -> float:
            path = folder / name
            if is_first:
                shutil.rmtree(path, ignore_errors=True)

            def save() -> None:
                dcp.save(state, checkpoint_id=path, storage_writer=make())
                if name == PEER and is_first:  # as durable as ours
                    sync(path)
                    sync(path.parent)

            return slowest(save)

        return run

    def roof() -> float:
        arguments = ["direct_write", str(nbytes // RANKS), "1", "1", str(folder)]

        def write() -> float:
            done = subprocess.run([roofs, *arguments], capture_output=True, text=True, check=True)
            return float(json.loads(done.stdout)["direct_write"][0])

        return slowest(write)

    def loader(name: str, make: Callable[[], Any]) -> Callable[[], float]:
        target = {key: torch.zeros_like(tensor) for key, tensor in state.items()}

        def run() -> float:
            path = folder / name
            return slowest(lambda: dcp.load(target, checkpoint_id=path, storage_reader=make()))

        return run

    writer = StorageWriter()
    savers = [
        roof,
        saver(OURS, lambda: writer),
        saver(PEER, lambda: dcp.FileSystemWriter(folder / PEER)),
    ]
    interleave(savers, 1)  # memory that nobody has touched, and the folders that are loaded
    times = dict(zip((ROOF, OURS, PEER), interleave(savers, repetitions), strict=True))
    loaders = [
        loader(OURS, StorageReader),
        loader(PEER, lambda: dcp.FileSystemReader(folder / PEER)),
    ]
    interleave(loaders, 1)  # the page cache
    loaded = interleave(loaders, repetitions)
    return times | dict(zip((OURS_READER, PEER_READER), loaded, strict=True))


def _main(nbytes: str, folder: str, roofs: str, repetitions: str) -> None:
    import torch.distributed as dist

    dist.init_process_group("gloo")
    seconds = _measure(int(nbytes), Path(folder), roofs, int(repetitions))
    if dist.get_rank() == 0:
        print(json.dumps(seconds), flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    _main(*sys.argv[1:])
