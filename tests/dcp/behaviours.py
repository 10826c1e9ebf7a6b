"""Checks of what programs that use DCP count on, whatever stores their checkpoints."""

import itertools
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed._shard import sharded_tensor
from torch.distributed._shard.sharding_spec import (
    ChunkShardingSpec,
    EnumerableShardingSpec,
    ShardMetadata,
)
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor, zeros
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from understudy.dcp import StorageReader, StorageWriter


def save(state: dict[str, Any], path: Path) -> None:
    dcp.save(state, checkpoint_id=path, storage_writer=StorageWriter(overwrite=True))


def load(state: dict[str, Any], path: Path) -> None:
    dcp.load(state, checkpoint_id=path, storage_reader=StorageReader())


def other_meshes(folder: Path) -> None:
    """From each placement into each other one, of one dimension of ranks and of two."""
    world = dist.get_world_size()
    flat = init_device_mesh("cpu", (world,))
    grid = init_device_mesh("cpu", (2, world // 2))
    whole = torch.arange(35.0).view(5, 7)
    kinds = (Replicate(), Shard(0), Shard(1))
    placed = [
        *((flat, [kind]) for kind in kinds),
        *((grid, list(pair)) for pair in itertools.product(kinds, kinds)),
    ]
    for mesh, placements in placed:
        save({"w": distribute_tensor(whole, mesh, placements)}, folder / "meshes")
        targets = {
            str(i): zeros(5, 7, device_mesh=to, placements=into)
            for i, (to, into) in enumerate(placed)
        }
        for name, target in targets.items():
            load({"w": target}, folder / "meshes")
            assert torch.equal(target.full_tensor(), whole), (placements, placed[int(name)])
        dist.barrier()


class Collective:
    """All ranks load it together."""

    def __init__(self) -> None:
        self.sum = 0

    def state_dict(self) -> dict[str, Any]:
        return {"n": dist.get_rank()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        total = torch.tensor([dist.get_rank() + 1])
        dist.all_reduce(total)
        self.sum = int(total)


def other_order(folder: Path) -> None:
    """Keys in another order on each rank, of objects that exchange something as they are loaded."""
    objects = {"a": Collective(), "b": Collective(), "c": Collective()}
    names = list(objects)
    turn = dist.get_rank() % 3
    state = {name: objects[name] for name in names[turn:] + names[:turn]}
    save(state, folder / "order")
    load(state, folder / "order")
    world = dist.get_world_size()
    assert [thing.sum for thing in objects.values()] == [world * (world + 1) // 2] * 3


def other_cuts(folder: Path) -> None:
    """ShardedTensors whose ranks have several rows here and columns there."""

    def rows(*parts: tuple[int, int, int]) -> EnumerableShardingSpec:
        return EnumerableShardingSpec(
            [
                ShardMetadata([begin, 0], [size, 20], placement=f"rank:{rank}/cpu")
                for begin, size, rank in parts
            ]
        )

    both = ["rank:0/cpu", "rank:1/cpu"]
    specs = [
        ChunkShardingSpec(dim=0, placements=both),
        ChunkShardingSpec(dim=1, placements=both),
        ChunkShardingSpec(dim=0, placements=[*both, *reversed(both)]),
        rows((0, 2, 0), (2, 1, 1), (3, 3, 0), (6, 3, 1), (9, 1, 0)),
        rows((0, 8, 1), (8, 2, 0)),
    ]
    for saved, loaded in itertools.permutations(specs, 2):
        tensor = sharded_tensor.rand(saved, 10, 20)
        save({"t": tensor}, folder / "cuts")
        target = sharded_tensor.zeros(loaded, 10, 20)
        load({"t": target}, folder / "cuts")
        wholes = [torch.zeros(10, 20) if dist.get_rank() == 0 else None for _ in range(2)]
        tensor.gather(out=wholes[0])
        target.gather(out=wholes[1])
        if dist.get_rank() == 0:
            assert torch.equal(*wholes), (saved, loaded)


class Net(torch.nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.up = torch.nn.Linear(6, 8)
        self.down = torch.nn.Linear(8, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(self.up(x).relu())


class Training:
    """What is saved is the objects themselves, as DCP's guide has it."""

    def __init__(self, how: str, seed: int) -> None:
        world = dist.get_world_size()
        self.net: Any = Net(seed)
        if how == "fsdp":
            fully_shard(self.net)
        elif how == "hsdp":
            mesh = init_device_mesh("cpu", (2, world // 2), mesh_dim_names=("copy", "part"))
            fully_shard(self.net, mesh=mesh)
        elif how == "tp":
            plan = {"up": ColwiseParallel(), "down": RowwiseParallel()}
            parallelize_module(self.net, init_device_mesh("cpu", (world,)), plan)
        else:
            assert how == "plain"
        # With this eps gradients that are zero but for rounding, which differs, move nothing.
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=0.1, eps=0.1)

    def step(self, seed: int) -> float:
        x = torch.randn(4, 6, generator=torch.Generator().manual_seed(seed))
        loss = self.net(x).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss)

    def state_dict(self) -> dict[str, Any]:
        model, optimizer = get_state_dict(self.net, self.optimizer)
        return {"model": model, "optimizer": optimizer}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        set_state_dict(
            self.net,
            self.optimizer,
            model_state_dict=state["model"],
            optim_state_dict=state["optimizer"],
        )


def trainings(folder: Path) -> None:
    """From each way to train into each other one, model and optimizer, and one step further."""
    ways = ["fsdp", "tp", "plain", *(["hsdp"] if dist.get_world_size() == 4 else [])]
    for saved in ways:
        training = Training(saved, 0)
        training.step(1)
        save({"app": training}, folder / "trainings")
        losses = [training.step(2), training.step(3)]
        for loaded in ways:
            other = Training(loaded, 1)
            load({"app": other}, folder / "trainings")
            found = [other.step(2), other.step(3)]
            assert all(abs(a - b) < 1e-5 for a, b in zip(losses, found, strict=True)), (
                saved,
                loaded,
                losses,
                found,
            )
        dist.barrier()


def process_goes_on(folder: Path) -> None:
    """A save that fails in the other process, which saves the next one all the same."""

    def begin(name: str, value: float) -> Any:
        return dcp.async_save(
            {"w": torch.full((4,), value)},
            checkpoint_id=folder / "process" / name,
            storage_writer=StorageWriter(),
            async_checkpointer_type=AsyncCheckpointerType.PROCESS,
        )

    begin("step-1", 1.0).result()
    failure = begin("step-1", 2.0).exception()
    assert "is there already" in str(failure), failure
    begin("step-2", 3.0).result()
    for name, value in (("step-1", 1.0), ("step-2", 3.0)):
        state = {"w": torch.zeros(4)}
        load(state, folder / "process" / name)
        assert state["w"].tolist() == [value] * 4
