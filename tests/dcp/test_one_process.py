"""StorageWriter and StorageReader in one process."""

import io
import json
import pickle
import warnings
from collections import OrderedDict
from pathlib import Path

import numpy
import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import (
    DefaultLoadPlanner,
    DefaultSavePlanner,
    _EmptyStateDictLoadPlanner,
)
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

import understudy
import understudy.dcp
from understudy.dcp import StorageReader, StorageWriter

warnings.filterwarnings("ignore", message="torch.distributed is disabled")


def state():
    torch.manual_seed(1)
    w = torch.randn(300, 70)
    return {
        "model": {
            "w": w,
            "tied": w,
            "rows": torch.arange(12).view(3, 4).t(),
            "none": torch.empty(0, 4),
        },
        "optimizer": {"state": {0: {"exp_avg": torch.randn(5), "step": torch.tensor(3.0)}}},
        "list": [torch.ones(2), {"lr": 0.25}, 7],
        "betas": [0.9, 0.999],
        "pair": (1, torch.zeros(3, dtype=torch.bfloat16)),
        "text": "t" * 5000,
        "array": numpy.arange(6.0),
        "ordered": OrderedDict(b=1, a=torch.tensor([1j, 2j])),
        "step": 3,
        "nothing": None,
    }


def save(state, path, writer=None, **options):
    dcp.save(
        state, checkpoint_id=path, storage_writer=writer or StorageWriter(**options), no_dist=True
    )


def load(state, path, planner=None, **options):
    dcp.load(
        state,
        checkpoint_id=path,
        storage_reader=StorageReader(**options),
        planner=planner,
        no_dist=True,
    )


def like(value):
    """The same state with other values."""
    if isinstance(value, torch.Tensor):
        return torch.zeros_like(value)
    if isinstance(value, dict):
        return type(value)((k, like(v)) for k, v in value.items())
    if isinstance(value, list):
        return [like(v) for v in value]
    return None


def assert_same(a, b, way=""):
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b), way
    elif isinstance(a, numpy.ndarray):
        assert numpy.array_equal(a, b), way
    elif isinstance(a, dict):
        assert list(map(str, a)) == list(map(str, b)), way
        for (k, x), y in zip(a.items(), b.values(), strict=True):
            assert_same(x, y, f"{way}.{k}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), way
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{way}.{i}")
    else:
        assert a == b, way


def test_a_state_comes_back(tmp_path):
    save(state(), tmp_path / "step-3")
    loaded = like(state())
    load(loaded, tmp_path / "step-3")
    assert_same(loaded, state())
    assert sorted(x.name for x in (tmp_path / "step-3").iterdir()) == [
        "checkpoint.json",
        "shard-00000-of-00001.safetensors",
    ]


def test_the_file_is_that_of_a_checkpointer(tmp_path):
    # What DCP's flattening keeps: no int keys, no tuples with tensors, no classes of dicts.
    plain = {
        "model": {"w": torch.randn(9, 3), "text": "t" * 2000},
        "list": [torch.ones(2), 5],
        "lr": 0.5,
    }
    save(plain, tmp_path / "dcp" / "step-1")
    with understudy.Checkpointer(tmp_path / "own") as checkpointer:
        checkpointer.save(1, plain)
    names = "shard-00000-of-00001.safetensors"
    assert (tmp_path / "dcp/step-1" / names).read_bytes() == (
        tmp_path / "own/step-1" / names
    ).read_bytes()
    assert_same(understudy.load_file(tmp_path / "dcp/step-1"), plain)


def test_a_step_of_a_checkpointer_is_loaded(tmp_path):
    with understudy.Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(3, state())
    loaded = like(state())
    load(loaded, tmp_path / "step-3")
    assert_same(loaded, state())


def test_a_checkpointer_resumes_what_dcp_saved(tmp_path):
    plain = {"w": torch.randn(9, 3), "step": 4}
    save(plain, tmp_path / "step-4")
    target = {"w": torch.zeros(9, 3), "step": 0}
    with understudy.Checkpointer(tmp_path) as checkpointer:
        assert checkpointer.steps() == [4]
        assert checkpointer.resume(target) == 4
    assert_same(target, plain)


def test_the_whole_state_is_made_from_what_is_stored(tmp_path):
    save(state(), tmp_path / "a")
    loaded = {}
    reader = StorageReader(tmp_path / "a")
    _load_state_dict(loaded, reader, no_dist=True, planner=_EmptyStateDictLoadPlanner())
    assert_same(loaded["model"], state()["model"])
    assert loaded["betas"] == [0.9, 0.999]
    assert loaded["list"][1] == {"lr": 0.25}


def test_states_that_are_not_flattened(tmp_path):
    save_planner = DefaultSavePlanner(flatten_state_dict=False)
    load_planner = DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    flat = {"a.b": torch.ones(3), "nested": {"x": [1, {"y": torch.zeros(2)}]}}
    dcp.save(flat, storage_writer=StorageWriter(tmp_path / "a"), planner=save_planner, no_dist=True)
    loaded = {"a.b": torch.zeros(3), "nested": None}
    load(loaded, tmp_path / "a", planner=load_planner)
    assert_same(loaded, flat)


def test_what_is_read_goes_anywhere(tmp_path):
    stored = {"w": torch.arange(1200.0).view(30, 40), "b": torch.arange(4)}
    save(stored, tmp_path / "a")
    wide = torch.zeros(30, 80)
    target = {"w": wide[:, ::2], "b": torch.zeros(4, dtype=torch.float64)}
    load(target, tmp_path / "a")
    assert torch.equal(wide[:, ::2], stored["w"]) and not wide[:, 1::2].any()
    assert torch.equal(target["b"], stored["b"].double())
    transposed = {"w": torch.zeros(40, 30).t()}
    load(transposed, tmp_path / "a", planner=DefaultLoadPlanner(allow_partial_load=True))
    assert torch.equal(transposed["w"], stored["w"])


class Doubling(DefaultSavePlanner):
    """Decides about its bytes itself."""

    def transform_object(self, write_item, object):
        if write_item.type == dcp.planner.WriteItemType.BYTE_IO:
            return io.BytesIO(pickle.dumps(object) + b"!")
        return object * 2


class Raw(DefaultLoadPlanner):
    def load_bytes(self, read_item, value):
        raw = value.read()
        assert raw.endswith(b"!")
        self.original_state_dict[read_item.dest_index.fqn] = pickle.loads(raw[:-1])


def test_a_planner_that_makes_its_own_bytes_gets_them_back(tmp_path):
    saved = {"w": torch.ones(3), "value": {1, 2}}
    dcp.save(saved, storage_writer=StorageWriter(tmp_path / "a"), planner=Doubling(), no_dist=True)
    loaded = {"w": torch.zeros(3), "value": None}
    load(loaded, tmp_path / "a", planner=Raw())
    assert torch.equal(loaded["w"], torch.full((3,), 2.0))
    assert loaded["value"] == {1, 2}


class Thing:
    def __eq__(self, other):
        return type(other) is Thing


def failure_of(call):
    with pytest.raises(CheckpointException) as caught:
        call()
    ((error, _),) = caught.value.failures.values()
    return error


def test_pickles_only_where_they_are_allowed(tmp_path):
    saved = {"model": {"thing": Thing()}}
    error = failure_of(lambda: save(saved, tmp_path / "a"))
    assert error.code == "unsupported" and "'model.thing'" in str(error)
    assert list(tmp_path.iterdir()) == [tmp_path / ".understudy.lock"]
    save(saved, tmp_path / "a", allow_pickle=True)
    error = failure_of(lambda: load({"model": {"thing": None}}, tmp_path / "a"))
    assert error.code == "unsupported" and "allow_pickle" in str(error)
    loaded = {"model": {"thing": None}}
    load(loaded, tmp_path / "a", allow_pickle=True)
    assert loaded == saved


def test_what_exists_is_replaced_only_when_told(tmp_path):
    writer = StorageWriter(tmp_path / "a")
    (tmp_path / "a").mkdir()  # an empty folder is none
    save({"x": 1}, None, writer)
    error = failure_of(lambda: save({"x": 2}, None, writer))
    assert error.code == "invalid" and "is there already" in str(error)
    assert understudy.load_file(tmp_path / "a") == {"x": 1}
    save({"x": 2}, tmp_path / "a", overwrite=True)
    assert understudy.load_file(tmp_path / "a") == {"x": 2}
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine").touch()
    assert failure_of(lambda: save({"x": 2}, tmp_path / "b")).code == "invalid"
    assert {x.name for x in tmp_path.iterdir()} == {"a", "b", ".understudy.lock"}


def test_leftovers_go_at_the_next_save(tmp_path):
    for name in ("best.tmp-01234567", "best.old-01234567", "other.tmp-01234567"):
        (tmp_path / name).mkdir()
    save({"x": 1}, tmp_path / "best")
    assert {x.name for x in tmp_path.iterdir()} == {
        "best",
        "other.tmp-01234567",
        ".understudy.lock",
    }


def test_the_number_of_a_step(tmp_path):
    for name, number in [("step-12", 12), ("global_step7", 7), ("best", 0), ("9", 9)]:
        save({"x": 1}, tmp_path / name)
        assert json.loads((tmp_path / name / "checkpoint.json").read_text())["step"] == number


def test_wrong_calls_are_named(tmp_path):
    error = failure_of(lambda: save({"x": 1}, None))
    assert error.code == "invalid" and "checkpoint_id" in str(error)
    error = failure_of(lambda: save({"x": 1}, "s3://bucket/a"))
    assert error.code == "invalid" and "s3://" in str(error)
    assert not StorageWriter.validate_checkpoint_id("s3://bucket/a")
    assert StorageReader.validate_checkpoint_id(Path("runs/a"))
    with pytest.raises(understudy.Error, match="max_write_rate"):
        StorageWriter(max_write_rate=-1)
    with pytest.raises(understudy.Error, match="use_collectives"):
        StorageWriter(tmp_path).set_up_storage_writer(True, rank=0, use_collectives=False)
    with pytest.raises(CheckpointException, match="missing"):
        load({"x": 1}, tmp_path / "missing")


def test_cached_plans_of_another_storage_are_refused(tmp_path):
    class Planner(DefaultSavePlanner):
        pass

    saved = {"w": torch.ones(3)}
    dcp.save(
        saved,
        storage_writer=dcp.FileSystemWriter(tmp_path / "fs"),
        planner=Planner(enable_plan_caching=True),
        no_dist=True,
    )
    error = failure_of(
        lambda: dcp.save(
            saved,
            storage_writer=StorageWriter(tmp_path / "a"),
            planner=Planner(enable_plan_caching=True),
            no_dist=True,
        )
    )
    assert error.code == "invalid" and "enable_plan_caching" in str(error)


def test_the_writer_is_pickled_without_its_handles(tmp_path):
    writer = pickle.loads(pickle.dumps(StorageWriter(tmp_path / "a", threads=1)))
    save({"x": 1}, None, writer)
    reader = pickle.loads(pickle.dumps(StorageReader(tmp_path / "a")))
    loaded = {"x": 0}
    dcp.load(loaded, storage_reader=reader, no_dist=True)
    assert loaded == {"x": 1}


def test_every_flipped_bit_is_found(tmp_path):
    save({"w": torch.randn(40), "text": "t" * 3000}, tmp_path / "a")
    for file in sorted((tmp_path / "a").iterdir()):
        whole = file.read_bytes()
        for at in range(0, len(whole), max(1, len(whole) // 40)):
            broken = bytearray(whole)
            broken[at] ^= 1
            file.write_bytes(broken)
            with pytest.raises(CheckpointException) as caught:
                load({"w": torch.zeros(40), "text": ""}, tmp_path / "a")
            assert str(tmp_path / "a") in str(caught.value.failures), (file, at)
        file.write_bytes(whole)
    load({"w": torch.zeros(40), "text": ""}, tmp_path / "a")


def test_pytorchs_reader_of_safetensors_takes_a_step(tmp_path):
    saved = {"w": torch.randn(4, 4), "step": 3}
    save(saved, tmp_path / "a")
    loaded = {"w": torch.zeros(4, 4)}
    dcp.load(loaded, storage_reader=HuggingFaceStorageReader(str(tmp_path / "a")), no_dist=True)
    assert torch.equal(loaded["w"], saved["w"])


@pytest.mark.parametrize("stager", ["own", "default"])
def test_async_saves_in_a_thread(tmp_path, stager):
    writer = StorageWriter()
    own = understudy.dcp.AsyncStager() if stager == "own" else None
    for step in range(3):
        saved = {"w": torch.full((5,), float(step)), "step": step}
        dcp.async_save(
            saved,
            checkpoint_id=tmp_path / f"step-{step}",
            storage_writer=writer,
            async_stager=own,
            no_dist=True,
        ).result()
    with understudy.Checkpointer(tmp_path) as checkpointer:
        assert checkpointer.steps() == [0, 1, 2]
        assert checkpointer.restore().state["w"].tolist() == [2.0] * 5
    if own:
        own.close()
