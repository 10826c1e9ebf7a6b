"""Checks of calls that fail, on one rank or on all."""

from pathlib import Path
from typing import Any

import torch.distributed as dist

import understudy
from training import checkpointer, error_of


class Object:
    def __init__(self, fails: bool) -> None:
        self.fails = fails

    def state_dict(self) -> dict[str, int]:
        if self.fails:
            raise ArithmeticError("no state today")
        return {"n": 1}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.n = state["n"]


def one_that_raises(folder: Path) -> None:
    rank, last = dist.get_rank(), dist.get_world_size() - 1
    part = Object(fails=rank == last)
    with checkpointer(folder / "raises") as ckpt:
        try:
            ckpt.save(1, {"part": part})
            raise AssertionError("it was saved")
        except ArithmeticError:
            assert rank == last
        except understudy.Error as error:
            assert rank != last
            assert f"rank {last}" in str(error) and "no state today" in str(error)
        part.fails = False
        ckpt.save(1, {"part": part, "x": 0}).wait()
        # What cannot be walked on one rank is resumed on none.
        state: Any = {"part": part, "x": 0}
        if rank == last:
            state["x"] = state
        error = error_of(lambda: ckpt.resume(state))
        assert "contains itself" in str(error)
        assert not hasattr(part, "n")
        assert ckpt.resume({"part": part, "x": 0}) == 1 and part.n == 1


def another_step(folder: Path) -> None:
    with checkpointer(folder / "another") as ckpt:
        error = error_of(lambda: ckpt.save(dist.get_rank(), {"n": 1}))
        assert error.code == "invalid" and "same calls" in str(error)
        ckpt.save(7, {"n": 1}).wait()


def folders_of_their_own(folder: Path) -> None:
    """As on local disks: what rank 0 makes the others do not see."""
    own = folder / f"own-{dist.get_rank()}"

    def save() -> None:
        with checkpointer(own) as ckpt:
            ckpt.save(1, {"n": 1}).wait()

    error = error_of(save)
    assert "rank" in str(error) and "own-" in str(error), error
    assert not list(own.glob("step-*"))


def one_that_never_comes(folder: Path) -> None:
    rank, last = dist.get_rank(), dist.get_world_size() - 1
    if rank != last:
        error = error_of(lambda: checkpointer(folder / "never", timeout=1.0))
        assert error.code == "timeout", error
        assert f"rank {last} " in str(error) and "group=False" in str(error)
    else:
        with understudy.Checkpointer(folder / "by-itself", group=False) as ckpt:
            ckpt.save(1, {"n": 1}).wait()
    dist.barrier()
    if rank == last:  # it comes late, and is late for the next one too
        error_of(lambda: checkpointer(folder / "never", timeout=0.2))
    dist.barrier()
    # Both have made as many, so they meet again; and one that misses a call is told by all.
    with checkpointer(folder / "never", timeout=1.0) as ckpt:
        if rank != last:
            error = error_of(lambda: ckpt.save(1, {"n": 1}))
            assert error.code == "timeout" and f"rank {last} " in str(error)
        dist.barrier()


def groups(folder: Path) -> None:
    """A group of the caller's, and one that this process does not belong to."""
    rank = dist.get_rank()
    some = dist.new_group([0, 1])
    if rank < 2:
        with checkpointer(folder / "group", group=some) as ckpt:
            ckpt.save(1, {"n": rank}).wait()
            assert len(list((folder / "group" / "step-1").glob("shard-*"))) == 2
    else:
        error = error_of(lambda: checkpointer(folder / "group", group=some))
        assert "no member" in str(error)
    assert error_of(lambda: checkpointer(folder / "group", group="all")).code == "invalid"
    assert error_of(lambda: checkpointer(folder / "group", timeout=0)).code == "invalid"
