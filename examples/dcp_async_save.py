"""Training that saves with torch.distributed.checkpoint's async_save and Understudy's stager.

    python examples/dcp_async_save.py FOLDER [--steps 60] [--every 5] [--process]

Kill it at any moment and start it again: it goes on from the newest complete checkpoint, and ends
with the very weights of a run that nobody killed.
"""

from __future__ import annotations

import argparse
import hashlib
import warnings
from concurrent.futures import Future
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType

import understudy.dcp


def newest_complete(folder: Path) -> Path | None:
    """DCP writes `.metadata` last: a checkpoint without it was never finished."""
    steps = [p for p in folder.glob("step-*") if (p / ".metadata").exists()]
    return max(steps, key=lambda p: int(p.name.removeprefix("step-")), default=None)


def state_of(model: torch.nn.Module, optimizer: torch.optim.Optimizer, step: int) -> dict:
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}


def train_one_step(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, step: int
) -> torch.Tensor:
    data = torch.Generator().manual_seed(step)  # the data of a step, whoever comes to it
    x = torch.randn(64, 32, generator=data)
    loss = (model(x) - x.flip(1)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--every", type=int, default=5, help="steps between saves")
    parser.add_argument("--process", action="store_true", help="save in a process, not a thread")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="torch.distributed is")  # one process

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(32, 256), torch.nn.GELU(), torch.nn.Linear(256, 32))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    step = 0
    if newest := newest_complete(options.folder):
        # The optimizer's tensors exist only after its first step.
        train_one_step(model, optimizer, 0)
        state = state_of(model, optimizer, 0)
        dcp.load(state, checkpoint_id=newest, no_dist=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    print(f"starts at step {step}", flush=True)

    kind = AsyncCheckpointerType.PROCESS if options.process else AsyncCheckpointerType.THREAD
    stager = understudy.dcp.AsyncStager()
    saves: list[Future] = []
    while step < options.steps:
        loss = train_one_step(model, optimizer, step)
        step += 1
        if step % options.every == 0:
            saves.append(
                dcp.async_save(
                    state_of(model, optimizer, step),
                    checkpoint_id=options.folder / f"step-{step}",
                    async_stager=stager,
                    async_checkpointer_type=kind,
                    no_dist=not options.process,
                )
            )
            print(f"step {step}, loss {loss.item():.6f}, saving", flush=True)
    for save in saves:
        save.result()  # raises what went wrong
    stager.close()
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    print("weights", hashlib.sha256(weights.numpy().tobytes()).hexdigest())


if __name__ == "__main__":
    main()
