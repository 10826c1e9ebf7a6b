"""Code that is not ours and looks at staged tensors while the walk still runs: it must see their
values. Each looks twice, for the second time into a buffer that holds older values."""

import collections
import copy
import functools
import operator

import numpy as np
import pytest
import torch
from staging import Holder, Plain, everywhere, stager_class  # noqa: F401


def total(t):
    return t.sum().item()


class LooksInDeepcopy(Holder):
    def __deepcopy__(self, memo):
        return total(copy.deepcopy(self.t, memo))


class LooksInSetstate(Holder):
    def __setstate__(self, state):
        self.seen = total(state["t"])


class LooksInInit:
    def __init__(self, t):
        self.t, self.seen = t, total(t)

    def __reduce__(self):
        return LooksInInit, (self.t,)


class LooksInNew(tuple):
    def __new__(cls, items):
        self = tuple.__new__(cls, items)
        self.seen = total(self[0])
        return self

    def __reduce__(self):
        return LooksInNew, (tuple(self),)


class LooksInNamedtuple(collections.namedtuple("Fields", "t n")):
    def __new__(cls, t, n):
        return super().__new__(cls, t, total(t))


class LooksInAppend(list):
    def append(self, item):
        super().append(total(item))


class LooksInSetitem(dict):
    def __setitem__(self, key, value):
        super().__setitem__(key, total(value))


class LooksInSetattr:
    __slots__ = ("seen", "t")

    def __init__(self, t):
        object.__setattr__(self, "t", t)

    def __setattr__(self, name, value):
        object.__setattr__(self, name, value)
        object.__setattr__(self, "seen", total(value))


class LooksInProperty:
    def __init__(self, t):
        self.t = t

    @property
    def t(self):
        return self._t

    @t.setter
    def t(self, t):
        self._t, self.seen = t, total(t)

    def __reduce__(self):
        return object.__new__, (LooksInProperty,), (None, {"t": self._t})


class LooksInUpdate(Holder):
    class Table(dict):
        def update(self, other):
            self["seen"] = total(other["t"])

    @property
    def __dict__(self):
        return self.table

    def __init__(self, **attributes):
        object.__setattr__(self, "table", self.Table(attributes))

    def __reduce__(self):
        return LooksInUpdate, (), dict(self.table)


class LooksInHash:
    def __init__(self, t):
        self.t = t

    def __hash__(self):
        return hash(total(self.t))

    def __eq__(self, other):
        return total(self.t) == total(other.t)


class Sums(torch.Tensor):
    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if isinstance(value, torch.Tensor):
            super().__setattr__("seen", total(value))


class Calls:
    """Copied by calling something."""

    def __init__(self, func, *args):
        self.parts = func, args

    def __reduce__(self):
        return self.parts


def make_set(t):
    x = {LooksInHash(t)}
    return x, lambda y: next(iter(y)) in y and LooksInHash(t) in y


def named(t):
    x = LooksInNamedtuple(t, 0)
    return x, lambda y: y.n == total(t)


def seen(x, t):
    return x, lambda y: y.seen == total(t)


CASES = {
    "__deepcopy__": lambda t: (LooksInDeepcopy(t=t), lambda y: y == total(t)),
    "__setstate__": lambda t: seen(LooksInSetstate(t=t), t),
    "__init__": lambda t: seen(LooksInInit(t), t),
    "__new__": lambda t: seen(LooksInNew((t,)), t),
    "namedtuple": named,
    "append": lambda t: (_filled(LooksInAppend, t), lambda y: y == [total(t)]),
    "__setitem__": lambda t: (_filled(LooksInSetitem, t), lambda y: y == {0: total(t)}),
    "__setattr__": lambda t: seen(LooksInSetattr(t), t),
    "property": lambda t: seen(LooksInProperty(t), t),
    "__dict__": lambda t: (LooksInUpdate(t=t), lambda y: y.table["seen"] == total(t)),
    "attributes of a tensor": lambda t: seen(_with_attribute(t), t),
    "key of a dict": lambda t: ({LooksInHash(t): 1}, lambda y: LooksInHash(t) in y),
    "key of an OrderedDict": lambda t: (
        collections.OrderedDict({LooksInHash(t): 1}),
        lambda y: LooksInHash(t) in y,
    ),
    "key of a defaultdict": lambda t: (
        collections.defaultdict(int, {LooksInHash(t): 1}),
        lambda y: LooksInHash(t) in y,
    ),
    "item of a set": make_set,
    "item of a frozenset": lambda t: (frozenset([LooksInHash(t)]), lambda y: LooksInHash(t) in y),
    "items of an array": lambda t: (
        np.array([LooksInDeepcopy(t=t), None]),
        lambda y: y[0] == total(t),
    ),
    "partial": lambda t: (Calls(functools.partial(total), t), lambda y: y == total(t)),
    # Written in C, and looks all the same.
    "neg": lambda t: (Calls(operator.neg, t), lambda y: y.tolist() == (-t).tolist()),
    "torch.add": lambda t: (Calls(torch.add, t, 1), lambda y: y.tolist() == (t + 1).tolist()),
    "torch.stack": lambda t: (Calls(torch.stack, [t, t]), lambda y: total(y) == 2 * total(t)),
    "float": lambda t: (Calls(float, t[0]), lambda y: y == t[0].item()),
    "np.array": lambda t: (Calls(np.array, t), lambda y: y.tolist() == t.tolist()),
    "list": lambda t: (Calls(list, t), lambda y: [e.item() for e in y] == t.tolist()),
    "reduce": lambda t: (Calls(functools.reduce, _add, [t], 0), lambda y: y == total(t)),
    "max": lambda t: (Calls(max, [t[0], t[1]]), lambda y: y.item() == t[1].item()),
}


def _add(n, t):
    return n + total(t)


def _filled(cls, t):
    x = cls()
    list.append(x, t) if isinstance(x, list) else dict.__setitem__(x, 0, t)
    return x


def _with_attribute(t):
    x = torch.ones(2).as_subclass(Sums)
    x.other = t
    return x


@everywhere
@pytest.mark.parametrize("name", CASES)
def test_who_looks_sees_the_values(Stager, name):
    stager, t = Stager(), torch.arange(1.0, 9.0)
    for n in range(3):
        t.mul_(n + 2)
        x, is_right = CASES[name](t)
        assert is_right(stager.stage([x])[0]), f"call {n}: alone"
        t.mul_(n + 2)
        x, is_right = CASES[name](t)
        staged = stager.stage({"before": t, "x": x, "after": [t[1:]]})
        assert is_right(staged["x"]), f"call {n}: after it was staged"
        assert total(staged["before"]) == total(t) and total(staged["after"][0]) == total(t[1:])


@everywhere
def test_an_object_that_others_know_already(Stager):
    known = []

    class Registered:
        def __new__(cls):
            known.append(object.__new__(cls))
            return known[-1]

        def __reduce__(self):
            return Registered, (), vars(self)

    class Looks:
        def __reduce__(self):
            return self.look, ()

        @staticmethod
        def look():
            return total(known[-1].t)

    stager, x = Stager(), Registered()
    x.t = torch.ones(5)
    for n in range(3):
        x.t.fill_(n + 1)
        assert stager.stage([x, Looks()])[1] == 5 * (n + 1)


@everywhere
def test_changes_made_by_the_walk_itself(Stager):
    """What was met before has the values of then or of the end, and never others."""

    class Changes(Holder):
        def __reduce__(self):
            self.t.add_(1)
            return "Changes"

    t = torch.ones(1000)
    y = Stager().stage([t, Changes(t=t)])[0]
    assert total(y) in (1000, 2000)


def test_a_storage_that_the_walk_frees(run_python):
    run_python("""
        import torch
        from understudy.torch import StateDictStager

        class Frees:
            def __reduce__(self):
                t.untyped_storage().resize_(0)
                return "Frees"

        t = torch.ones(1 << 22)
        try:
            staged = StateDictStager().stage([t, Frees()])
        except Exception as e:
            print(e)
        else:
            assert staged[0].sum() == 1 << 22
    """)
