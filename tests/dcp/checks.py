"""Run under torchrun: `checks.py FOLDER NAME...`. Rank 0 prints `passed NAME` where all have."""

import os
import signal
import sys
import traceback
import warnings
from pathlib import Path

import behaviours
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed._shard import sharded_tensor
from torch.distributed._shard.sharding_spec import ChunkShardingSpec
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

import understudy
from understudy.dcp import AsyncStager, StorageReader, StorageWriter

FOLDER = Path(sys.argv[1])


def rank():
    return dist.get_rank()


class Net(torch.nn.Module):
    """Five rows for two or four ranks, one row, a buffer of integers, and no dimension at all."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(7)
        self.a = torch.nn.Linear(6, 5)
        self.b = torch.nn.Linear(5, 8, bias=False)
        self.one = torch.nn.Parameter(torch.randn(1, 3))
        self.register_buffer("count", torch.arange(9))
        self.register_buffer("scale", torch.tensor(2.5))

    def forward(self, x):
        return self.b(self.a(x)) * self.scale


def whole():
    """What every placement must give, without a shard."""
    return {"model": dict(Net().state_dict()), "lr": 0.25, "text": "t" * 3000, "betas": [0.9, 0.95]}


def state_of(model):
    return {"model": model.state_dict(), "lr": 0.25, "text": "t" * 3000, "betas": [0.9, 0.95]}


def local(tensor):
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def empty(state):
    """With the same placements, and other values."""
    for tensor in state["model"].values():
        local(tensor).zero_()
    return {"model": state["model"], "lr": 0.0, "text": "", "betas": [0, 0]}


def expect_whole(state):
    wanted = whole()
    assert state["lr"] == 0.25 and state["text"] == wanted["text"] and state["betas"] == [0.9, 0.95]
    assert state["model"].keys() == wanted["model"].keys()
    for name, tensor in state["model"].items():
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        assert torch.equal(full, wanted["model"][name]), name


def save(state, path, **options):
    planner = options.pop("planner", None)
    dcp.save(state, checkpoint_id=path, storage_writer=StorageWriter(**options), planner=planner)


def load(state, path, planner=None):
    dcp.load(state, checkpoint_id=path, storage_reader=StorageReader(), planner=planner)


def expect_saved_and_loaded(model, path):
    save(state_of(model), path)
    target = empty(state_of(model))
    load(target, path)
    expect_whole(target)
    if rank() == 0:
        found = understudy.load_file(path)
        expect_whole(found)
        assert sum(f.name.startswith("shard-") for f in path.iterdir()) == dist.get_world_size()
    # PyTorch's own reader, which knows no values and nothing of us.
    target = {k: v for k, v in empty(state_of(model)).items() if k == "model"}
    reader = HuggingFaceStorageReader(str(path))
    dcp.load(target, storage_reader=reader, planner=DefaultLoadPlanner(allow_partial_load=True))
    expect_whole({**whole(), "model": target["model"]})


def errors_of(call):
    """Each rank's own, by rank."""
    try:
        call()
    except CheckpointException as failed:
        return {r: error for r, (error, _) in failed.failures.items()}
    raise AssertionError("it did not fail")


def sharded():
    model = Net()
    fully_shard(model)
    return model


def fsdp():
    expect_saved_and_loaded(sharded(), FOLDER / f"fsdp-{dist.get_world_size()}")


def hsdp():
    model = Net()
    fully_shard(model, mesh=init_device_mesh("cpu", (2, 2), mesh_dim_names=("r", "s")))
    expect_saved_and_loaded(model, FOLDER / "hsdp")


def tensor_parallel():
    model = Net()
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    parallelize_module(model, mesh, {"a": ColwiseParallel(), "b": RowwiseParallel()})
    expect_saved_and_loaded(model, FOLDER / "tp")


def two_dimensions():
    model = Net()
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    parallelize_module(model, mesh["tp"], {"a": ColwiseParallel(), "b": RowwiseParallel()})
    fully_shard(model, mesh=mesh["dp"])
    expect_saved_and_loaded(model, FOLDER / "2d")


def replicas():
    model = Net()
    expect_saved_and_loaded(model, FOLDER / "replicas")
    if rank() == 0:  # and they are written once
        nbytes = sum(f.stat().st_size for f in (FOLDER / "replicas").glob("shard-*"))
        assert nbytes < 2 * 4096 * dist.get_world_size() + 4 * 4096, nbytes


def of_two_ranks():
    target = empty(state_of(sharded()))
    load(target, FOLDER / "fsdp-2")
    expect_whole(target)
    plain = empty(state_of(Net()))
    load(plain, FOLDER / "fsdp-2")
    expect_whole(plain)


def any_placement():
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    tensor = torch.arange(35.0).view(5, 7)
    empty_one = torch.empty(0, 4)
    for i, saved in enumerate([Shard(0), Shard(1), Replicate()]):
        path = FOLDER / f"placed-{dist.get_world_size()}-{i}"
        state = {
            "w": distribute_tensor(tensor, mesh, [saved]),
            "e": distribute_tensor(empty_one, mesh, [Shard(0)]),
        }
        save(state, path)
        for loaded in [Shard(0), Shard(1), Replicate()]:
            target = {
                "w": distribute_tensor(torch.zeros(5, 7), mesh, [loaded]),
                "e": torch.ones(0, 4),
            }
            load(target, path)
            assert torch.equal(target["w"].full_tensor(), tensor), (saved, loaded)


def stages():
    # Names that only one rank has.
    state = {f"stage{rank()}": {"w": torch.full((3,), float(rank())), "n": rank()}, "lr": 0.5}
    save(state, FOLDER / "stages")
    target = {f"stage{rank()}": {"w": torch.zeros(3), "n": -1}, "lr": 0.0}
    load(target, FOLDER / "stages", DefaultLoadPlanner(allow_partial_load=True))
    assert target["lr"] == 0.5 and target[f"stage{rank()}"]["n"] == rank()
    assert target[f"stage{rank()}"]["w"].tolist() == [float(rank())] * 3
    if rank() == 0:
        found = understudy.load_file(FOLDER / "stages")
        assert found["stage1"]["n"] == 1 and found["stage1"]["w"].tolist() == [1.0] * 3


def several_chunks_of_a_rank():
    # A file takes one chunk of a tensor: the others are in files of their own.
    def rows(placements):
        spec = ChunkShardingSpec(dim=0, placements=[f"rank:{r}/cpu" for r in placements])
        return {"t": sharded_tensor.rand(spec, 10, 20), "u": torch.ones(3)}

    def values(state):
        return [shard.tensor for shard in state["t"].local_shards()]

    path = FOLDER / "chunks"
    saved = rows([0, 1, 1, 0])
    save(saved, path)
    target = rows([0, 1, 1, 0])
    load(target, path)
    assert len(values(target)) == 2
    assert all(torch.equal(a, b) for a, b in zip(values(saved), values(target), strict=True))
    other = rows([1, 0])
    load(other, path)
    dist.barrier()
    found = understudy.load_file(path)["t"]
    for shard in [*other["t"].local_shards(), *saved["t"].local_shards()]:
        begin, size = shard.metadata.shard_offsets[0], shard.metadata.shard_sizes[0]
        assert torch.equal(found[begin : begin + size], shard.tensor)
    names = {x.name for x in path.glob("*.safetensors")}
    assert {"shard-00001-of-00002.safetensors", "shard-00001-of-00002-1.safetensors"} < names
    foreign = {"t": torch.zeros(10, 20)}
    reader = HuggingFaceStorageReader(str(path))
    dcp.load(foreign, storage_reader=reader, planner=DefaultLoadPlanner(allow_partial_load=True))
    assert torch.equal(foreign["t"], found)


def cached_plans():
    class Planner(DefaultSavePlanner):
        pass

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    writer = StorageWriter()
    for step in range(3):
        state = {"w": distribute_tensor(torch.full((6,), float(step)), mesh, [Shard(0)]), "n": step}
        path = FOLDER / "cached" / f"step-{step}"
        planner = Planner(enable_plan_caching=True)
        dcp.save(state, checkpoint_id=path, storage_writer=writer, planner=planner)
    if rank() == 0:
        for step in range(3):
            found = understudy.load_file(FOLDER / "cached" / f"step-{step}")
            assert found["w"].tolist() == [float(step)] * 6 and found["n"] == step
        names = sorted(x.name for x in (FOLDER / "cached").glob("step-*"))
        assert names == ["step-0", "step-1", "step-2"]


class Refused:
    pass


def one_that_raises():
    path = FOLDER / "raises"
    for overwrite in (False, True):
        bad = {"w": torch.ones(4), **({"model": Refused()} if rank() == 1 else {})}
        errors = errors_of(lambda bad=bad, o=overwrite: save(bad, path, overwrite=o))
        assert list(errors) == [1] and errors[1].code == "unsupported", errors
        assert "'model'" in str(errors[1])
        if overwrite:  # the old one is whole
            assert understudy.load_file(path)["w"].tolist() == [2.0] * 4
        dist.barrier()
        save({"w": torch.full((4,), 2.0)}, path, overwrite=True)
    if rank() == 0:
        assert not list(FOLDER.glob("raises.*"))


def an_existing_one():
    path = FOLDER / "exists"
    save({"w": torch.ones(4)}, path)
    errors = errors_of(lambda: save({"w": torch.zeros(4)}, path))
    assert [e.code for e in errors.values()] == ["invalid"], errors
    assert "is there already" in str(errors[0])
    assert understudy.load_file(path)["w"].tolist() == [1.0] * 4


def folders_of_their_own():
    path = FOLDER / f"own-{rank()}" / "step-1"
    path.parent.mkdir()
    errors = errors_of(lambda: save({"w": torch.ones(4), f"x{rank()}": 1}, path))
    assert list(errors) == [1] and "must see one folder" in str(errors[1]), errors


def damage():
    path = FOLDER / "damaged"
    save(state_of(sharded()), path)
    dist.barrier()
    for file in sorted(path.iterdir()):
        good = file.read_bytes()
        changes = [
            bytes([*good[:at], good[at] ^ 4, *good[at + 1 :]])
            for at in (9, len(good) // 2, len(good) - 2)
        ]
        for change in [*changes, good[:-1], None]:
            dist.barrier()
            if rank() == 0:
                file.unlink() if change is None else file.write_bytes(change)
            dist.barrier()
            errors = errors_of(lambda: load(empty(state_of(sharded())), path))
            assert any(file.name in str(e) or "index" in str(e) for e in errors.values()), errors
        dist.barrier()
        if rank() == 0:
            file.write_bytes(good)
        dist.barrier()
    load(empty(state_of(sharded())), path)


def in_the_background(kind, stager):
    own = AsyncStager() if stager == "own" else None
    writer = StorageWriter(overwrite=True)
    model = sharded()
    for step in range(2):
        saved = dcp.async_save(
            state_of(model),
            checkpoint_id=FOLDER / f"async-{kind.value}-{stager}" / f"step-{step}",
            storage_writer=writer,
            async_stager=own,
            async_checkpointer_type=kind,
        )
        if own:  # the copy is complete: what comes later is not in it
            for tensor in model.state_dict().values():
                local(tensor).zero_()
        saved.result()
        model = sharded()
    for step in range(2):
        target = empty(state_of(sharded()))
        load(target, FOLDER / f"async-{kind.value}-{stager}" / f"step-{step}")
        expect_whole(target)
    if own:
        own.close()


def thread():
    in_the_background(AsyncCheckpointerType.THREAD, "own")
    in_the_background(AsyncCheckpointerType.THREAD, "default")


def process():
    in_the_background(AsyncCheckpointerType.PROCESS, "own")
    in_the_background(AsyncCheckpointerType.PROCESS, "default")


class Killer(DefaultSavePlanner):
    """Rank 1 dies while it writes."""

    def resolve_data(self, write_item):
        if rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().resolve_data(write_item)


def killed():
    path = FOLDER / "killed"
    save(state_of(sharded()), path)
    dist.barrier()
    save(empty(state_of(sharded())), path, overwrite=True, planner=Killer())


def after_the_kill():
    path = FOLDER / "killed"
    target = empty(state_of(sharded()))
    load(target, path)
    expect_whole(target)
    dist.barrier()
    save(state_of(sharded()), path, overwrite=True)
    if rank() == 0:
        assert not list(FOLDER.glob("killed.*")), list(FOLDER.iterdir())


def main():
    warnings.filterwarnings("ignore")
    dist.init_process_group("gloo")
    for name in sys.argv[2:]:
        failure = ""
        try:
            check = globals().get(name)
            check() if check else getattr(behaviours, name)(FOLDER)
        except BaseException:
            failure = traceback.format_exc()
            print(f"rank {rank()}: {name}\n{failure}", flush=True)
        failures = [None] * dist.get_world_size()
        dist.all_gather_object(failures, failure)
        if rank() == 0 and not any(failures):
            print(f"passed {name}", flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
