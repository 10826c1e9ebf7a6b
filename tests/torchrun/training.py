"""What the programs train, in every placement."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

import understudy

WAIT_S = 60.0  # what a rank waits for another: longer than any is late here


def checkpointer(folder: Path, **options: Any) -> understudy.Checkpointer:
    return understudy.Checkpointer(folder, timeout=options.pop("timeout", WAIT_S), **options)


def error_of(call: Any) -> understudy.Error:
    try:
        call()
    except understudy.Error as error:
        return error
    raise AssertionError("nothing was raised")


class Net(nn.Module):
    """The last layer has three rows: uneven on two ranks, and none for the fourth of four."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.second = nn.Linear(8, 8)
        self.last = nn.Linear(8, 3)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += len(x)
        return self.last(self.second(self.first(x).relu()).relu())


def shard(net: Net, mesh: Any = None) -> None:
    for layer in (net.first, net.second, net.last):
        fully_shard(layer, mesh=mesh)
    fully_shard(net, mesh=mesh)


def cut(net: Net, mesh: Any) -> None:
    plan = {"first": ColwiseParallel(), "second": RowwiseParallel()}
    parallelize_module(net, mesh, plan)


def build(how: str, seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    net: Any = Net()
    world = dist.get_world_size()
    if how == "ddp":
        # Names as everybody else's.
        DistributedDataParallel(net)
    elif how == "fsdp":
        shard(net, init_device_mesh("cpu", (world,)))
    elif how == "hsdp":
        shard(net, init_device_mesh("cpu", (2, world // 2), mesh_dim_names=("copy", "part")))
    elif how == "tp":
        cut(net, init_device_mesh("cpu", (world,)))
    elif how == "fsdp+tp":
        mesh = init_device_mesh("cpu", (2, world // 2), mesh_dim_names=("part", "cut"))
        cut(net, mesh["cut"])
        shard(net, mesh["part"])
    else:
        assert how == "plain"
    return net, torch.optim.AdamW(net.parameters(), lr=0.01)


def train(net: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> float:
    """One step, on the same data on all ranks."""
    generator = torch.Generator().manual_seed(1000 + step)
    loss = net(torch.randn(4, 6, generator=generator)).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def whole(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach()
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).clone()


def all_of(net: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Every tensor of a training, whole."""
    tensors = {name: whole(t) for name, t in net.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors.update({f"{number}.{key}": whole(t) for key, t in state.items()})
    return tensors
