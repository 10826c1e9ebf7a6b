"""Under torchrun: checks.py FOLDER NAME... runs the checks of these names on all ranks, and prints
`passed NAME` on rank 0 for each. The first that fails ends all."""

import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from again import again, again_after_failures, again_apart, again_with_parts  # noqa: F401
from failures import (  # noqa: F401
    another_step,
    folders_of_their_own,
    groups,
    one_that_never_comes,
    one_that_raises,
)
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.placement_types import _StridedShard

import understudy
from training import all_of, build, checkpointer, error_of, train, whole


def save_and_go_on(folder: Path, how: str) -> None:
    """Saves after three steps, resumes in the same placement, and is where it would have been."""
    net, optimizer = build(how)
    app = {"model": net, "optimizer": optimizer, "epoch": 3}
    with checkpointer(folder) as ckpt:
        assert ckpt.resume(app) is None
        for step in range(3):
            train(net, optimizer, step)
        ckpt.save(3, app)
        loss = train(net, optimizer, 3)
        ckpt.wait()
        expected = all_of(net, optimizer)
        if dist.get_rank() == 0:
            torch.save({"loss": loss, "tensors": expected}, folder.with_suffix(".pt"))

        net, optimizer = build(how, seed=1)
        app = {"model": net, "optimizer": optimizer, "epoch": 0}
        assert ckpt.resume(app) == 3 and app["epoch"] == 3
        assert train(net, optimizer, 3) == loss
        found = all_of(net, optimizer)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], t) for name, t in expected.items())
        if how != "plain" and how != "ddp":
            assert isinstance(optimizer.state[net.first.weight]["exp_avg"], DTensor)


def resume_of(folder: Path, how: str) -> None:
    """Resumes what another number of ranks, or another placement, has saved."""
    net, optimizer = build(how, seed=1)
    app = {"model": net, "optimizer": optimizer, "epoch": 0}
    with checkpointer(folder) as ckpt:
        assert ckpt.resume(app) == 3 and app["epoch"] == 3
    expected = torch.load(folder.with_suffix(".pt"))
    assert abs(train(net, optimizer, 3) - expected["loss"]) < 1e-6
    found = all_of(net, optimizer)
    assert found.keys() == expected["tensors"].keys()
    for name, tensor in expected["tensors"].items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-6)


def alone(folder: Path) -> None:
    save_and_go_on(folder / "one", "plain")


def alone_reads_many(folder: Path) -> None:
    resume_of(folder / "fsdp-2", "plain")
    step = understudy.load_file(folder / "fsdp-2" / "step-3")
    assert step["model"]["last.weight"].shape == (3, 8)
    resume_of(folder / "fsdp-2", "fsdp")  # DTensors of one process alone


def ddp(folder: Path) -> None:
    save_and_go_on(folder / "ddp", "ddp")
    resume_of(folder / "one", "ddp")
    # Each rank writes a part, and each byte is written once.
    sizes = [f.stat().st_size for f in (folder / "ddp" / "step-3").glob("shard-*")]
    assert len(sizes) == dist.get_world_size() and max(sizes) < 2 * min(sizes)


def fsdp(folder: Path) -> None:
    save_and_go_on(folder / f"fsdp-{dist.get_world_size()}", "fsdp")
    resume_of(folder / "one", "fsdp")


def fsdp_of_two(folder: Path) -> None:
    resume_of(folder / "fsdp-2", "fsdp")


def hsdp(folder: Path) -> None:
    save_and_go_on(folder / "hsdp", "hsdp")
    resume_of(folder / "fsdp-2", "hsdp")


def tensor_parallel(folder: Path) -> None:
    save_and_go_on(folder / "tp", "tp")
    resume_of(folder / "hsdp", "tp")


def two_dimensions(folder: Path) -> None:
    save_and_go_on(folder / "2d", "fsdp+tp")
    resume_of(folder / "tp", "fsdp+tp")
    resume_of(folder / "2d", "fsdp")
    resume_of(folder / "2d", "plain")


def leaves(folder: Path) -> None:
    """DTensors that are leaves of the state: in place, into others, and into plain tensors."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    full = torch.arange(35.0).reshape(7, 5)
    rows = distribute_tensor(full, mesh, [Shard(0)])
    with checkpointer(folder / "leaves") as ckpt:
        ckpt.save(1, {"w": rows, "copy": distribute_tensor(full, mesh, [Replicate()])}).wait()
        for placement in (Shard(0), Shard(1), Replicate()):
            target = distribute_tensor(torch.zeros(7, 5), mesh, [placement])
            local = target.to_local()
            version = target._version
            state = {"w": target, "copy": torch.zeros(7, 5)}
            assert ckpt.resume(state) == 1
            assert state["w"] is target and torch.equal(whole(target), full)
            assert target.to_local().data_ptr() == local.data_ptr()
            assert target._version > version and torch.equal(state["copy"], full)
        assert torch.equal(ckpt.restore().state["w"], full)
        other = {"w": distribute_tensor(torch.zeros(7, 6), mesh, [Shard(0)]), "copy": full}
        assert "w" in str(error_of(lambda: ckpt.resume(other)))


def refused(folder: Path) -> None:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    parts = DTensor.from_local(torch.ones(4), mesh, [Partial()])
    rows = distribute_tensor(torch.ones(4), mesh, [Shard(0)])
    with checkpointer(folder / "refused") as ckpt:
        error = error_of(lambda: ckpt.save(1, {"a": {"sum": parts}}))
        assert error.code == "unsupported" and "'a.sum'" in str(error) and "Partial" in str(error)
        # Of eight rows 0, 1, 4, 5 here and 2, 3, 6, 7 there.
        rows_of_both = DTensor.from_local(
            torch.ones(4), mesh, [_StridedShard(0, split_factor=2)], shape=(8,), stride=(1,)
        )
        error = error_of(lambda: ckpt.save(1, {"a": {"rows": rows_of_both}}))
        assert error.code == "unsupported" and "'a.rows'" in str(error), error
        assert "_StridedShard(dim=0, sf=2)" in str(error) and "2 parts" in str(error), error
        assert ckpt.steps() == []
    error = error_of(lambda: understudy.save_file({"w": rows}, folder / "refused" / "x"))
    assert "'w'" in str(error) and "part" in str(error)
    error = error_of(lambda: understudy.Stager().stage({"w": rows}))
    assert "'w'" in str(error) and "DTensor" in str(error)


def make_tied(seed: int, mesh: Any = None) -> nn.Module:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    net[1].weight = net[0].weight
    return net if mesh is None else fully_shard(net, mesh=mesh)


def tied(folder: Path) -> None:
    net = make_tied(0)
    with checkpointer(folder / "tied") as ckpt:
        ckpt.save(1, {"model": net}).wait()
        other = make_tied(1)
        assert ckpt.resume({"model": other}) == 1
        assert other[1].weight is other[0].weight and torch.equal(other[0].weight, net[0].weight)
        state = ckpt.restore().state["model"]
        assert state["0.weight"].data_ptr() == state["1.weight"].data_ptr()


def tied_parts(folder: Path) -> None:
    """DTensors that are one, with rows for three ranks at most: written once, and one again."""
    world = dist.get_world_size()
    mesh = init_device_mesh("cpu", (world,))
    if world == 4:
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("copy", "part"))
    net = make_tied(0, mesh)
    expected = whole(net[0].weight)
    with checkpointer(folder / f"tied-parts-{world}") as ckpt:
        ckpt.save(1, {"model": net}).wait()
        step = folder / f"tied-parts-{world}" / "step-1"
        written = [understudy.load_file(path) for path in step.glob("shard-*")]
        for shard in written:
            assert shard.keys() in ({"model.0.weight", "model.1.weight"}, set())
            if shard:
                assert len({tensor.data_ptr() for tensor in shard.values()}) == 1
        assert sum(bool(shard) for shard in written) == min(world, 2)
        state = understudy.load_file(step)["model"]
        assert torch.equal(state["1.weight"], expected)
        assert state["0.weight"].data_ptr() == state["1.weight"].data_ptr()
        for other in (make_tied(1, mesh), make_tied(1)):
            assert ckpt.resume({"model": other}) == 1
            assert other[1].weight is other[0].weight
            assert torch.equal(whole(other[0].weight), expected)


def fresh_optimizer(folder: Path) -> None:
    """One that has made no steps has no states, when it is saved."""
    net, optimizer = build("fsdp")
    with checkpointer(folder / "fresh") as ckpt:
        ckpt.save(1, {"model": net, "optimizer": optimizer}).wait()
        loss = train(net, optimizer, 0)
        net, optimizer = build("fsdp", seed=1)
        assert ckpt.resume({"model": net, "optimizer": optimizer}) == 1
        assert not optimizer.state and train(net, optimizer, 0) == loss


def stages(folder: Path) -> None:
    """Other keys on other ranks, as the stages of a pipeline have them."""
    rank, world = dist.get_rank(), dist.get_world_size()
    state = {"model": {f"stage{rank}.w": torch.full((4,), float(rank))}, "shared": torch.ones(2)}
    with checkpointer(folder / "stages") as ckpt:
        ckpt.save(1, state).wait()
        for i in range(world):
            assert ckpt.restore().state["model"][f"stage{i}.w"].tolist() == [i] * 4
        own = {"model": {f"stage{rank}.w": torch.zeros(4)}}
        assert ckpt.resume(own, strict=False) == 1
        assert own["model"][f"stage{rank}.w"].tolist() == [rank] * 4


FLAT = StateDictOptions(flatten_optimizer_state_dict=True)


class Named:
    """An optimizer whose states have the names of their parameters: docs/ranks.md."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.model, self.optimizer = model, optimizer

    def state_dict(self) -> dict[str, Any]:
        return get_optimizer_state_dict(self.model, self.optimizer, options=FLAT)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        set_optimizer_state_dict(self.model, self.optimizer, state, options=FLAT)


def named_stages(folder: Path) -> None:
    """Stages of a pipeline whose parameters have the same shapes."""
    rank = dist.get_rank()

    def make(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        stage = nn.Module()
        stage.add_module(f"layer{rank}", nn.Linear(6, 6))
        return stage, torch.optim.AdamW(stage.parameters(), lr=0.01)

    def step(stage: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        stage.get_submodule(f"layer{rank}")(torch.ones(2, 6)).square().sum().backward()
        optimizer.step()

    stage, optimizer = make(rank)
    step(stage, optimizer)
    with checkpointer(folder / "named") as ckpt:
        ckpt.save(1, {"model": stage, "optimizer": Named(stage, optimizer)}).wait()
        step(stage, optimizer)
        other, its_optimizer = make(rank + 10)
        app = {"model": other, "optimizer": Named(other, its_optimizer)}
        assert ckpt.resume(app, strict=False) == 1
        step(other, its_optimizer)
        for a, b in zip(stage.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)
            exp_avg = (optimizer.state[a]["exp_avg"], its_optimizer.state[b]["exp_avg"])
            assert torch.equal(*exp_avg)


def per_rank(folder: Path) -> None:
    """What each rank keeps for itself: generators, and parts that are named."""
    rank, world = dist.get_rank(), dist.get_world_size()
    rng = understudy.torch.RngState()
    torch.manual_seed(100 + rank)
    loader, seen = {"at": 10 * rank}, [rank]
    state = {"rng": rng, "loader": loader, "seen": understudy.per_rank(seen), "step": 1}
    with checkpointer(folder / f"own-parts-{world}", per_rank="loader") as ckpt:
        ckpt.save(1, state).wait()
        drawn = torch.rand(3)
        loader["at"] = seen[0] = -1
        assert ckpt.resume(state) == 1
        assert state["loader"]["at"] == 10 * rank and torch.equal(torch.rand(3), drawn)
        assert seen == [rank]
        saved = ckpt.restore().state
        assert saved["loader"] == {i: {"at": 10 * i} for i in range(world)}
        assert saved["seen"] == {i: [i] for i in range(world)}
        assert saved["step"] == 1 and sorted(saved["rng"]) == list(range(world))


def per_rank_of_two(folder: Path) -> None:
    """By another number of ranks."""
    rng = understudy.torch.RngState()
    seen = [-1]
    state = {"rng": rng, "loader": {"at": -1}, "seen": understudy.per_rank(seen), "step": 0}
    with checkpointer(folder / "own-parts-2", per_rank="loader") as ckpt:
        error = error_of(lambda: ckpt.resume(state))
        assert error.code == "invalid" and "is each rank's own" in str(error)
        assert "2 ranks" in str(error) and state["step"] == 0
        before = torch.get_rng_state()
        assert ckpt.resume(state, strict=False) == 1
        assert state["step"] == 1 and state["loader"] == {"at": -1}
        assert torch.equal(torch.get_rng_state(), before)
        assert seen == [-1]
        assert sorted(ckpt.resumed.missing) == ["loader", "rng", "seen"]
        state["step"] = 0
        assert ckpt.resume(state, names="step") == 1 and state["step"] == 1


def preempted(folder: Path) -> None:
    """A signal to one rank is notice for all, at the same call."""
    with checkpointer(folder) as ckpt:
        for rank_with_notice in (1, 2):
            with understudy.Preemption(ckpt, grace=300, every=3) as stop:
                call = 0
                while True:
                    call += 1
                    if call == 5 and dist.get_rank() == rank_with_notice:
                        signal.raise_signal(signal.SIGUSR1)
                    if stop.now():
                        break
                assert call == 9, call  # said at the sixth, and taken up at the ninth
                step = 10 * rank_with_notice
                assert stop.save(step, {"x": torch.arange(8.0), "step": step})
                assert ckpt.latest() == step
                try:
                    stop.exit()
                except SystemExit as ended:
                    assert ended.code == 128 + signal.SIGUSR1


def main() -> None:
    dist.init_process_group("gloo")
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    name = ""
    try:
        for name in names:
            globals()[name](folder)
            dist.barrier()
            if dist.get_rank() == 0:
                print(f"passed {name}", flush=True)
    except BaseException:
        print(f"rank {dist.get_rank()} failed in {name}:\n{traceback.format_exc()}", flush=True)
        os._exit(1)  # the others may wait for this one
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
