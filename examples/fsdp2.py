"""A model that FSDP2 has cut over two processes: one of them is killed in the middle of a save, all
resume, and then go on in another number of processes.

    python examples/fsdp2.py [FOLDER]

starts, one after the other, under torchrun:

1. two processes that are never disturbed,
2. two, of which the second is killed while a step is being written,
3. two that resume, and
4. one that goes on from where those ended.

and compares the losses. The training itself, from `train` on, is what a program of yours would be:

    torchrun --nproc-per-node 2 examples/fsdp2.py FOLDER --train --until 40
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

EVERY = 10  # steps between saves
KILLED_AT, RESUMED_UNTIL, UNTIL = 20, 30, 40


def train(folder: str, until: int, is_killed: bool) -> None:
    import torch
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard

    import understudy

    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(64, 1024), torch.nn.ReLU(), torch.nn.Linear(1024, 1024), torch.nn.Tanh()
    )
    for layer in model:
        if isinstance(layer, torch.nn.Linear):
            fully_shard(layer)
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def train_one_step(step: int) -> float:
        batch = torch.randn(8, 64, generator=torch.Generator().manual_seed(step))
        loss = model(batch.chunk(ranks)[rank]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mean = loss.detach() / ranks
        dist.all_reduce(mean)
        return mean.item()

    # A save that is to be killed is made slow, so that it is under way for certain.
    ckpt = understudy.Checkpointer(folder, keep=3, max_write_rate=2 << 20 if is_killed else None)
    app = {"model": model, "optimizer": optimizer}
    step = ckpt.resume(app) or 0
    while step < until:
        loss = train_one_step(step)
        step += 1
        if rank == 0:
            print(json.dumps({"step": step, "loss": loss.hex(), "ranks": ranks}), flush=True)
        if step % EVERY == 0:
            if step < KILLED_AT and is_killed:
                ckpt.save(step, app).wait()
                continue
            ckpt.save(step, app)
            if is_killed and rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
    ckpt.close()
    dist.destroy_process_group()


def run(folder: Path, ranks: int, until: int, *flags: str, fails: bool = False) -> dict[int, float]:
    """The losses of the steps that one run has made."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [
            *(*launch, "--nproc-per-node", str(ranks), __file__, str(folder)),
            *("--train", "--until", str(until), *flags),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if fails else None,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    if (done.returncode != 0) != fails:
        raise SystemExit(f"the run ended with status {done.returncode}\n{done.stderr}")
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line["step"]: float.fromhex(line["loss"]) for line in lines}


def compare(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    straight = run(folder / "straight", 2, UNTIL)
    print(f"1. two processes, undisturbed: {len(straight)} steps, loss {straight[UNTIL]:.6f}")

    run(folder / "run", 2, UNTIL, "--killed", fails=True)
    left = sorted(p.name.partition("-in-")[0] for p in (folder / "run").glob("step-*"))
    print(f"2. the second was killed while step {KILLED_AT} was written; there are {left}")

    resumed = run(folder / "run", 2, RESUMED_UNTIL)
    first = min(resumed)
    if first != EVERY + 1 or any(straight[step] != loss for step, loss in resumed.items()):
        raise SystemExit("what was resumed is not what was saved")
    print(f"3. resumed at step {first}: all {len(resumed)} losses are the same, to the last bit")

    other = run(folder / "run", 1, UNTIL)
    worst = max(abs(loss - straight[step]) / straight[step] for step, loss in other.items())
    if min(other) != RESUMED_UNTIL + 1 or worst > 1e-5:
        raise SystemExit(f"one process went another way than two: {worst}")
    bits = "to the last bit" if worst == 0 else f"to 1 part in 2**{math.floor(-math.log2(worst))}"
    print(
        f"4. one process went on at step {min(other)}: all {len(other)} losses are the same {bits}"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", default="demo-out/fsdp2")
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--until", type=int, default=UNTIL)
    parser.add_argument("--killed", action="store_true")
    given = parser.parse_args()
    if given.train:
        train(given.folder, given.until, given.killed)
    else:
        compare(Path(given.folder))


if __name__ == "__main__":
    main()
