"""The protocol of copy.deepcopy, re-entered: who is asked, in which order, and with what."""

import copy
import copyreg
import datetime
import fractions
import functools
import operator
import pathlib
import pickle
import types

import numpy as np
import pytest
import torch
from same import assert_same
from staging import Holder, both, everywhere, stager_class, unlike_original  # noqa: F401

CALLS: list[str] = []


class Base:
    def __init__(self, t=None):
        self.t = t


class ByReduceEx(Base):
    def __reduce__(self):
        CALLS.append("reduce")
        return type(self), (self.t,)

    def __reduce_ex__(self, version):
        CALLS.append(f"reduce_ex {version}")
        return type(self), (self.t,)


class ByCopyreg(ByReduceEx):
    pass


class ByDeepcopy(ByCopyreg):
    def __deepcopy__(self, memo):
        CALLS.append("deepcopy")
        assert isinstance(memo, dict)
        return ByDeepcopy(copy.deepcopy(self.t, memo))


def by_copyreg(x):
    CALLS.append("copyreg")
    return type(x), (x.t,)


@both
def test_the_order_of_the_walk(Stager, monkeypatch):  # rule 1
    for cls in (ByCopyreg, ByDeepcopy, list, type):
        monkeypatch.setitem(copyreg.dispatch_table, cls, by_copyreg)
    CALLS.clear()
    t, stager = torch.ones(2), Stager()
    for cls in (ByDeepcopy, ByCopyreg, ByReduceEx):
        x = cls(t)
        y = stager.stage({"x": x, "again": [x], "cls": cls})
        assert type(y["x"]) is cls and y["x"] is y["again"][0] and y["cls"] is cls
        assert y["x"].t.tolist() == [1, 1] and y["x"].t is not t
    assert CALLS == ["deepcopy", "copyreg", "reduce_ex 4"]


class OnlyReduce:
    __reduce_ex__ = None  # as of a class written in C that has none

    def __reduce__(self):
        return Holder, (), {"a": 1}


@both
def test_reduce_where_there_is_no_reduce_ex(Stager):  # rule 1
    assert vars(Stager().stage([OnlyReduce()])[0]) == {"a": 1}


class Gives:
    """What reduce is to give."""

    def __init__(self, *parts):
        self.parts = parts

    def __reduce_ex__(self, version):
        return self.parts[0] if self.parts[:1] == ("name",) else self.parts


class Everything(list):
    """List, mapping and attributes at once."""

    def __init__(self, *args):
        super().__init__()
        self.log = [("init", *args)]

    def __setitem__(self, key, value):
        self.log.append((key, value))


class SetsState(Holder):
    def __setstate__(self, state):
        self.got = state


@everywhere
def test_what_reduce_gives(Stager):  # rule 1
    t, stager = torch.arange(3.0), Stager()
    named = Gives("name")
    assert stager.stage([named])[0] is named
    two = stager.stage(Gives(Everything, (t, 2)))
    three = stager.stage(Gives(Holder, (), {"t": t}))
    slots = stager.stage(Gives(Holder, (), ({"t": t}, {"u": t})))
    only_slots = stager.stage(Gives(Holder, (), (None, {"u": t})))
    state = stager.stage(Gives(SetsState, (), (t, [t])))
    four = stager.stage(Gives(Everything, (), None, iter([t, t])))
    five = stager.stage(Gives(Everything, (), {"a": 1}, iter([t]), iter([("k", t), (t, 2)])))
    t.fill_(9)
    for y in (two.log[0][1], three.t, slots.u, only_slots.u, state.got[0], four[1], five[0]):
        assert y is not t and y.tolist() == [0, 1, 2]
    assert slots.t is slots.u and state.got[0] is state.got[1][0] and four[0] is four[1]
    assert five.log[1] == ("k", five[0]) and five.log[2][0] is five[0] and five.a == 1


@both
@pytest.mark.parametrize("size", [0, 1, 6, 7])
def test_other_lengths_are_errors(Stager, size):
    with pytest.raises(RuntimeError, match=f"return value length: {size}"):
        Stager().stage({"a": Gives(*[Holder, (), None, None, None, None, None][:size])})


@both
def test_the_caller_s_memo(Stager):
    t, u, stager, memo = torch.ones(2), [1], Stager(), {}
    first = stager.deepcopy_with_tensor_offload({"t": t, "u": u}, memo)
    second = stager.deepcopy_with_tensor_offload([t, u, t], memo)
    assert second[0] is first["t"] and second[1] is first["u"]
    assert memo[id(t)] is first["t"] and any(x is u for x in memo[id(memo)])
    given = object()
    assert stager.deepcopy_with_tensor_offload([t, 77**9], {id(t): given})[0] is given
    number = 77**9
    assert stager.deepcopy_with_tensor_offload((number,), {id(number): 5}) == (5,)


@both
def test_a_value_that_counts_as_absent(Stager):
    t, nil, stager = torch.ones(2), object(), Stager()
    assert stager.deepcopy_with_tensor_offload(t, {id(t): nil}) is nil
    assert stager.deepcopy_with_tensor_offload(t, {id(t): nil}, nil).tolist() == [1, 1]
    assert stager.deepcopy_with_tensor_offload([t], {id(t): None})[0] is None
    staged = stager.deepcopy_with_tensor_offload(t, {id(t): None}, _nil=None, non_blocking=True)
    assert staged.tolist() == [1, 1]


@everywhere
def test_a_deepcopy_that_comes_back_to_the_stager(Stager):
    class Returns:
        def __init__(self, *parts):
            self.parts = parts

        def __deepcopy__(self, memo):
            y = Returns()
            memo[id(self)] = y
            y.parts = stager.deepcopy_with_tensor_offload(self.parts, memo)
            return y

    stager, t = Stager(), torch.arange(4.0)
    inner = Returns(t, t[1:])
    outer = Returns(inner, t, [inner])
    inner.parts += (outer,)
    state = [t, outer, t[2:], inner]
    for n in range(3):
        t.fill_(n)
        y = stager.stage(state)
        assert y[1].parts[0] is y[3] is y[1].parts[2][0] and y[3].parts[2] is y[1]
        assert y[1].parts[1] is y[0] is y[3].parts[0]
        assert y[3].parts[1].untyped_storage().data_ptr() == y[0].untyped_storage().data_ptr()
        assert y[0].tolist() == [n] * 4 and y[2].tolist() == [n] * 2
    assert state[3] is inner and inner.parts[0] is t


@both
def test_a_deepcopy_with_the_memo_of_copy(Stager):
    t, shared = torch.ones(3), [1]

    class Copies:
        def __deepcopy__(self, memo):
            return copy.deepcopy((t, shared, torch.zeros(2)), memo)

    state = [t, shared, Copies(), shared]
    staged = Stager().stage(state)
    assert staged[2][0] is staged[0] and staged[2][1] is staged[1] is staged[3]
    assert staged[2][2].tolist() == [0, 0]


@both
def test_a_stage_of_its_own_inside_a_stage(Stager):
    stager, t, u = Stager(), torch.ones(3), torch.zeros(2)

    class Stages:
        def __deepcopy__(self, memo):
            return stager.stage({"t": t, "u": u})

    for n in range(3):
        t.fill_(n)
        staged = stager.stage([t, Stages(), t, u])
        assert staged[0].tolist() == staged[1]["t"].tolist() == [n] * 3
        assert staged[0].data_ptr() == staged[1]["t"].data_ptr() and staged[3].tolist() == [0, 0]


@both
def test_a_deepcopy_that_gives_itself_is_not_remembered(Stager):
    class Same:
        def __deepcopy__(self, memo):
            return self

    x, memo = Same(), {}
    pair = (1, x)
    assert Stager().deepcopy_with_tensor_offload(pair, memo) is pair
    assert id(x) not in memo and id(pair) not in memo


@both
def test_objects_of_others(Stager):
    generator = torch.Generator().manual_seed(3)
    state = {
        "array": np.arange(3), "number": np.float32(2), "dtype": np.dtype("f4"),
        "random": np.random.default_rng(3), "generator": generator.get_state(),
        "error": ValueError("x", [1]), "getter": operator.itemgetter(1, 2),
        "path": pathlib.Path("/a/b"), "date": datetime.date(2024, 1, 2),
        "fraction": fractions.Fraction(1, 3), "namespace": types.SimpleNamespace(a=1),
        "storage": torch.arange(3.0).untyped_storage(), "partial": functools.partial(pow, 2),
    }  # fmt: skip
    staged, model = Stager().stage(state), copy.deepcopy(state)
    assert_same(state["array"], staged["array"])
    assert staged["array"] is not state["array"]
    assert bytes(staged["storage"]) == bytes(state["storage"])
    for name in ("number", "dtype", "random", "getter", "path", "date", "fraction", "partial"):
        assert pickle.dumps(staged[name]) == pickle.dumps(model[name]), name
    assert staged["error"].args == ("x", [1])


@both
def test_errors_of_others_come_through(Stager):
    class Asked(Exception):
        pass

    class Raises:
        def __getattr__(self, name):
            raise Asked(name) if name == "__deepcopy__" else AttributeError(name)

    class RaisesLater(Holder):
        def __getattr__(self, name):
            raise Asked(name) if name == "__setstate__" else AttributeError(name)

    with pytest.raises(Asked, match="__deepcopy__"):
        Stager().stage([Raises()])
    with pytest.raises(Asked, match="__setstate__"):
        Stager().stage([RaisesLater(a=1)])


@both
def test_a_container_that_changes_meanwhile(Stager):
    table, items = {}, []

    class Adds:
        def __deepcopy__(self, memo):
            table["more"] = 1
            items.append(2)
            return 0

    table.update(a=Adds(), b=1)
    with pytest.raises(RuntimeError, match="changed size"):
        Stager().stage(table)
    items[:] = [1, Adds()]
    assert Stager().stage(items) == [1, 0, 2]
