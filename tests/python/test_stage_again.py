"""Staging the same state again: without a walk, and as if there had been one."""

import collections
import copy
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from again import Holder, stage
from hypothesis import given, settings
from hypothesis import strategies as st
from same import assert_same
from test_properties import assert_aliases_alike, flip, scalars, states, tensors_of

from understudy import Error, Stager

LONG = 2000  # characters that are kept outside the tree


def state_of(n: int = 1) -> dict:
    ordered = collections.OrderedDict(one=torch.full((3,), float(n)), two=torch.arange(4))
    ordered._metadata = collections.OrderedDict({"": {"version": 2}, "x": {"version": 1}})
    base = torch.arange(12.0).reshape(3, 4)
    return {
        "ordered": ordered,
        "list": [torch.ones(2, 3), 1, 2.5, "text", None],
        "tuple": (b"bytes", 1 + 2j, torch.zeros(0)),
        "base": base,
        "row": base[1],
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "array": np.arange(6).reshape(2, 3),
        "text": "x" * LONG,
        "nested": {7: {"step": 10**6 + n, 10**9: torch.ones((), dtype=torch.float64)}},
        "size": torch.Size([1, 2]),
        "dtype": torch.float16,
        "scalar": np.float64(n),
    }


def stage_twice(change, *, state=None) -> tuple:
    """The plan of a stage after `change`, which must give what a new stager gives."""
    state = state_of() if state is None else state
    with Stager() as stager:
        assert stage(stager, state)[1] == "new"
        assert stage(stager, state)[1] == "again"
        change(state)
        got, plan = stage(stager, state)
        with Stager() as other:
            expected, _ = stage(other, state)
        assert_same(got, expected)
        assert_aliases_alike(got, expected)
        # And on from there.
        for tensor in list(tensors_of(state))[:3]:
            flip(tensor.detach() if isinstance(tensor, torch.Tensor) else tensor)
        got, _ = stage(stager, state)
        with Stager() as other:
            assert_same(got, stage(other, state)[0])
        return plan


def put(*keys_and_value):
    *keys, last, value = keys_and_value

    def change(state):
        for key in keys:
            state = state[key]
        state[last] = value

    return change


def new_containers(state):
    """Equal containers and keys, all of them other objects."""
    for key in list(state):
        state["".join(list(key))] = state.pop(key)
    state["nested"] = {
        7: {"st" + "ep"[:2]: int("1000001"), int("1" + "0" * 9): state["nested"][7][10**9]}
    }
    state["list"] = list(state["list"])
    state["ordered"] = copy.copy(state["ordered"])
    state["ordered"]._metadata = copy.deepcopy(state["ordered"]._metadata)


def replace(key, make):
    def change(state):
        state[key] = make(state[key])

    return change


def replace_in_list(state):
    state["list"][0] = state["list"][0].clone()


AGAIN = {
    "nothing": lambda s: None,
    "a number": put("nested", 7, "step", 11),
    "a longer number": put("list", 1, 10**15),
    "an int beyond 64 bits": put("list", 1, 10**50),
    "a float": put("list", 2, -0.0),
    "not a number": put("list", 2, struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000123))[0]),
    "a text": put("list", 3, "größer \ud800"),
    "a text with quotes": put("list", 3, '"\\\n'),
    "none to true": put("list", 4, True),
    "a number to text": put("list", 1, "one"),
    "many": lambda s: s["list"].__setitem__(slice(1, 5), [2, 3.5, "more", 4]),
    "a scalar of NumPy": put("scalar", np.float64(7)),
    "the dtype": put("dtype", torch.bfloat16),
    "other objects": new_containers,
    "bytes of a tensor": lambda s: s["base"].add_(1),
    "other storage": replace("parameter", lambda p: torch.nn.Parameter(p.detach() + 1)),
    "other data": lambda s: setattr(s["parameter"], "data", torch.tensor([5.0, 6.0])),
    "another array": replace("array", lambda a: a + 1),
    "an element of a list": replace_in_list,
    "another empty tensor": put("tuple", (b"bytes", 1 + 2j, torch.zeros(0))),
    "a view of another": replace("parameter", lambda p: torch.nn.Parameter(p.detach().view(2))),
}

WALKED = {
    "another key": put("more", 1),
    "one less": lambda s: s.pop("scalar"),
    "another name": lambda s: s.__setitem__("name", s.pop("scalar")),
    "another order": lambda s: s.__setitem__("ordered", s.pop("ordered")),
    "the order of an OrderedDict": lambda s: s["ordered"].move_to_end("one"),
    "a plain dict": replace("ordered", dict),
    "its attribute": lambda s: s["ordered"]._metadata[""].__setitem__("version", 3),
    "another attribute": lambda s: setattr(s["ordered"], "more", 1),
    "no attributes": lambda s: delattr(s["ordered"], "_metadata"),
    "a longer list": lambda s: s["list"].append(1),
    "a tuple": replace("list", tuple),
    "another type of key": lambda s: s.__setitem__("nested", {7.0: s["nested"][7]}),
    "another shape": replace("array", lambda a: a.reshape(3, 2)),
    "another dtype": replace("array", lambda a: a.astype(np.int32)),
    "other strides": replace("array", lambda a: a.T.copy().T),
    "a transposed tensor": lambda s: s["base"].t_(),
    "a tensor for an array": replace("array", torch.from_numpy),
    "a scalar for a tensor": put("base", 1),
    "a tensor for a scalar": put("scalar", torch.ones(2)),
    "no gradient": lambda s: s["parameter"].requires_grad_(False),
    "a tensor for a parameter": replace("parameter", lambda p: p.detach()),
    "aliases come apart": replace("row", lambda r: r.clone()),
    "aliases come about": lambda s: s.__setitem__(
        "parameter", torch.nn.Parameter(s["base"][0, :2])
    ),
    "moved into another": lambda s: setattr(s["parameter"], "data", s["base"][2, 2:]),
    "a negative view": replace("base", torch._neg_view),
    "a grown text": put("list", 3, "y" * LONG),
    "another long text": put("text", "y" * LONG),
    "many numbers": put("list", 3, list(range(200))),
    "an object": put("scalar", Holder(1)),
    "a deque": put("list", collections.deque([1])),
    "resized": lambda s: s["list"][0].resize_(4, 3),
}


@pytest.mark.parametrize("change", AGAIN)
def test_found_again(change):
    assert stage_twice(AGAIN[change]) == "again"


@pytest.mark.parametrize("change", WALKED)
def test_walked(change):
    assert stage_twice(WALKED[change]) in ("new", "same")


def test_an_order_that_the_table_does_not_have():
    ordered = collections.OrderedDict(a=torch.ones(2), b=1, c=torch.zeros(3), d=2)
    ordered.move_to_end("a")
    ordered.move_to_end("c", last=False)
    assert stage_twice(lambda s: s.update(b=3), state=ordered) == "again"


def test_a_storage_that_was_freed_is_refused():
    state = {"w": torch.ones(100), "v": torch.ones(3)}
    with Stager() as stager:
        stage(stager, state)
        state["w"].untyped_storage().resize_(0)
        with pytest.raises(Error, match=r"'w'.*without memory of its own"):
            stager.stage(state)
        state["w"].untyped_storage().resize_(400)
        state["w"].fill_(2)
        assert_same(stage(stager, state)[0], state)


LEFT_TO_WALKS = {
    "a deque": collections.deque([1]),
    "a named tuple": collections.namedtuple("Point", "x y")(1, 2),
    "a set": {1, 2},
    "numbers": list(range(200)),
    "a bytearray": bytearray(b"123"),
    "an object": threading.local,
    "a conjugate": torch.ones(2, dtype=torch.complex64).conj(),
    "six dimensions": torch.ones(1, 1, 1, 2, 1, 1),
    "a dict with a tuple for a key": {(1, 2): 3},
    "a default dict": collections.defaultdict(int, a=1),
    "a long text": "x" * 2**21,
}


@pytest.mark.parametrize("what", LEFT_TO_WALKS)
def test_what_only_a_walk_can_take_in(what):
    state = {"a": torch.ones(3), "what": LEFT_TO_WALKS[what], "n": 1}
    with Stager() as stager:
        for n in range(3):
            state["a"].fill_(n)
            got, _ = stage(stager, state)
            assert_same(got["a"], torch.full((3,), float(n)))
        if what != "an object":
            assert_same(got, {**state, "what": state["what"]})


def test_a_bytearray_is_read_again():
    state = {"b": bytearray(b"123"), "p": Path("a")}
    with Stager() as stager:
        for n in range(3):
            state["b"][0] = n
            state["p"] = Path(str(n))
            assert_same(stage(stager, state)[0], state)


def test_a_tensor_made_anew_each_time():
    """As random states are, and states that come from a device."""
    with Stager() as stager:
        kept = [torch.full((1000,), float(n)) for n in range(20)]
        for n in range(6):
            state = {"kept": kept, "rng": torch.get_rng_state(), "new": [k + n for k in kept]}
            torch.rand(1)
            expected = copy.deepcopy(state)
            got, plan = stage(stager, state)
            assert_same(got, expected)
            assert plan == ("again" if n > 0 else "new")


def test_two_tensors_that_change_places():
    a, b = torch.zeros(100), torch.ones(100)
    assert stage_twice(lambda s: s.update(a=b, b=a), state={"a": a, "b": b}) == "again"


def test_growing_scalars_leave_the_room_that_was_reserved():
    state = {"texts": [""] * 50, "w": torch.ones(3)}
    with Stager() as stager:
        plans = []
        for length in (0, 1, 30, 900, 1000):
            state["texts"] = [chr(97 + i % 26) * length for i in range(50)]
            got, plan = stage(stager, state)
            assert_same(got, state)
            plans.append(plan)
        assert plans[:3] == ["new", "again", "again"]
        assert "new" in plans[3:]


@st.composite
def runs(draw):
    """A state, and what is done to it before each stage."""
    state = draw(states())
    return (
        state,
        [draw(st.randoms(use_true_random=False)) for _ in range(4)],
        draw(st.lists(scalars, min_size=8, max_size=8)),
    )


def change_at_random(state, random, others):
    """One change somewhere: to bytes, scalars, tensors or containers."""
    containers, stack = [], [state]
    while stack:
        node = stack.pop()
        if isinstance(node, dict) and node:
            containers.append((node, list(node)))
            stack.extend(node.values())
        elif isinstance(node, list) and node:
            containers.append((node, list(range(len(node)))))
            stack.extend(node)
        elif isinstance(node, tuple):
            stack.extend(node)
    tensors = list(tensors_of(state))
    if tensors and random.random() < 0.3:
        flip(random.choice(tensors))
    if not containers:
        return
    node, places = random.choice(containers)
    place = random.choice(places)
    what = random.random()
    if what < 0.4:
        node[place] = random.choice(others)
    elif what < 0.6 and tensors:
        node[place] = random.choice(tensors)
    elif what < 0.8 and isinstance(node[place], torch.Tensor):
        node[place] = node[place].clone()
    elif what < 0.9:
        if isinstance(node, dict):
            node[random.randrange(5)] = 1
        else:
            node.append(1)


@settings(max_examples=150, deadline=None)
@given(runs())
def test_whatever_changes(run):
    state, randoms, others = run
    with Stager() as stager:
        stage(stager, state)
        for random in randoms:
            change_at_random(state, random, others)
            got, _ = stage(stager, state)
            with Stager() as other:
                expected, _ = stage(other, state)
            assert_same(got, expected)
            assert_aliases_alike(got, expected)
