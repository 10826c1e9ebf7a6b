"""Resume: into the caller's own tensors and objects, or not at all."""

import argparse
import collections
import copy
import types
import typing

import numpy as np
import pytest
import torch
from same import assert_same, bits

from understudy import Checkpointer, Error


class Pair(typing.NamedTuple):
    a: object
    b: object


class Recorder:
    """Any object with the two methods."""

    def __init__(self, state):
        self.state = state
        self.loaded = 0

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state
        self.loaded += 1


def make_training(seed: int = 0) -> dict:
    torch.manual_seed(seed)
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1)
    )
    optimizer = torch.optim.AdamW(
        [{"params": model[0].parameters(), "weight_decay": 0.1}, {"params": model[3].parameters()}],
        lr=0.01,
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "losses": [], "step": 0}


def train(app: dict, steps: int) -> None:
    for _ in range(steps):
        x = torch.randn(16, 4)
        loss = (app["model"](x) - x.sum(1, keepdim=True)).square().mean()
        app["optimizer"].zero_grad()
        loss.backward()
        app["optimizer"].step()
        app["scheduler"].step()
        app["losses"].append(float(loss.detach()))
        app["step"] += 1


def test_training_goes_on_to_the_last_bit(tmp_path):
    import understudy

    straight = make_training()
    straight["rng"] = understudy.torch.RngState()
    train(straight, 5)
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(5, straight)
    train(straight, 5)

    resumed = make_training(seed=123)
    resumed["rng"] = understudy.torch.RngState()
    weights = [p.data_ptr() for p in resumed["model"].parameters()]
    with Checkpointer(tmp_path) as ckpt:
        assert ckpt.resume(resumed) == 5
    assert resumed["step"] == 5 and len(resumed["losses"]) == 5
    assert [p.data_ptr() for p in resumed["model"].parameters()] == weights, "in place"
    train(resumed, 5)
    assert_same(resumed["model"].state_dict(), straight["model"].state_dict())
    assert_same(resumed["optimizer"].state_dict(), straight["optimizer"].state_dict())
    assert_same(resumed["losses"], straight["losses"])
    assert_same(resumed["scheduler"].state_dict(), straight["scheduler"].state_dict())


def containers(x: float) -> dict:
    return {
        "dict": {"a": x, 1: {"deep": x}},
        "list": [x, [x, "s"]],
        "tuple": (x, (1, [x])),
        "pair": Pair(x, [x]),
        "ordered": collections.OrderedDict(a=x),
        "default": collections.defaultdict(list, a=[x]),
        "counter": collections.Counter(a=int(x)),
        "deque": collections.deque([x], maxlen=4),
        "set": {x, 2 * x},
        "frozen": frozenset([x]),
        "namespace": types.SimpleNamespace(a=x, b=[x]),
        "arguments": argparse.Namespace(lr=x),
        "slice": slice(int(x)),
        "bytes": bytes([int(x)]),
        "array": bytearray([int(x)]),
        "big": 2**70 + int(x),
        "complex": complex(x, x),
        "scalar": np.float32(x),
        "tensors": [torch.full((3,), x), np.full(2, x)],
        "mixed": (torch.full((2,), x), x),
    }


def test_restored_scalars_go_into_the_callers_containers(tmp_path):
    saved, target = containers(3.0), containers(1.0)
    inner = {name: target[name] for name in target}
    deep = target["dict"][1]
    tensor, array = target["tensors"]
    mixed = target["mixed"][0]
    tuple_list = target["tuple"][1][1]
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, saved).wait()
        assert ckpt.resume(target) == 1
    for name in ("dict", "list", "ordered", "default", "counter", "deque", "set", "namespace"):
        assert target[name] is inner[name], f"{name} is the caller's own"
    assert target["dict"][1] is deep
    assert target["tensors"][0] is tensor and target["tensors"][1] is array
    assert target["mixed"][0] is mixed and target["tuple"][1][1] is tuple_list
    assert type(target["pair"]) is Pair
    assert_same(target, containers(3.0))


def test_what_did_not_change_stays_the_same_object(tmp_path):
    state = {"t": (1, "a", (2,)), "name": "x" * 50}
    before = dict(state)
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, copy.deepcopy(state)).wait()
        ckpt.resume(state)
    assert state["t"] is before["t"] and state["name"] is before["name"]


@pytest.mark.parametrize("make", [lambda x: [x, {"a": x}], lambda x: {"a": x}])
def test_the_top_may_be_a_list_or_a_dict(make, tmp_path):
    target = make(torch.zeros(2))
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, make(torch.ones(2))).wait()
        ckpt.resume(target)
    assert_same(target, make(torch.ones(2)))


def test_the_top_may_be_an_object(tmp_path):
    model, target = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, model).wait()
        ckpt.resume(target)
    assert_same(target.state_dict(), model.state_dict())


@pytest.mark.parametrize("top", [(1, 2), 3, None, torch.ones(1), {1}, "text"])
def test_the_top_must_be_something_to_write_into(top, tmp_path):
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, {"a": 1}).wait()
        with pytest.raises(Error, match="resume needs") as e:
            ckpt.resume(top)
        assert e.value.code == "invalid"


MISFITS = {
    "missing": ({"a": 1, "w": torch.zeros(2)}, r"'wrong\.w'"),
    "unexpected": ({"w": torch.zeros(2)}, r"'wrong\.a' is in the checkpoint"),
    "shape": ({"a": torch.zeros(3)}, r"\[3\].*\[2\]"),
    "dtype": ({"a": torch.zeros(2).double()}, "float64.*float32"),
    "type": ({"a": "text"}, r"'wrong\.a'"),
    "deeper": ({"a": {"b": 1}}, r"'wrong\.a'"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_what_does_not_fit_changes_nothing(name, tmp_path):
    wrong, message = MISFITS[name]
    wrong = copy.deepcopy(wrong)
    recorder, good = Recorder({"x": 1}), torch.zeros(4)
    target = {"first": recorder, "good": good, "n": 1, "wrong": wrong}
    with Checkpointer(tmp_path) as ckpt:
        saved = {"first": Recorder({"x": 2}), "good": torch.ones(4), "n": 2}
        ckpt.save(1, saved | {"wrong": {"a": torch.ones(2)}}).wait()
        with pytest.raises(Error, match=message) as e:
            ckpt.resume(target)
        assert e.value.code == "invalid"
        assert ckpt.resumed is None
    assert recorder.loaded == 0 and recorder.state == {"x": 1}
    assert_same(
        {k: target[k] for k in ("good", "n", "wrong")},
        {"good": torch.zeros(4), "n": 1, "wrong": MISFITS[name][0]},
    )


def grow(app):
    app["model"] = torch.nn.Sequential(*app["model"], torch.nn.Linear(1, 1))


def shrink(app):
    app["model"] = app["model"][:2]


def widen(app):
    app["model"][3] = torch.nn.Linear(8, 2)


def more_groups(app):
    app["optimizer"].add_param_group({"params": [torch.nn.Parameter(torch.ones(1))]})


def other_group(app):
    app["optimizer"] = torch.optim.AdamW(
        [{"params": [app["model"][0].weight]}, {"params": app["model"][3].parameters()}]
    )


@pytest.mark.parametrize("change", [grow, shrink, widen, more_groups, other_group])
def test_modules_and_optimizers_are_asked_first(change, tmp_path):
    saved = make_training()
    train(saved, 2)
    target = make_training(seed=1)
    train(target, 1)
    change(target)
    before = copy.deepcopy(target["model"].state_dict())
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(2, saved).wait()
        with pytest.raises(Error, match=r"'(model|optimizer)'") as e:
            ckpt.resume(target)
    assert e.value.code == "invalid"
    assert_same(target["model"].state_dict(), before)
    assert target["step"] == 1


def test_what_loading_raises_comes_through(tmp_path):
    class Boom(Exception):
        pass

    class Stubborn(Recorder):
        def load_state_dict(self, state):
            raise Boom("no")

    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, {"o": {"p": Stubborn({"x": 1})}}).wait()
        with pytest.raises(Boom) as e:
            ckpt.resume({"o": {"p": Stubborn({})}})
    assert "'o.p'" in "".join(getattr(e.value, "__notes__", ["'o.p'"]))


def test_objects_may_keep_what_they_are_given(tmp_path):
    target = Recorder(None)
    with Checkpointer(tmp_path) as ckpt:
        for step in (1, 2):
            ckpt.save(step, {"o": Recorder({"t": torch.full((9,), float(step)), "n": step})}).wait()
        ckpt.resume({"o": target}, step=1)
        first = target.state["t"]
        ckpt.resume({"o": target}, step=2)
    assert target.loaded == 2 and target.state["n"] == 2
    assert torch.equal(first, torch.full((9,), 1.0)), "the image was reused, the tensor was not"


def test_aliases_in_the_target(tmp_path):
    base = torch.zeros(6)
    target = {"all": base, "part": base[2:4], "array": base.numpy()[4:]}
    with Checkpointer(tmp_path) as ckpt:
        values = torch.arange(6.0)
        ckpt.save(1, {"all": values, "part": values[2:4], "array": values.numpy()[4:]}).wait()
        ckpt.resume(target)
    assert torch.equal(base, torch.arange(6.0))


@pytest.mark.parametrize(
    "make",
    [
        lambda t: t.t(),
        lambda t: t[::2],
        lambda t: t[:, 1:3],
        lambda t: t.conj(),
        lambda t: t.conj().imag,
        lambda t: torch._neg_view(t),
    ],
    ids=["transposed", "rows", "columns", "conjugate", "imaginary", "negative"],
)
def test_views_in_the_target(make, tmp_path):
    values = torch.randn(4, 4, dtype=torch.complex64)
    base = torch.zeros(4, 4, dtype=torch.complex64)
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, {"v": make(values)}).wait()
        ckpt.resume({"v": make(base)})
    assert bits(make(base)) == bits(make(values))


def test_a_field_of_records_in_the_target(tmp_path):
    records = np.zeros(3, dtype=[("a", "u1"), ("b", "<f8")])
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, {"b": np.arange(3.0)}).wait()
        ckpt.resume({"b": records["b"]})
    assert records["b"].tolist() == [0, 1, 2] and records["a"].tolist() == [0, 0, 0]


def test_read_only_arrays_are_refused(tmp_path):
    array = np.zeros(3)
    array.flags.writeable = False
    other = np.zeros(2)
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, {"o": np.ones(2), "a": np.ones(3)}).wait()
        with pytest.raises(Error, match="'a' is read-only") as e:
            ckpt.resume({"o": other, "a": array})
    assert e.value.code == "invalid"
    assert other.sum() == 0


def test_autograd_notices(tmp_path):
    weight = torch.ones(3, requires_grad=True)
    other = torch.ones(3, requires_grad=True)
    loss = (weight * other).sum()  # keeps both for the backward pass
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, {"w": torch.zeros(3)}).wait()
        ckpt.resume({"w": weight})
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_parameters_and_inference_tensors(tmp_path):
    with torch.inference_mode():
        frozen = torch.zeros(2)
    parameter = torch.nn.Parameter(torch.zeros(2))
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, {"p": torch.nn.Parameter(torch.ones(2)), "f": torch.ones(2)}).wait()
        ckpt.resume({"p": parameter, "f": frozen})
    assert parameter.sum() == 2 and frozen.sum() == 2 and parameter.requires_grad


def test_pickled_objects_are_replaced(tmp_path):
    with Checkpointer(tmp_path, allow_pickle=True) as ckpt:
        ckpt.save(1, {"o": [complex, {"a": complex}], "w": torch.ones(1)}).wait()
        target = {"o": [float, {"a": float}], "w": torch.zeros(1)}
        ckpt.resume(target)
    assert target == {"o": [complex, {"a": complex}], "w": torch.ones(1)}


def test_a_list_of_numbers_takes_its_saved_length(tmp_path):
    history, empty = [1.0], []
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, {"h": [1.0, 2.0, 3.0], "e": [{"loss": 1}], "n": None}).wait()
        target = {"h": history, "e": empty, "n": None}
        ckpt.resume(target)
    assert target["h"] is history and history == [1.0, 2.0, 3.0] and empty == [{"loss": 1}]


@pytest.mark.parametrize("on_damage", ["ignore", ""])
def test_on_damage_lists_its_choices(on_damage, tmp_path):
    with Checkpointer(tmp_path) as ckpt, pytest.raises(Error, match="'error', 'previous'"):
        ckpt.resume({}, on_damage=on_damage)


def test_resume_an_older_step(tmp_path):
    with Checkpointer(tmp_path) as ckpt:
        for step in (1, 2):
            ckpt.save(step, {"n": step}).wait()
        target = {"n": 0}
        assert ckpt.resume(target, step=1) == 1
        assert target == {"n": 1} and ckpt.resumed.step == 1 and ckpt.resumed.skipped == []
        assert "step=1" in repr(ckpt.resumed)
