"""understudy.dcp.AsyncStager under torch.distributed.checkpoint.async_save."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import warnings
from concurrent.futures import Future

import pytest

torch = pytest.importorskip("torch")
dcp = pytest.importorskip("torch.distributed.checkpoint")
import torch.distributed as dist  # noqa: E402
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions  # noqa: E402
from torch.distributed.checkpoint.state_dict_saver import AsyncSaveResponse  # noqa: E402

import understudy  # noqa: E402
import understudy.dcp  # noqa: E402

each_memory = pytest.mark.parametrize("memory", ["pageable", "shared"])


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class SlowWriter(dcp.FileSystemWriter):
    """Reads the state only when it is told to: the upload that training overtakes."""

    def __init__(self, path) -> None:
        super().__init__(path)
        self.go = threading.Event()
        self.begun = threading.Event()

    def write_data(self, plan, planner):
        self.begun.set()
        assert self.go.wait(60)
        return super().write_data(plan, planner)


def state_of(value: float) -> dict:
    big = torch.full((1 << 18,), value)
    return {
        "model": {"w": big, "tied": big, "row": big[5:9], "small": torch.full((3,), value)},
        "step": int(value),
    }


def loaded(path, like: dict) -> dict:
    target = {
        "model": {k: torch.zeros_like(v) for k, v in like["model"].items()},
        "step": -1,
    }
    dcp.load(target, checkpoint_id=path, no_dist=True)
    return target


def assert_saved(path, value: float) -> None:
    found = loaded(path, state_of(0))
    assert found["step"] == value
    for name, tensor in found["model"].items():
        assert tensor.eq(value).all(), name


def save_twice_while_it_is_read(stager, folder) -> None:
    """The second save's stage comes before the first upload has read a byte."""
    state = state_of(1)
    slow = SlowWriter(folder / "a")
    first = dcp.async_save(state, storage_writer=slow, async_stager=stager, no_dist=True)
    assert slow.begun.wait(60)
    state["model"]["w"].fill_(2)
    state["model"]["small"].fill_(2)
    state["step"] = 2
    second = dcp.async_save(state, checkpoint_id=folder / "b", async_stager=stager, no_dist=True)
    state["model"]["w"].fill_(3)
    slow.go.set()
    first.result()
    second.result()


@each_memory
def test_what_is_uploaded_is_never_overwritten(memory, tmp_path) -> None:
    stager = understudy.dcp.AsyncStager(memory=memory)
    save_twice_while_it_is_read(stager, tmp_path)
    assert_saved(tmp_path / "a", 1)
    assert_saved(tmp_path / "b", 2)
    stager.close()


def test_torch_own_stager_is_overwritten(tmp_path) -> None:
    """What this stager is for: the control must show the fault."""
    stager = DefaultStager(StagingOptions(False, False, False, False))
    save_twice_while_it_is_read(stager, tmp_path)
    with pytest.raises(AssertionError):
        assert_saved(tmp_path / "a", 1)


@each_memory
def test_a_future(memory, tmp_path) -> None:
    stager = understudy.dcp.AsyncStager(memory=memory, future=True)
    state = state_of(4)
    response = dcp.async_save(
        state, checkpoint_id=tmp_path / "a", async_stager=stager, no_dist=True
    )
    assert isinstance(response, AsyncSaveResponse)
    response.staging_completion.result()
    state["model"]["w"].zero_()
    response.upload_completion.result()
    assert_saved(tmp_path / "a", 4)


def test_a_whole_run(tmp_path) -> None:
    """Memory and descriptors stay flat; every checkpoint has its own values."""
    stager = understudy.dcp.AsyncStager()
    state, saves, counts = state_of(0), [], []
    for n in range(12):
        state["model"]["w"].fill_(n)
        state["model"]["small"].fill_(n)
        state["step"] = n
        saves.append(
            dcp.async_save(
                state, checkpoint_id=tmp_path / str(n), async_stager=stager, no_dist=True
            )
        )
        if n >= 4:
            # Until all have ended and given their images back.
            for save in saves:
                save.result()
            gc.collect()
            counts.append((len(os.listdir("/proc/self/fd")), held(stager)))
    for n in range(12):
        assert_saved(tmp_path / str(n), n)
    assert counts[-1][0] <= counts[0][0] and counts[-1][1] == counts[0][1]
    del save
    stager.close()
    gc.collect()
    assert held(stager) == 0


def held(stager) -> int:
    return sum(s.nbytes for s in stager._stagers)


@each_memory
def test_leases_end_with_the_last_tensor(memory) -> None:
    stager = understudy.dcp.AsyncStager(memory=memory, images=1, when_busy="error")
    state = state_of(1)
    staged = stager.stage(state)
    view = staged["model"]["small"][1:]
    address = staged["model"]["w"].data_ptr()
    del staged
    with pytest.raises(understudy.Error, match="image") as caught:
        stager.stage(state)
    assert caught.value.code == "busy"
    assert view.eq(1).all()
    del view
    if memory == "pageable":  # a shared one is mapped anew
        assert stager.stage(state)["model"]["w"].data_ptr() == address
    assert stager.stage(state)["model"]["w"].eq(1).all()


@each_memory
def test_sources_that_end_before_their_copies(memory) -> None:
    """The limit holds for copies whose sources are gone, too."""
    stager = understudy.dcp.AsyncStager(memory=memory, images=2, when_busy="error")
    kept = [stager.stage(state_of(n)) for n in range(2)]
    with pytest.raises(understudy.Error):
        stager.stage(state_of(2))
    assert [k["model"]["w"][0] for k in kept] == [0, 1]
    kept.clear()
    assert stager.stage(state_of(3))["model"]["w"].eq(3).all()


def test_waiting_for_an_image() -> None:
    stager = understudy.dcp.AsyncStager(images=1)
    held_back = [stager.stage(state_of(1))]
    has_begun = threading.Event()

    def let_go() -> None:
        has_begun.wait()
        held_back.clear()

    switch = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # the GIL changes hands only where it is let go: within the call
    try:
        thread = threading.Thread(target=let_go)
        thread.start()
        has_begun.set()
        assert stager.stage(state_of(2))["step"] == 2
        thread.join()
    finally:
        sys.setswitchinterval(switch)
    assert stager.waited_s > 0


def test_skipping() -> None:
    stager = understudy.dcp.AsyncStager(images=1, when_busy="skip", future=True)
    first = stager.stage(state_of(1))
    second = stager.stage(state_of(2))
    assert isinstance(second, Future)
    assert isinstance(second.exception(), understudy.Error)
    assert first.result()["step"] == 1


@each_memory
def test_an_error_names_the_path_and_the_stager_goes_on(memory, tmp_path) -> None:
    stager = understudy.dcp.AsyncStager(memory=memory)
    earlier = stager.stage(state_of(1))
    for bad in (torch.empty(2, device="meta"), threading.Lock()):
        with pytest.raises((understudy.Error, TypeError), match=r"model\.bad"):
            dcp.async_save(
                {"model": {"w": torch.ones(2), "bad": bad}},
                checkpoint_id=tmp_path / "bad",
                async_stager=stager,
                no_dist=True,
            )
    assert earlier["model"]["w"].eq(1).all()
    dcp.async_save(
        state_of(5), checkpoint_id=tmp_path / "a", async_stager=stager, no_dist=True
    ).result()
    assert_saved(tmp_path / "a", 5)


@each_memory
def test_leaves_of_all_kinds(memory) -> None:
    stager = understudy.dcp.AsyncStager(memory=memory)
    w = torch.arange(6.0).reshape(2, 3)
    staged = stager.stage(
        {"w": w, "t": w.t(), "empty": torch.empty(0, 2), "c": w.to(torch.cfloat).conj()}
    )
    assert staged["t"].stride() == w.t().stride()
    assert staged["t"].untyped_storage() is staged["w"].untyped_storage()
    assert staged["empty"].shape == (0, 2) and not staged["c"].is_conj()
    assert all(x.is_shared() == (memory == "shared") for x in staged.values())


@pytest.mark.parametrize(
    "options",
    [{"images": 0}, {"memory": "pinned"}, {"when_busy": "never"}, {"when_busy": "skip"}],
    ids=str,
)
def test_options_that_cannot_be(options) -> None:
    with pytest.raises(understudy.Error) as caught:
        understudy.dcp.AsyncStager(**options)
    assert caught.value.code == "invalid"


def test_after_close_it_works_again() -> None:
    stager = understudy.dcp.AsyncStager()
    kept = stager.stage(state_of(1))
    stager.close()
    assert stager.stage(state_of(2))["step"] == 2 and kept["model"]["w"].eq(1).all()


PROCESS = """
import sys, warnings
warnings.simplefilter("ignore")
import torch, torch.distributed as dist, torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
import understudy.dcp

def main():
    folder = sys.argv[1]
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    mesh = init_device_mesh("cpu", (1,))
    state = {"w": torch.full((1 << 18,), 0.0), "step": 0,
             "d": distribute_tensor(torch.zeros(8, 4), mesh, [Shard(0)])}
    stager = understudy.dcp.AsyncStager(future=len(sys.argv) > 2)
    saves = []
    for n in range(4):
        state["w"].fill_(n)
        state["d"].to_local().fill_(n)
        state["step"] = n
        save = dcp.async_save(state, checkpoint_id=f"{folder}/{n}", async_stager=stager,
                              async_checkpointer_type=AsyncCheckpointerType.PROCESS)
        saves.append(getattr(save, "upload_completion", save))
    state["w"].fill_(99)
    for save in saves:
        save.result()
    stager.close()
    for n in range(4):
        target = {"w": torch.zeros(1 << 18), "step": -1,
                  "d": distribute_tensor(torch.zeros(8, 4), mesh, [Shard(0)])}
        dcp.load(target, checkpoint_id=f"{folder}/{n}")
        assert target["step"] == n and target["w"].eq(n).all()
        assert target["d"].to_local().eq(n).all()
    dist.destroy_process_group()

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("future", [False, True])
def test_in_a_process(tmp_path, future) -> None:
    script = tmp_path / "script.py"  # which a spawned process can import
    script.write_text(PROCESS)
    command = [sys.executable, script, tmp_path, *(["future"] if future else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


def test_d_tensors_keep_their_spec() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Shard, distribute_tensor

    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    try:
        x = distribute_tensor(torch.ones(8, 4), init_device_mesh("cpu", (1,)), [Shard(0)])
        y = understudy.dcp.AsyncStager().stage({"x": x})["x"]
        assert isinstance(y, DTensor) and y.placements == x.placements and y.shape == x.shape
        x.to_local().fill_(7)
        assert y.to_local().eq(1).all() and y.to_local().is_shared()
    finally:
        dist.destroy_process_group()


def test_sharded_tensors(tmp_path) -> None:
    from torch.distributed._shard import sharded_tensor
    from torch.distributed._shard.sharding_spec import ChunkShardingSpec

    spec = ChunkShardingSpec(dim=0, placements=["rank:0/cpu"])
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    try:
        x = sharded_tensor.ones(spec, 8, 4)
        stager = understudy.dcp.AsyncStager()
        y = stager.stage({"x": x})["x"]
        assert type(y) is type(x) and y.size() == x.size() and y.metadata() == x.metadata()
        saved = dcp.async_save({"x": x}, checkpoint_id=tmp_path / "a", async_stager=stager)
        x.local_shards()[0].tensor.fill_(7)
        assert y.local_shards()[0].tensor.eq(1).all()
        saved.result()
        target = sharded_tensor.zeros(spec, 8, 4)
        dcp.load({"x": target}, checkpoint_id=tmp_path / "a")
        assert target.local_shards()[0].tensor.eq(1).all()
    finally:
        dist.destroy_process_group()
