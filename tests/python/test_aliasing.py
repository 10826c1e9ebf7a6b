"""Bytes that tensors share are state: they are shared again after a load."""

import os

import numpy as np
import pytest
import torch
from same import assert_same, bits

import understudy


def tied() -> dict:
    weight = torch.randn(4, 6)
    return {"a": weight, "b": weight}


def transposed() -> dict:
    weight = torch.randn(4, 6)
    return {"a": weight, "b": weight.t()}


def sliced() -> dict:
    weight = torch.randn(8, 6)
    return {"a": weight[:5], "b": weight[3:, 1:4]}


def expanded() -> dict:
    row = torch.randn(1, 6)
    return {"a": row, "b": row.expand(5, 6)}


def overlapping() -> dict:
    base = torch.arange(10.0)
    return {"a": base.as_strided((4, 3), (2, 1)), "b": base[2:9:2]}


def other_types() -> dict:
    base = torch.randn(6)
    return {"a": base, "b": base.view(torch.uint8), "c": base.view(torch.int16)[2:8]}


CASES = [tied, transposed, sliced, expanded, overlapping, other_types]


def sharing(state: dict, name: str, other: str) -> list[bool]:
    """Which elements of `other` change when each element of `name` does."""
    seen = []
    tensor = state[name]
    for index in np.ndindex(*tensor.shape):
        before, element = bits(state[other]), tensor[index].clone()
        tensor[index] = element + 1
        seen += [x != y for x, y in zip(before, bits(state[other]), strict=True)]
        tensor[index] = element
    return seen


def load(state: dict, how: str, tmp_path) -> dict:
    if how == "snapshot":
        stager = understudy.Stager()
        return stager.stage(state).wait().state()
    if how == "checkpointer":
        with understudy.Checkpointer(tmp_path / "run") as ckpt:
            ckpt.save(0, state).wait()
            return ckpt.restore().state
    understudy.save_file(state, tmp_path / "f")
    return understudy.load_file(tmp_path / "f", mmap=how == "mmap")


@pytest.mark.parametrize("how", ["file", "mmap", "snapshot", "checkpointer"])
@pytest.mark.parametrize("make", CASES)
def test_writes_are_seen_through_aliases(make, how, tmp_path):
    state = make()
    loaded = load(state, how, tmp_path)
    assert_same(loaded, state)
    for name in state:
        for other in state:
            assert sharing(loaded, name, other) == sharing(state, name, other), (name, other)
    storages = {t.untyped_storage().data_ptr() for t in loaded.values()}
    assert len(storages) == 1, "aliases share one torch storage"


def test_what_was_apart_stays_apart(round_trip):
    base = torch.zeros(10)
    loaded = round_trip({"a": base[:4], "b": base[6:]})
    assert loaded["a"].untyped_storage().data_ptr() != loaded["b"].untyped_storage().data_ptr()
    assert loaded["a"].untyped_storage().nbytes() == 16


def test_tied_parameters(round_trip):
    model = torch.nn.ModuleDict({"e": torch.nn.Embedding(5, 3), "h": torch.nn.Linear(3, 5)})
    model["h"].weight = model["e"].weight
    loaded = round_trip(model.state_dict())
    loaded["e.weight"][2, 1] = 42
    assert loaded["h.weight"][2, 1] == 42


def test_arrays_and_tensors_share(round_trip):
    array = np.arange(12, dtype=np.float32)
    state = {
        "array": array,
        "backwards": array[::-2],
        "tensor": torch.from_numpy(array),
        "columns": array.reshape(3, 4)[:, 1:3],
    }
    loaded = round_trip(state)
    assert_same(loaded, state)
    loaded["array"][5] = -1
    assert loaded["tensor"][5] == -1
    assert loaded["backwards"][3] == -1
    assert loaded["columns"][1, 0] == -1


def test_a_small_view_makes_a_small_file(tmp_path):
    big = torch.zeros(1000, 10_000)
    understudy.save_file({"row": big[500, 8:], "column": big[:, 7]}, tmp_path / "f")
    assert os.path.getsize(tmp_path / "f") < 100_000
    assert_same(understudy.load_file(tmp_path / "f"), {"row": big[500, 8:], "column": big[:, 7]})


def test_gaps_carry_nobodys_memory(tmp_path):
    secret = torch.full((64,), 0x5A, dtype=torch.uint8)
    secret[::2] = 1
    understudy.save_file({"t": secret[::2]}, tmp_path / "f")
    data = (tmp_path / "f").read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    assert 0x5A not in data[header:]


def test_strides_that_no_element_divides(round_trip):
    records = np.zeros(4, dtype=[("a", "u1"), ("b", "<f4")])
    records["b"] = np.arange(4)
    assert_same(round_trip({"b": records["b"]})["b"], np.arange(4, dtype=np.float32))


def test_misaligned_memory(round_trip):
    raw = bytearray(range(64))
    tensor = torch.frombuffer(raw, dtype=torch.float32, offset=1, count=5)
    octets = torch.frombuffer(raw, dtype=torch.uint8)
    loaded = round_trip({"f": tensor, "o": octets})
    assert bits(loaded["f"]) == bits(tensor)
    loaded["o"][1:5] = 0
    assert loaded["f"][0] == 0


def test_tensors_of_others_by_dlpack(round_trip):
    class Foreign:
        def __init__(self, tensor):
            self.tensor = tensor

        def __dlpack__(self, **options):
            return self.tensor.__dlpack__()

        def __dlpack_device__(self):
            return self.tensor.__dlpack_device__()

    base = torch.randn(3, 4)
    loaded = round_trip({"f": Foreign(base.t()), "t": base})
    assert_same(loaded["f"], base.t())
    loaded["t"][1, 2] = 7
    assert loaded["f"][2, 1] == 7


@pytest.mark.parametrize("exchange", [True, False], ids=["dlpack", "attributes"])
def test_sources_live_until_they_are_copied(exchange):
    class Holder:
        def state_dict(self):
            return {f"t{i}": torch.full((1000,), float(i)) for i in range(50)}

        def load_state_dict(self, state):
            raise NotImplementedError

    understudy._core._use_exchange_api(exchange)
    try:
        with understudy.Stager() as stager:
            state = stager.stage(Holder()).wait().state()
    finally:
        understudy._core._use_exchange_api(True)
    assert all(bool((state[f"t{i}"] == i).all()) for i in range(50))
