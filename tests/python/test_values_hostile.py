"""Typed values whose fields are right one by one, and together would read or grow out of bounds;
and objects of the caller that cannot take what was saved: said before anything has changed."""

import array
import json

import numpy as np
import pytest
import torch
from crafted import craft
from test_values_damage import Parts
from torch import nn

from understudy import Checkpointer, Error, load_file, save_file

pytestmark = pytest.mark.filterwarnings("ignore")


def dicts(tree):
    if isinstance(tree, list):
        if tree[:1] == ["d"]:
            yield tree
        for child in tree:
            yield from dicts(child)


def load_changed(folder, value, **changes):
    """The value's file, with these fields, wherever they are, as told: null adds none."""
    save_file({"v": value}, folder / "f")
    parts = Parts(folder / "f")
    tree, found = json.loads(json.dumps(parts.tree)), set()
    for node in dicts(tree):
        for at in range(1, len(node), 2):
            if node[at] in changes:
                node[at + 1] = changes[node[at]](node[at + 1])
                found.add(node[at])
    assert found == set(changes)
    return parts.load(folder / "g", tree)


def corrupt(what):
    return pytest.raises(Error, match=what)


def test_a_field_outside_of_its_dtype(tmp_path):
    value = np.zeros(1, [("a", "<f4"), ("b", "<f4")])
    for offset in (2**31 - 1, 5, -4):
        with corrupt("outside of it"):
            load_changed(tmp_path, value, offsets=lambda _, at=offset: ["t", at, 4])


def test_a_position_that_hides_another(tmp_path):
    value = np.random.Philox(3)
    with corrupt("its position is none"):
        load_changed(
            tmp_path,
            value,
            buffer_pos=lambda _: -536870912,
            state=lambda old: [*old, "pos", 0] if old[0] == "d" else old,
        )


def test_one_element_that_is_repeated_does_not_grow(tmp_path):
    tree = ["d", "v", ["k", "typed", ["t", "numpy.ndarray"], None]]
    data = [0, "uint8", [2**40, 2], [0, 0], 0]
    tree[2][3] = ["d", "dtype", "<u2", "shape", ["t", 2**40], "data", ["k", "numpy_array", None]]
    tree[2][3][-1].append(data)
    with pytest.raises(Error) as caught:
        load_file(craft(tmp_path / "f", tree, [("a", "U8", [1], 0, 1)], b"x"))
    assert caught.value.code == "corrupt", caught.value


@pytest.mark.parametrize("name", ["entropy", "spawn_key"])
def test_a_seed_is_bounded(name, tmp_path):
    long = ["k", "long_integer", None, ["b", "01" * 20_000]]
    with corrupt("bits"):
        load_changed(
            tmp_path,
            np.random.SeedSequence(3, spawn_key=(1,)),
            **{name: lambda _: long if name == "entropy" else ["t", long]},
        )


def jagged(lengths=None, dimension=1, n=10):
    values = torch.arange(float(n * n)).reshape(n, n)
    offsets = torch.tensor([0, n // 2, n])
    given = None if lengths is None else torch.tensor(lengths)
    return torch.nested.nested_tensor_from_jagged(
        values, offsets, lengths=given, jagged_dim=dimension
    )


def test_lengths_that_overflow(tmp_path):
    value = jagged([2, 3])
    save_file({"v": value}, tmp_path / "f")
    parts = Parts(tmp_path / "f")
    at = parts.data.index(b"\x02" + bytes(7) + b"\x03" + bytes(7))
    data = bytearray(parts.data)
    data[at + 8 : at + 16] = (2**63 - 3).to_bytes(8, "little")
    with corrupt("offsets are not those"):
        load_file(craft(tmp_path / "g", parts.tree, parts.entries, bytes(data)))


def lent():
    mine = array.array("d", [0.0])
    KEPT.append(memoryview(mine))
    return mine


KEPT: list[memoryview] = []


MISFITS = {
    "jagged with lengths": (lambda: jagged([2, 3]), jagged),
    "jagged without lengths": (jagged, lambda: jagged([2, 3])),
    "jagged elsewhere": (lambda: jagged(dimension=2), jagged),
    "masked, other fields": (
        lambda: np.ma.zeros(1, [("a", "f4"), ("b", "i4")]),
        lambda: np.ma.zeros(1, [("x", "i4"), ("y", "f4")]),
    ),
    "masked, another field": (
        lambda: np.ma.zeros(1, [("a", "f8")]),
        lambda: np.ma.zeros(1, [("a", "f4"), ("b", "i4")]),
    ),
    "an array that lends its memory": (lambda: array.array("d", [1.0, 2.0]), lent),
}


@pytest.mark.parametrize("name", MISFITS)
def test_what_cannot_be_taken_changes_nothing(name, tmp_path):
    saved, mine = (make() for make in MISFITS[name])
    module = nn.Linear(2, 2)
    before = module.weight.detach().clone()
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, {"a": nn.Linear(2, 2), "v": saved}).wait()
        with pytest.raises(Error, match="'v'") as caught:
            ckpt.resume({"a": module, "v": mine})
    assert caught.value.code == "invalid", caught.value
    assert torch.equal(module.weight, before)
    KEPT.clear()


def test_an_array_takes_another_length(tmp_path):
    mine = array.array("d", [0.0])
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, {"v": array.array("d", [1.0, 2.0])}).wait()
        ckpt.resume({"v": mine})
    assert mine.tolist() == [1.0, 2.0]
