"""Results in shared memory are tensors like any other: whatever people do with state dicts."""

import copy
import gc
import io
import os
import subprocess
import sys
import warnings
from multiprocessing.reduction import ForkingPickler

import pytest
import torch
import torch.distributed.checkpoint as dcp
from staging import descriptors, limit  # noqa: F401
from torch import nn

import understudy
import understudy.dcp
from understudy.torch import StateDictStager

pytestmark = pytest.mark.usefixtures("limit")


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def staged(state):
    return StateDictStager(share_memory=True).stage(state)


def saved(state):
    file = io.BytesIO()
    torch.save(state, file)
    return file.getbuffer()


def mixed():
    base = torch.arange(12.0)
    return {
        "w": torch.randn(64, 64),
        "step": torch.tensor(3),
        "half": torch.ones(8, dtype=torch.bfloat16),
        "view": base[3:7],
        "base": base,
        "rows": base.view(3, 4).t(),
        "empty": torch.empty(0, 3),
        "complex": torch.ones(3, dtype=torch.complex64),
    }


def test_each_source_has_a_storage_of_its_own():
    state = mixed()
    result = staged(state)
    for name, x in state.items():
        y = result[name]
        assert y.is_shared() and y.equal(x), name
        assert y.untyped_storage().nbytes() == x.untyped_storage().nbytes(), name
        assert y.storage_offset() == x.storage_offset() and y.stride() == x.stride(), name
    pointers = {y.untyped_storage().data_ptr() for y in result.values() if y.numel() > 0}
    assert len(pointers) == 5  # three are views of one
    assert result["view"].untyped_storage() is result["base"].untyped_storage()


def test_twelve_thousand_take_few_descriptors_and_mappings():
    def mappings():
        with open("/proc/self/maps") as f:
            return len(f.readlines())

    state = [torch.full((n % 2000 + 1,), float(n)) for n in range(12_000)]
    before, mapped = descriptors(), mappings()
    result = staged(state)
    assert descriptors() - before < 100 and mappings() - mapped < 300
    ForkingPickler.dumps(result)
    assert descriptors() - before < 200
    assert all(y.is_shared() and y.eq(n).all() for n, y in enumerate(result))


def test_torch_save_of_all_and_of_one():
    state = mixed()
    result = staged(state)
    again = torch.load(io.BytesIO(saved(result)), weights_only=True)
    assert all(again[k].equal(state[k]) for k in state)
    assert len(saved(result["step"])) < 2_000 and len(saved(result["w"])) < 30_000
    storage = result["w"].untyped_storage()
    assert torch.load(io.BytesIO(saved(storage)), weights_only=False).tolist() == list(storage)


def test_safetensors_writes_them_all(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
    expected = {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(staged(model.state_dict()), assign=True)
    safetensors.save_model(model, str(tmp_path / "model"))
    safetensors.save_file(model.state_dict(), str(tmp_path / "file"))
    for name in ("model", "file"):
        found = safetensors.load_file(tmp_path / name)
        assert found.keys() == expected.keys()
        assert all(found[k].equal(expected[k]) for k in expected)


def test_a_result_that_grows_leaves_its_neighbours_alone():
    result = staged({"a": torch.ones(4), "b": torch.zeros(4)})
    with pytest.raises(RuntimeError, match="not resizable"):
        result["a"].resize_(100)
    assert not result["b"].any()


def test_copies_are_torchs_own():
    result = staged(mixed())
    for made in (copy.deepcopy(result), {k: v.clone() for k, v in result.items()}):
        for name, x in made.items():
            assert type(x.untyped_storage()) is torch.UntypedStorage
            assert x.equal(result[name]) and not x.is_shared()
    storage = result["w"].storage()
    assert type(storage.cpu().untyped()) is type(storage.clone().untyped())
    assert result["w"].share_memory_() is result["w"]
    pointer = result["w"].data_ptr()
    assert nn.ParameterList([result["w"]]).share_memory()[0].data_ptr() == pointer


def test_a_forked_child_sees_and_writes_them():
    result = staged(torch.arange(4.0))
    child = os.fork()
    if child == 0:
        is_seen = result.tolist() == [0, 1, 2, 3]
        result.fill_(9)
        os._exit(0 if is_seen else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert result.eq(9).all()


def test_what_comes_back_to_its_process_is_what_is_there():
    result = staged([torch.ones(3), torch.ones(4), torch.empty(0)])
    again = ForkingPickler.loads(ForkingPickler.dumps(result))
    assert [x.tolist() for x in again] == [x.tolist() for x in result]
    again[0].fill_(5)
    assert result[0].eq(5).all() and again[0].untyped_storage() is result[0].untyped_storage()


def test_memory_goes_with_the_last_result():
    before = descriptors()
    for _ in range(3):
        stager = StateDictStager(share_memory=True)
        result = stager.stage([torch.ones(n) for n in (5, 70_000, 9_000_000)])
        kept = result[1][3:]
        del result
        stager.close()
        gc.collect()
        assert kept.eq(1).all()
        del kept
    assert descriptors() == before


def test_objects_with_tensors_of_two_types(tmp_path):
    state = {"buffer": {"x": {"1": (torch.ones(4), torch.arange(3))}}}
    stager = understudy.dcp.AsyncStager()
    dcp.async_save(state, checkpoint_id=tmp_path, async_stager=stager, no_dist=True).result()
    found = {"buffer": {"x": {"1": (torch.zeros(4), torch.zeros(3, dtype=torch.int64))}}}
    dcp.load(found, checkpoint_id=tmp_path, no_dist=True)
    ones, numbers = found["buffer"]["x"]["1"]
    assert ones.eq(1).all() and numbers.tolist() == [0, 1, 2]


def test_a_checkpoint_is_as_large_as_its_state(tmp_path):
    scalars = {str(i): (torch.tensor(float(i)),) for i in range(20)}
    state = {"w": torch.zeros(5 << 20), "scalars": scalars}
    stager = understudy.dcp.AsyncStager()
    dcp.async_save(state, checkpoint_id=tmp_path, async_stager=stager, no_dist=True).result()
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert 20 << 20 <= size < 21 << 20


def run(path, code, *arguments):
    """A program with a file of its own, as a spawned process imports its parent's."""
    path.write_text(code)
    command = [sys.executable, "-W", "ignore", path, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr


DISTRIBUTED = """
import io, sys
import torch, torch.distributed as dist, torch.distributed.checkpoint as dcp, torch.multiprocessing
from multiprocessing.reduction import ForkingPickler
from torch import nn
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType
from torch.distributed.tensor import DTensor, Shard, distribute_tensor, init_device_mesh
from torch.testing._internal.two_tensor import TwoTensor
import understudy.dcp
from understudy.torch import StateDictStager

def started():
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    return init_device_mesh("cpu", (1,))
"""

SENT = """
def main():
    mesh = started()
    base = torch.arange(10.0)
    state = {n: distribute_tensor(torch.randn(4), mesh, [Shard(0)]) for n in "ab"}
    state["part"] = DTensor.from_local(base[4:], mesh, [Shard(0)], run_check=False)
    state["two"], state["base"] = TwoTensor(base[2:4], base[2:4]), base
    staged = StateDictStager(share_memory=True).stage(state)
    local = staged["part"].to_local()
    assert local.storage_offset() == 4  # the view that it was, of the same storage
    assert local.untyped_storage() is staged["base"].untyped_storage()
    for found in (ForkingPickler.loads(ForkingPickler.dumps(staged)), saved(staged)):
        for name in ("a", "b", "part"):
            assert found[name].full_tensor().equal(state[name].full_tensor()), name
        assert found["two"].a.equal(state["two"].a) and found["two"].b.equal(state["two"].b)
    dist.destroy_process_group()

def saved(state):
    file = io.BytesIO()
    torch.save(state, file)
    return torch.load(io.BytesIO(file.getbuffer()), weights_only=False)

if __name__ == "__main__":
    main()
"""


def test_wrappers_are_pickled_whatever_the_offset_of_their_parts(tmp_path):
    run(tmp_path / "script.py", DISTRIBUTED + SENT)


# A module of its own, which all processes know by the same name.
CLASSES = """
import dataclasses
import torch

@dataclasses.dataclass
class Config:
    rate: float
    weights: object

class Plain(torch.Tensor):
    pass
"""

KINDS = """
from classes import Config, Plain

def kinds(mesh, value):
    full = lambda *shape, **how: torch.full(shape, value, **how)
    base, tied = full(12), full(5)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    model(full(2, 3)).sum().backward()
    optimizer.step()
    with torch.no_grad():
        for state in optimizer.state.values():
            state["exp_avg"].fill_(value)
    return {
        "plain": full(300, 7),
        "tied": {"a": tied, "b": tied},
        "views": [base, base[3:9], base.view(3, 4).t()],
        "scalar": full(),
        "empty": full(0, 4),
        "bfloat16": full(9, dtype=torch.bfloat16),
        "complex": full(6, dtype=torch.complex64),
        "bool": full(3).bool(),
        "integer": full(3).to(torch.int8),
        "parameter": nn.Parameter(full(4)),
        "DTensor": distribute_tensor(full(8, 4), mesh, [Shard(0)]),
        "DTensor of a view": DTensor.from_local(full(9)[5:], mesh, [Shard(0)], run_check=False),
        "tuple": (full(4), torch.arange(3)),
        "object": Config(0.5, full(2)),
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "large": full(9 << 20),
        "number": value,
        "text": str(value),
        "subclass": full(4).as_subclass(Plain),
    }

def assert_same(a, b, path):
    assert type(a) is type(b), (path, type(a), type(b))
    if isinstance(a, torch.Tensor):
        a, b = (x.full_tensor() if isinstance(x, DTensor) else x.detach() for x in (a, b))
        assert a.dtype == b.dtype and torch.equal(a, b), path
    elif isinstance(a, Config):
        assert_same(vars(a), vars(b), path)
    elif isinstance(a, dict):
        assert list(a) == list(b), path
        for key in a:
            assert_same(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b)):
            assert_same(x, y, f"{path}.{i}")
    else:
        assert a == b, path

def main():
    torch.serialization.add_safe_globals([Config, Plain])
    mesh = started()
    stager = understudy.dcp.AsyncStager()
    torch.manual_seed(1)
    saves, states = [], []
    for n in range(2):
        states.append(kinds(mesh, float(n + 1)))
        saves.append(dcp.async_save(
            states[-1], checkpoint_id=f"{sys.argv[1]}/{n}", async_stager=stager,
            async_checkpointer_type=AsyncCheckpointerType.PROCESS))
    for n in range(2):
        saves[n].result()
        found = kinds(mesh, 0.0)
        dcp.load(found, checkpoint_id=f"{sys.argv[1]}/{n}")
        for name, value in states[n].items():
            if name in ("plain", "large"):
                assert found[name].eq(n + 1).all(), name
            else:
                assert_same(found[name], value, name)
    stager.close()
    dist.destroy_process_group()

if __name__ == "__main__":
    main()
"""


def test_all_kinds_of_state_go_to_the_writing_process(tmp_path):
    (tmp_path / "classes.py").write_text(CLASSES)
    run(tmp_path / "script.py", DISTRIBUTED + KINDS, tmp_path)


def test_a_received_segment_must_have_its_bytes(tmp_path):
    file = os.open(tmp_path / "short", os.O_RDWR | os.O_CREAT)
    os.ftruncate(file, 10)
    before = descriptors()
    with pytest.raises(understudy.Error, match="20 bytes has 10") as caught:
        understudy._core.SharedSegment.map(os.dup(file), 20)
    assert caught.value.code == "invalid" and descriptors() == before
    os.close(file)
