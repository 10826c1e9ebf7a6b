"""Scalars, containers and the closed list of kinds; typed keys; what is refused."""

import argparse
import collections
import dataclasses
import enum
import pathlib
import types
import typing

import numpy as np
import pytest
import torch
from same import assert_same

import understudy


class Point(typing.NamedTuple):
    x: float
    label: str


Plain = collections.namedtuple("Plain", "a b")


def with_metadata() -> collections.OrderedDict:
    ordered = collections.OrderedDict(b=1, a=2)
    ordered.move_to_end("b")
    ordered._metadata = collections.OrderedDict({"": {"version": 1}, "layer": {"version": 2}})
    return ordered


KINDS = {
    "none": None,
    "booleans": [True, False],
    "integers": [0, -1, 2**63 - 1, -(2**63)],
    "big integers": [2**63, -(2**63) - 1, 10**100, 7**9000],
    "floats": [0.0, -0.0, 1e308, float("inf"), float("nan"), 0.1],
    "complex": [1 + 2j, complex("nan-infj")],
    "text": ["", "plain", "größer", "\U0001f600", "a\x00b", "x" * 100_000],
    "surrogates": ["\ud800", "a\udcffb"],
    "bytes": [b"", b"\x00\xff", b"y" * 100_000],
    "byte array": bytearray(b"abc"),
    "nested": {"a": [1, (2, {"b": [[]]})], "e": {}, "t": ()},
    "long lists": [list(range(10_000)), [0.5] * 5_000],
    "ordered": collections.OrderedDict([("z", 1), ("a", 2)]),
    "ordered with metadata": with_metadata(),
    "default of list": collections.defaultdict(list, a=[1]),
    "default of dict": collections.defaultdict(dict, a={}),
    "default of none": collections.defaultdict(None, a=1),
    "default of counter": collections.defaultdict(collections.Counter),
    "counter": collections.Counter("abracadabra"),
    "deque": collections.deque([1, 2]),
    "bounded deque": collections.deque([1, 2], maxlen=3),
    "set": {1, "a", (2, 3)},
    "frozen set": frozenset([1, 2]),
    "empty sets": [set(), frozenset()],
    "named tuple": Point(1.5, "p"),
    "other named tuple": Plain([1], {"k": torch.ones(1)}),
    "size": torch.Size([2, 3]),
    "dtypes": [torch.float32, torch.int8, torch.bfloat16],
    "devices": [torch.device("cpu"), torch.device("cuda:1"), torch.device("meta")],
    "parameters": [
        torch.nn.Parameter(torch.randn(2)),
        torch.nn.Parameter(torch.ones(2, dtype=torch.int32), requires_grad=False),
    ],
    "numpy scalars": [
        np.float32(0.1),
        np.int64(-3),
        np.bool_(True),
        np.complex64(1j),
        np.float16(2),
        np.datetime64("2024-01-02"),
        np.timedelta64(5, "ms"),
        np.str_("ab"),
        np.bytes_(b"ab"),
        np.str_(""),
    ],
    "numpy dtypes": [np.dtype("f4"), np.dtype(">i2"), np.dtype("U5"), np.dtype("M8[ns]")],
    "arrays": [np.arange(6).reshape(2, 3), np.array(1.5), np.zeros((0, 2), np.int8)],
    "paths": [
        pathlib.Path("/a/b"),
        pathlib.PurePosixPath("c"),
        pathlib.PureWindowsPath("C:\\d"),
    ],
    "namespace": types.SimpleNamespace(a=1, b=[2]),
    "arguments": argparse.Namespace(lr=0.1, name="run"),
    "slices": [slice(None), slice(1, None, -2)],
    "ranges": [range(5), range(10, 0, -3)],
    "ellipsis": ...,
    "keys": {1: "int", "1": "str", 1.5: "float", None: "none", b"b": "bytes", 2**70: "big"},
    "tuple keys": {(0, "a"): 1, (): 2, ((1,), True): 3, frozenset([1]): 4},
    "boolean keys": {True: 1, False: 0},
    "other keys": {
        torch.float32: 1,
        torch.device("cpu"): 2,
        pathlib.PurePosixPath("p"): 3,
        np.int32(7): 4,
        "\ud800": 5,
        3j: 6,
        range(3): 7,
        ...: 8,
        Plain(1, 2): 9,
    },
}


@pytest.mark.parametrize("name", KINDS)
def test_through_a_file(name, round_trip):
    assert_same(round_trip({"v": KINDS[name]}), {"v": KINDS[name]})


@pytest.mark.parametrize("name", KINDS)
def test_through_a_snapshot(name):
    with understudy.Stager() as stager, stager.stage({"v": KINDS[name]}).wait() as snapshot:
        assert_same(snapshot.state(), {"v": KINDS[name]})


@pytest.mark.parametrize("state", [None, 3, "text", [1, 2], (1,), torch.ones(2), np.ones(3)])
def test_the_top_may_be_anything(state, round_trip):
    assert_same(round_trip(state), state)


class Color(enum.Enum):
    RED = 1


class MyDict(dict):
    pass


class Slotted:
    __slots__ = ("x",)

    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return type(other) is Slotted and other.x == self.x

    __hash__ = None


@dataclasses.dataclass
class DictOfFields(dict):
    a: int = 1


OPAQUE = {
    "enum": Color.RED,
    "class": Slotted,
    "function": len,
    "subclass of dict": MyDict(a=1),
    "subclass of list": type("MyList", (list,), {})([1]),
    "object": Slotted(3),
    "array of objects": np.array([None, 1], dtype=object),
    "default factory": collections.defaultdict(len),
    "long range": range(2**70),
    "matrix": np.array([[1, 2]]).view(np.matrix),
    "array of records of objects": np.zeros(2, dtype=[("a", "i4"), ("b", "O")]),
    "array of text of any length": np.array(["a"], dtype=np.dtypes.StringDType()),
    "dict that is a dataclass": DictOfFields(),
}


@pytest.mark.parametrize("name", [name for name in OPAQUE if name != "enum"])
def test_opaque_leaves_are_refused_on_disk_by_path(name, tmp_path):
    for save in (
        lambda state: understudy.save_file(state, tmp_path / "f"),
        lambda state: understudy.Checkpointer(tmp_path / "run").save(1, state),
    ):
        with pytest.raises(understudy.Error, match=r"'outer\.list\.1'.*allow_pickle=True") as e:
            save({"outer": {"list": [torch.ones(1), OPAQUE[name]]}})
        assert e.value.code == "unsupported"
        assert type(OPAQUE[name]).__name__ in str(e.value)
    assert not (tmp_path / "f").exists()
    assert understudy.Checkpointer(tmp_path / "run").steps() == []


@pytest.mark.parametrize("name", ["enum", "class", "function", "subclass of dict", "object"])
def test_pickle_needs_permission_both_ways(name, tmp_path):
    state = {"o": OPAQUE[name], "t": torch.ones(2)}
    understudy.save_file(state, tmp_path / "f", allow_pickle=True)
    with pytest.raises(understudy.Error, match=r"'o'.*allow_pickle") as e:
        understudy.load_file(tmp_path / "f")
    assert e.value.code == "unsupported"
    loaded = understudy.load_file(tmp_path / "f", allow_pickle=True)
    assert_same(loaded, state)
    # What does not need it comes without.
    assert_same(understudy.load_file(tmp_path / "f", names=["t"])["t"], state["t"])


def test_opaque_leaves_are_copied_in_memory():
    thing = Slotted([1])
    state = {"a": thing, "b": [thing], "array": np.array([None, [2]], dtype=object)}
    with understudy.Stager() as stager, stager.stage(state).wait() as snapshot:
        thing.x.append(2)
        state["array"][1].append(3)
        first = snapshot.state()
        assert first["a"] == Slotted([1])
        assert first["a"] is first["b"][0], "copies share as the originals did"
        assert first["array"][1] == [2]
        first["a"].x.append("changed")
        assert snapshot.state()["a"] == Slotted([1]), "a snapshot is immutable"


def test_what_cannot_be_copied_raises_with_its_path():
    import threading

    with (
        understudy.Stager() as stager,
        pytest.raises(TypeError, match="cannot pickle") as e,
    ):
        stager.stage({"a": {"lock": threading.Lock()}})
    if hasattr(e.value, "__notes__"):
        assert any("'a.lock'" in note for note in e.value.__notes__)


@pytest.mark.parametrize(
    "key", [Color.RED, torch.ones(1), Slotted, lambda: 0, (1, Color.RED)], ids=repr
)
def test_keys_that_cannot_be_kept_are_named(key, tmp_path):
    with pytest.raises(understudy.Error, match="'a") as e:
        understudy.save_file({"a": {key: 1}}, tmp_path / "f")
    assert e.value.code == "unsupported"


def test_a_file_names_nothing_to_import(tmp_path, run_python):
    """A named tuple comes back as one with the same fields, of no module."""
    understudy.save_file({"p": Point(1.0, "x")}, tmp_path / "f")
    done = run_python(
        """
        import sys, understudy
        p = understudy.load_file(sys.argv[1])["p"]
        assert (p.x, p.label, p._fields) == (1.0, "x", ("x", "label"))
        print(sorted(m for m in sys.modules if m in ("test_kinds", "torch", "numpy")))
        """,
        tmp_path / "f",
    )
    assert done.stdout.strip() == "[]"
