"""What programs that use DCP count on, in one process."""

import io
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from test_one_process import failure_of, load, save
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict_from_keys

from understudy.dcp import StorageReader, StorageWriter

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is")


@pytest.mark.parametrize(
    ("saved", "loaded"),
    [(torch.float32, torch.bfloat16), (torch.bfloat16, torch.float32), (torch.int32, torch.int64)],
)
def test_a_tensor_is_converted_to_the_dtype_of_its_target(tmp_path, saved, loaded):
    tensor = torch.arange(12).view(3, 4).to(saved)
    save({"w": tensor}, tmp_path / "a")
    state = {"w": torch.zeros(3, 4, dtype=loaded)}
    load(state, tmp_path / "a")
    assert state["w"].dtype == loaded and torch.equal(state["w"], tensor.to(loaded))


def test_what_is_missing_or_of_another_shape_is_an_error(tmp_path):
    save({"w": torch.ones(3), "n": 1}, tmp_path / "a")
    error = failure_of(lambda: load({"w": torch.zeros(3), "x": torch.zeros(1)}, tmp_path / "a"))
    assert "x" in str(error)
    error = failure_of(lambda: load({"w": torch.zeros(4)}, tmp_path / "a"))
    assert "w" in str(error)
    state = {"w": torch.zeros(3), "x": torch.zeros(1)}
    load(state, tmp_path / "a", DefaultLoadPlanner(allow_partial_load=True))
    assert state["w"].tolist() == [1.0] * 3 and state["x"].tolist() == [0.0]


class Thing:
    """Has a state of its own, in which it keeps a buffer of bytes."""

    def __init__(self, losses: list[float]) -> None:
        self.losses = losses

    def state_dict(self) -> dict[str, Any]:
        losses = io.BytesIO()
        torch.save(self.losses, losses)
        return {"losses": losses, "count": torch.tensor(len(self.losses))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        state["losses"].seek(0)
        self.losses = torch.load(state["losses"], weights_only=True)
        assert int(state["count"]) == len(self.losses)


def test_objects_are_loaded_in_place_and_values_are_replaced(tmp_path):
    thing = Thing([0.5, 0.25])
    error = failure_of(lambda: save({"thing": thing}, tmp_path / "a"))
    assert error.code == "unsupported" and "thing.losses" in str(error)
    values = {"list": [1, 2], "text": "a"}
    save({"thing": thing, "values": values}, tmp_path / "a", allow_pickle=True)
    other = Thing([])
    state = {"thing": other, "values": {"list": [0, 0], "text": ""}}
    load(state, tmp_path / "a", allow_pickle=True)
    assert state["thing"] is other and other.losses == [0.5, 0.25]
    assert state["values"] == values


@pytest.mark.parametrize("state", [{}, {"a": {}}, {"a": [], "n": None}])
def test_a_state_without_tensors_is_saved_and_loaded(tmp_path, state):
    save(state, tmp_path / "a")
    load(state, tmp_path / "a")


def test_parts_are_loaded_by_the_beginning_of_their_names(tmp_path):
    optimizer = {"state": {"w": {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.5}]}
    save({"model": {"w": torch.zeros(3)}, "optimizer": optimizer}, tmp_path / "a")
    found = _load_state_dict_from_keys(
        "optimizer.state", storage_reader=StorageReader(tmp_path / "a")
    )
    assert found.keys() == {"optimizer"} and found["optimizer"].keys() == {"state"}
    assert found["optimizer"]["state"]["w"]["exp_avg"].tolist() == [1.0] * 3


def test_one_writer_saves_many_steps(tmp_path):
    writer = StorageWriter()
    for step in range(3):
        save({"w": torch.full((5,), float(step))}, tmp_path / f"step-{step}", writer)
    for step in range(3):
        state = {"w": torch.zeros(5)}
        dcp.load(state, storage_reader=StorageReader(tmp_path / f"step-{step}"), no_dist=True)
        assert state["w"].tolist() == [float(step)] * 5
