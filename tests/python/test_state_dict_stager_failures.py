"""Calls that fail: what is said, and that earlier results stay."""

import collections
import copy
import os
import threading

import pytest
import torch
from staging import (
    STAGERS,
    Boom,
    Holder,
    Raises,
    only_ours,
    stager_class,  # noqa: F401
    unlike_original,
)

import understudy


@unlike_original("the error of a leaf has no path", AssertionError)
@pytest.mark.parametrize("leaf", [threading.Lock(), (i for i in ()), os.scandir], ids=str)
def test_a_leaf_that_cannot_be_copied_is_named(Stager, leaf):
    if leaf is os.scandir:
        leaf = os.scandir(".")
    stager = Stager()
    for state, path in [
        ({"a": {"b": [1, leaf]}}, "'a.b.1'"),
        ([Holder(x=(leaf,))], "'0.x.0'"),
        ({"d": collections.deque([0, leaf])}, "'d.1'"),
        ({3: leaf}, "'3'"),
        (leaf, "top"),
    ]:
        with pytest.raises(TypeError, match="cannot pickle") as caught:
            stager.stage(state)
        assert path in str(caught.value), str(caught.value)


class RaisesInDeepcopy:
    def __deepcopy__(self, memo):
        raise Boom


class Looks(Holder):
    """Each way in which the stager must have copied before the walk is done."""

    def __deepcopy__(self, memo):
        return copy.deepcopy(self.t, memo).sum().item()


class LooksLater(Holder):
    def __setstate__(self, state):
        self.__dict__.update(state)
        self.t.sum()


class Named(collections.namedtuple("Fields", "t")):
    def __new__(cls, t):
        t.sum()
        return super().__new__(cls, t)


EARLY = {
    "nothing": lambda t: None,
    "__deepcopy__": lambda t: Looks(t=t),
    "__setstate__": lambda t: LooksLater(t=t),
    "namedtuple": Named,
}


@unlike_original("an exception part way leaves earlier results overwritten", AssertionError)
@pytest.mark.parametrize("share_memory", [False, True])
@pytest.mark.parametrize("early", EARLY)
@pytest.mark.parametrize("leaf", [Raises(), RaisesInDeepcopy(), threading.Lock()], ids=str)
def test_earlier_results_stay_when_a_call_fails(Stager, share_memory, early, leaf):
    stager = Stager(share_memory=share_memory)
    t, u, big = torch.ones(100), torch.ones(7), torch.ones(1 << 18)
    state = {
        "t": t,
        "t1": t[1:],
        "big": big,
        "early": EARLY[early](t),
        "u": u,
        "early2": EARLY[early](u),
    }
    first = stager.stage(state)
    for n in range(3):
        for x in (t, u, big):
            x.fill_(n + 5)
        with pytest.raises((Boom, TypeError)):
            stager.stage({**state, "more": [torch.ones(3), leaf]})
        for name in ("t", "t1", "big", "u"):
            assert first[name].eq(1).all(), name
    again = stager.stage(state)
    assert again["t"].eq(7).all() and again["big"].eq(7).all() and again["u"].eq(7).all()
    assert again["t"].data_ptr() == first["t"].data_ptr()


@only_ours
def test_a_failed_call_leaves_what_was_resized(Stager):
    stager, t, u = Stager(), torch.ones(8), torch.ones(4)
    first = stager.stage([t, u])
    t.resize_(16).fill_(2)
    u.fill_(2)
    with pytest.raises(Boom):
        stager.stage([Looks(t=t), u, Raises()])
    assert first[0].tolist() == [1] * 8 and first[1].tolist() == [1] * 4
    t.fill_(3)
    assert [y.tolist() for y in stager.stage([t, u])] == [[3] * 16, [2] * 4]


@only_ours
def test_a_failure_that_somebody_catches_inside(Stager):
    stager, t, u = Stager(), torch.ones(5), torch.zeros(4)

    class Catches:
        def __deepcopy__(self, memo):
            with pytest.raises(Boom):
                stager.deepcopy_with_tensor_offload([t, u, Raises()], memo)
            with pytest.raises(understudy.Error):
                stager.deepcopy_with_tensor_offload(torch.ones(2, device="meta"), memo)
            return "caught"

    for n in range(3):
        t.fill_(n)
        y = stager.stage([t[1:], Catches(), t, u])
        assert y[0].tolist() == [n] * 4 and y[1] == "caught" and y[2].tolist() == [n] * 5
        assert y[3].tolist() == [0] * 4


@only_ours
def test_the_place_of_an_error_of_others_is_noted(Stager):
    with pytest.raises(Boom) as caught:
        Stager().stage({"a": [RaisesInDeepcopy()]})
    assert "'a.0'" in "".join(caught.value.__notes__)
    with pytest.raises(Boom) as caught:
        Stager().stage({"a": [Raises()]})
    assert "'a.0'" in "".join(caught.value.__notes__)


def test_the_original_shows_what_a_failed_call_overwrote():
    stager, t = STAGERS["original"](), torch.ones(3)
    first = stager.stage(t)
    t.fill_(2)
    with pytest.raises(Boom):
        stager.stage([t, Raises()])
    assert first.tolist() == [2, 2, 2]
