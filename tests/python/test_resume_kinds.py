"""What a resume replaces, what it restores in place, and what it refuses."""

import argparse
import collections
import types
import typing

import numpy as np
import pytest
import torch
from same import assert_same

from understudy import Checkpointer, Error


def resumed(tmp_path, saved, target, **how):
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, saved).wait()
        assert ckpt.resume(target, **how) == 1
    return target


t = torch.ones(2)

# Plain data in a fresh program, and what an older one had saved of it.
REPLACED = {
    "none and a dict": (None, {"a": {"b": 1}}),
    "none and a tensor": (None, t),
    "none and a list of tensors": (None, [t, t]),
    "none for a number": (0.5, None),
    "none for a dict": ({"a": 1}, None),
    "a dict gains keys": ({}, {"x": 1, "y": {"z": t}}),
    "a dict has other keys": ({"a": 1, "b": [1]}, {"b": [2, 3], "c": 3}),
    "another order": ({"a": 1, "b": 2}, {"b": 3, "a": 4}),
    "a defaultdict gains keys": (
        collections.defaultdict(list),
        collections.defaultdict(list, a=[1.0], b=[t]),
    ),
    "a Counter gains keys": (collections.Counter(), collections.Counter("aabc")),
    "a Counter loses keys": (collections.Counter("xyz"), collections.Counter("a")),
    "an OrderedDict": (collections.OrderedDict(), collections.OrderedDict(b=1, a=2)),
    "a namespace gains a name": (types.SimpleNamespace(a=1), types.SimpleNamespace(a=2, b=3)),
    "arguments": (argparse.Namespace(), argparse.Namespace(lr=0.1)),
    "an int and a float": (0, 0.93),
    "a float and an int": (0.0, 3),
    "a bool and an int": (False, 2),
    "an int and a large one": (1, 2**80),
    "a float and a NumPy scalar": (0.0, np.float32(0.5)),
    "a NumPy scalar and a float": (np.float64(0.0), 0.25),
    "a float and a tensor without dimensions": (float("inf"), torch.tensor(0.25)),
    "a float and an array without dimensions": (0.0, np.array(0.25)),
    "an int and a complex": (0, 1j),
    "a list of tensors": ([], [t, 2 * t]),
    "a list in a list": ([[1]], [[1, 2], [t]]),
    "a tuple": ((), (1, 2)),
    "a longer tuple": ((1, (2,)), (1, (2, 3), 4)),
    "a shorter tuple": ((1, 2, 3), (1,)),
    "a tuple with a tensor in it": ((), (t, 1)),
    "a deque": (collections.deque(maxlen=3), collections.deque([t, 1], maxlen=3)),
    "a set": (set(), {1, 2}),
    "a torch.Size": (torch.Size([]), torch.Size([2, 3])),
    "a slice": (slice(None), slice(1, 2)),
}


@pytest.mark.parametrize("name", REPLACED)
def test_plain_data_is_replaced_by_what_was_saved(name, tmp_path):
    here, saved = REPLACED[name]
    target = {"x": here, "deeper": {"w": torch.zeros(2), "x": [here]}}
    inner = target["deeper"]
    resumed(tmp_path, {"x": saved, "deeper": {"w": t, "x": [saved]}}, target)
    assert_same(target, {"x": saved, "deeper": {"w": t, "x": [saved]}})
    assert target["deeper"] is inner
    if type(here) is type(saved) and isinstance(here, (dict, list, set, collections.deque)):
        assert target["x"] is here, "the caller's own container"


def test_the_callers_own_containers_stay(tmp_path):
    table = collections.defaultdict(list, a=[1])
    own = table["a"]
    target = resumed(tmp_path, {"t": {"b": [5], "a": [2, 3]}}, {"t": table})
    assert target["t"] is table and table["a"] is own and own == [2, 3]
    assert list(table) == ["b", "a"] and table["c"] == [], "the factory is the caller's"


def test_a_list_of_tensors_may_have_grown(tmp_path):
    first, weights = torch.zeros(2), torch.zeros(3)
    target = resumed(
        tmp_path, {"buffer": [t, 2 * t, 3], "w": weights + 1}, {"buffer": [first], "w": weights}
    )
    assert target["buffer"][0] is first and torch.equal(first, t)
    assert_same(target, {"buffer": [t, 2 * t, 3], "w": weights})


class Pair(typing.NamedTuple):
    a: object
    b: object


class Riap(typing.NamedTuple):
    b: object
    a: object


class Thing:
    def __init__(self, x=0):
        self.x = x

    def state_dict(self):
        return {"x": self.x}

    def load_state_dict(self, state):
        self.x = state["x"]


REFUSED = {
    "a text and a number": ("a", 1, "is a text here and an integer"),
    "a text and a tensor": ("a", t, "is a text here and a tensor"),
    "bytes and a text": (b"a", "a", "is a bytes here and a text"),
    "a dict and a list": ({}, [], "is a dict here and a list"),
    "a number and a vector": (0.5, t, "is a floating here and a tensor"),
    "a tensor and None": (t, None, "is a tensor float32 .* here and None"),
    "a tensor and a dict": (t, {"a": t}, "is a tensor"),
    "a tensor that grew": (t, torch.ones(3), r"\[2\] here and float32 \[3\]"),
    "a dict with a tensor gains a key": ({"a": t}, {"a": t, "b": 1}, "'x.b' is in the checkpoint"),
    "a dict with a tensor loses a key": ({"a": t, "b": 1}, {"a": t}, "'x.b' is missing"),
    "a dict with tensors and none": ({"a": t}, None, "is a dict here and None"),
    "a list of tensors that shrank": ([t, t], [t], "has 2 items here and 1"),
    "a list of objects that grew": ([Thing()], [Thing(), Thing()], "has 1 items here and 2"),
    "a list of parameters that grew": (
        [torch.nn.Parameter(t)],
        [torch.nn.Parameter(t)] * 2,
        "has 1 items here and 2",
    ),
    "a tuple with a tensor": ((t,), (t, t), "has 1 items here and 2"),
    "named tuples of other fields": (Pair(1, 2), Riap(1, 2), "other fields"),
    "named tuples with tensors": (Pair(t, t), Riap(t, t), "other fields"),
    "attributes need names": (types.SimpleNamespace(), {1: 2}, "'x.1' .* attribute"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_plain_data_or_of_another_family_is_refused(name, tmp_path):
    here, saved, message = REFUSED[name]
    w = torch.zeros(2)
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, {"w": t, "x": saved}).wait()
        with pytest.raises(Error, match=message) as e:
            ckpt.resume({"w": w, "x": here})
    assert e.value.code == "invalid" and "nothing was changed" in str(e.value)
    assert not w.any()


def test_the_top_is_compared_strictly_even_if_it_is_plain(tmp_path):
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, {"step": 3, "model": t}).wait()
        with pytest.raises(Error, match="'model' is in the checkpoint"):
            ckpt.resume({"step": 0})


@pytest.mark.parametrize(
    ("dtype", "number"),
    [("float32", 0.5), ("float64", 0.1), ("int64", 3), ("bool", True), ("complex64", 1j)],
)
def test_a_number_into_a_tensor_without_dimensions(dtype, number, tmp_path):
    best = torch.zeros((), dtype=getattr(torch, dtype))
    target = resumed(tmp_path, {"best": number}, {"best": best})
    assert target["best"] is best and best.item() == number


@pytest.mark.parametrize(("dtype", "number"), [("float32", 0.1), ("int64", 0.5), ("float16", 1e9)])
def test_a_number_that_a_tensor_cannot_hold_exactly_is_refused(dtype, number, tmp_path):
    best = torch.zeros((), dtype=getattr(torch, dtype))
    with pytest.raises(Error, match=f"'best' is a tensor {dtype}"):
        resumed(tmp_path, {"best": number}, {"best": best})
    assert best == 0


def test_what_the_caller_has_of_a_tensor_stays(tmp_path):
    class Mine(torch.Tensor):
        pass

    plain, leaf = torch.zeros(2), torch.zeros(2, requires_grad=True)
    mine = torch.zeros(2).as_subclass(Mine)
    target = {"plain": plain, "leaf": leaf, "mine": mine}
    resumed(tmp_path, {"plain": t.clone().requires_grad_(), "leaf": t, "mine": t}, target)
    assert target["plain"] is plain and not plain.requires_grad
    assert target["leaf"] is leaf and leaf.requires_grad and leaf.is_leaf
    assert target["mine"] is mine and type(mine) is Mine
    assert torch.equal(leaf.detach(), t) and torch.equal(plain, t) and mine.sum() == 2
