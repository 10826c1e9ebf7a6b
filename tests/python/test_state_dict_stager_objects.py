"""The kinds of objects and containers that a state is made of (rules 2 to 4)."""

import collections
import dataclasses
import enum
import types
import weakref

import pytest
import torch
from same import assert_same
from staging import (
    Holder,
    both,
    everywhere,
    stager_class,  # noqa: F401
)


def function():
    pass


class Meta(type):
    pass


class Made(metaclass=Meta):
    pass


class Colour(enum.Enum):
    RED = 1


class Size(enum.IntFlag):
    BIG = 4


Point = collections.namedtuple("Point", "x y")


@dataclasses.dataclass
class Data:
    t: torch.Tensor
    items: list


@dataclasses.dataclass(frozen=True)
class Frozen:
    t: torch.Tensor
    name: str


@dataclasses.dataclass(slots=True)
class WithSlots:
    t: torch.Tensor
    n: int = 3


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSlots:
    t: torch.Tensor


@both
def test_atoms_are_returned_as_they_are(Stager):  # rule 2
    held = Holder()
    atoms = [
        None, 10**50, 1.5, True, 1j, b"bytes" * 9, "text" * 9, function.__code__, int, Made, Meta,
        range(3), len, [].append, function, weakref.ref(held), property(function), ...,
        NotImplemented, torch.float32, torch.device("cpu"), torch.strided, Colour.RED, Size.BIG,
    ]  # fmt: skip
    staged = Stager().stage(list(atoms))
    for atom, result in zip(atoms, staged, strict=True):
        assert result is atom or (type(atom) is torch.device and result == atom), atom


class Owner:
    def __init__(self, t):
        self.t = t

    def total(self):
        return self.t.sum().item()


@everywhere
def test_a_method_gets_a_staged_owner(Stager):  # rule 3
    owner = Owner(torch.ones(4))
    staged = Stager().stage({"owner": owner, "method": owner.total})
    owner.t.zero_()
    assert staged["method"]() == 4
    assert staged["method"].__self__ is staged["owner"]


@everywhere
@pytest.mark.parametrize(
    "make",
    [
        lambda t: {"b": t, "a": 1, 3: [t]},
        lambda t: collections.OrderedDict(b=t, a=1),
        lambda t: collections.defaultdict(list, {"b": [t], "a": []}),
        lambda t: collections.Counter("banana"),
        lambda t: collections.deque([1, t, 2], maxlen=5),
        lambda t: types.SimpleNamespace(z=t, a=[t]),
        lambda t: {1, "a", (2, 3)},
        lambda t: frozenset({1, "a"}),
        lambda t: bytearray(b"abc"),
        lambda t: Point(t, Point(1, [t])),
        lambda t: (t, [t]),
        lambda t: torch.Size([1, 2]),
        lambda t: slice(1, 2),
    ],
)
def test_containers_keep_type_and_order(Stager, make):  # rule 4
    state = make(torch.arange(5.0))
    staged = Stager().stage(state)
    assert_same(state, staged)
    if not isinstance(state, (tuple, frozenset, slice)):
        assert staged is not state


@everywhere
@pytest.mark.parametrize("cls", [Data, Frozen, WithSlots, FrozenSlots])
def test_dataclasses(Stager, cls):  # rule 4
    fields = {"t": torch.ones(3), "items": [1], "name": "x", "n": 7}
    source = cls(**{f.name: fields[f.name] for f in dataclasses.fields(cls)})
    staged = Stager().stage({"d": source})["d"]
    source.t.zero_()
    assert type(staged) is cls and staged is not source
    assert staged.t.tolist() == [1, 1, 1]
    for f in dataclasses.fields(cls)[1:]:
        assert getattr(staged, f.name) == getattr(source, f.name)


@both
def test_a_module_s_state_dict_keeps_its_metadata(Stager):  # rule 4
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    state = model.state_dict()
    staged = Stager().stage(state)
    assert_same(state, staged)
    assert staged._metadata == state._metadata and staged._metadata is not state._metadata
    model.load_state_dict(staged)


@both
def test_a_model_with_its_optimizer(Stager):
    model = torch.nn.Linear(3, 4)
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    state = {"opt": optimizer.state_dict(), "sched": schedule.state_dict(), "model": model}
    staged = Stager().stage(state)
    assert_same(state["opt"], staged["opt"])
    assert_same(state["sched"], staged["sched"])
    assert_same(model.state_dict(), staged["model"].state_dict())


@both
def test_only_what_changed_is_new(Stager):  # rule 4
    same, changed = (1, ("a", range(2))), (1, [])
    state = {"same": same, "changed": changed, "empty": (), "list": [], "dict": {}}
    staged = Stager().stage(state)
    assert staged["same"] is same and staged["empty"] is state["empty"]
    for name in ("changed", "list", "dict"):
        assert staged[name] is not state[name] and staged[name] == state[name]
