"""Checks of saves whose state is the last one again: walk, outline and plan are kept."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from failures import Object
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

import understudy
from training import all_of, build, checkpointer, error_of, train


def again(folder: Path) -> None:
    """Saves of one outline leave nothing in the store, and are what was captured."""
    net, optimizer = build("fsdp")
    store = dist.distributed_c10d._get_default_store()
    with checkpointer(folder / "again", keep=2) as ckpt:
        counts = []
        for step in range(12):
            train(net, optimizer, step)
            expected = all_of(net, optimizer)
            app = {"model": net, "optimizer": optimizer, "loss": step / 7}
            ticket = ckpt.save(step, app)
            assert ticket.metrics()["plan"] == ("again" if step > 0 else "new")
            if step % 4 == 3:
                train(net, optimizer, step)  # what comes after the call is not in it
                ticket.wait()
                found = ckpt.restore(step).state
                assert found["loss"] == step / 7
                names = dict(net.named_parameters())
                assert all(torch.equal(found["model"][n], expected[n]) for n in names)
                exp_avg = found["optimizer"]["state"][0]["exp_avg"]
                assert torch.equal(exp_avg, expected["0.exp_avg"])
                dist.barrier()
                counts.append(store.num_keys())
        # How much there is depends on how far each rank knows the others to be. Were one message of
        # each rank left by each save, there would be eight for each rank.
        assert max(counts) - counts[0] <= 6 * dist.get_world_size(), counts


def again_apart(folder: Path) -> None:
    """What changes on one rank only, in a state that all have."""
    rank, world = dist.get_rank(), dist.get_world_size()
    mesh = init_device_mesh("cpu", (world,))
    full = torch.arange(35.0).reshape(7, 5)
    rows = distribute_tensor(full, mesh, [Shard(0)])
    own: dict[str, Any] = {"w": torch.full((3,), float(rank)), "n": rank}
    state: dict[str, Any] = {"rows": rows, "copy": torch.ones(4), "step": 0, f"of{rank}": own}
    plans = []
    with checkpointer(folder / "apart") as ckpt:

        def save(expected: dict[str, Any]) -> None:
            state["step"] += 1
            ticket = ckpt.save(state["step"], state)
            ticket.wait()
            plans.append(ticket.metrics()["plan"])
            found = ckpt.restore().state
            assert found.keys() == {"rows", "copy", "step", *(f"of{i}" for i in range(world))}
            assert found["step"] == state["step"]
            assert torch.equal(found["rows"], full) and torch.equal(found["copy"], state["copy"])
            for i in range(world):
                wanted = {"w": torch.full((3,), float(i)), "n": i}
                if i == world - 1:
                    wanted.update(expected)
                part = found[f"of{i}"]
                assert part.keys() == wanted.keys() and part["n"] == wanted["n"]
                for name in part.keys() - {"n"}:
                    assert torch.equal(part[name], wanted[name]), (state["step"], i, name)

        is_last = rank == world - 1
        save({})
        if is_last:
            own["n"] = 77
        save({"n": 77})
        moved = torch.full((3,), 0.25)
        if is_last:
            own["w"] = moved
        state["copy"] = torch.full((4,), 2.0)
        save({"n": 77, "w": moved})
        assert plans == ["new", "again", "again"], plans
        longer = torch.arange(5.0)
        if is_last:
            own["w"] = longer
        save({"n": 77, "w": longer})
        added = torch.zeros(2, dtype=torch.int64)
        if is_last:
            own["added"] = added
        save({"n": 77, "w": longer, "added": added})
        if is_last:
            del own["added"]
        save({"n": 77, "w": longer})
        save({"n": 77, "w": longer})
        assert plans[-1] == "again", plans


def again_with_parts(folder: Path) -> None:
    """Parts that are each rank's own: a generator has a new tensor for its state each time."""
    rank, world = dist.get_rank(), dist.get_world_size()
    rng = understudy.torch.RngState()
    seen = {"at": rank}
    state = {"rng": rng, "seen": understudy.per_rank(seen), "w": torch.ones(8), "step": 0}
    with checkpointer(folder / "parts-again") as ckpt:
        for step in range(4):
            torch.manual_seed(1000 * step + rank)
            state["step"], seen["at"] = step, 100 * step + rank
            ticket = ckpt.save(step, state)
            drawn = torch.rand(3)
            ticket.wait()
            assert ticket.metrics()["plan"] == ("again" if step > 0 else "new")
            saved = ckpt.restore().state["seen"]
            assert saved == {i: {"at": 100 * step + i} for i in range(world)}
            seen["at"] = -1
            assert ckpt.resume(state) == step == state["step"]
            assert seen["at"] == 100 * step + rank and torch.equal(torch.rand(3), drawn)


class Gathering:
    """Hands over what it has gathered, and has nothing to say the second time."""

    def __init__(self) -> None:
        self.found: dict[str, int] = {}

    def state_dict(self) -> dict[str, int]:
        found, self.found = self.found, {}
        return found

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.found = state


def again_after_failures(folder: Path) -> None:
    """A call that fails on one rank, or on all, leaves the ranks at the same call, and the next one
    saves what is there then."""
    rank, last = dist.get_rank(), dist.get_world_size() - 1
    part, gathering = Object(fails=False), Gathering()
    state = {"w": torch.zeros(4), "part": part, "gathered": gathering, "step": 0}

    def fill(step: int, is_more: bool = False) -> None:
        state["step"] = step
        state["w"].fill_(step)
        gathering.found = {"n": step, **({"more": rank} if is_more and rank == last else {})}

    def require_saved(step: int, gathered: dict[str, int]) -> None:
        found = ckpt.restore(step).state
        assert found["w"].tolist() == [float(step)] * 4 and found["step"] == step
        assert found["gathered"] == gathered, found

    with checkpointer(folder / "after-failures") as ckpt:
        fill(1)
        ckpt.save(1, state).wait()
        for way in ("raises", "exists", "differs"):
            fill(2)
            part.fails = way == "raises" and rank == last
            try:
                ckpt.save(1 if way == "exists" else 2 + (way == "differs" and rank == last), state)
                raise AssertionError("it was saved")
            except ArithmeticError:
                assert part.fails
            except understudy.Error as error:
                assert not part.fails and error.code == "invalid", error
            part.fails = False
        assert ckpt.steps() == [1]
        # Walked anew after a failure; then found again; then with one more leaf on one rank.
        for step, plan in ((3, {"new", "same"}), (4, {"again"})):
            fill(step)
            ticket = ckpt.save(step, state)
            ticket.wait()
            assert ticket.metrics()["plan"] in plan, (step, ticket.metrics()["plan"])
            require_saved(step, {"n": step})
        fill(5, is_more=True)
        ckpt.save(5, state).wait()
        require_saved(5, {"n": 5})  # values without a tensor beside them are those of rank 0
        assert error_of(lambda: ckpt.save(5, state)).code == "invalid"
