"""Targets that share memory take what fits all of them, or nothing at all."""

import numpy as np
import pytest
import torch

from understudy import Checkpointer, Error


def ones(n, x=1.0):
    return torch.full((n,), x)


def expanded():
    return {"a": torch.zeros(1).expand(4)}


def broadcast():
    array = np.broadcast_to(np.zeros(1, dtype=np.float32), (4,))
    array.flags.writeable = True
    return {"a": array}


def strided():
    return {"a": torch.zeros(5).as_strided((2, 3), (1, 1))}


def tied():
    w = torch.zeros(4)
    return {"a": w, "more": {"b": w}}


def slices():
    w = torch.zeros(6)
    return {"a": w[:4], "b": w[2:]}


def backwards():
    w = np.zeros(4, dtype=np.float32)
    return {"a": w, "b": w[::-1]}


def other_type():
    w = torch.zeros(4)
    return {"a": w, "b": w.view(torch.int32)}


class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = torch.nn.Linear(2, 2, bias=False)
        self.b = torch.nn.Linear(2, 2, bias=False)
        self.b.weight = self.a.weight


class Untied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = torch.nn.Linear(2, 2, bias=False)
        self.b = torch.nn.Linear(2, 2, bias=False)


def tied_module():
    return {"m": Tied()}


def module_and_tensor():
    m = Untied()
    return {"m": m, "w": m.a.weight}


CONFLICTS = {
    expanded: ({"a": torch.arange(4.0)}, "'a' has elements that share memory here"),
    strided: ({"a": torch.arange(6.0).view(2, 3)}, "'a' has elements that share memory"),
    tied: ({"a": ones(4), "more": {"b": ones(4, 2.0)}}, "'a' and 'more.b' share memory here"),
    slices: ({"a": ones(4), "b": ones(4, 2.0)}, "'a' and 'b' share memory here"),
    backwards: (
        {"a": np.arange(4, dtype=np.float32), "b": np.arange(4, dtype=np.float32)},
        "'a' and 'b' share memory here",
    ),
    other_type: ({"a": ones(4), "b": ones(4, 2).int()}, "'a' and 'b' share memory here"),
    tied_module: ({"m": Untied()}, "'m.a.weight' and 'm.b.weight' share memory here"),
    module_and_tensor: ({"m": Untied(), "w": torch.ones(2, 2)}, "'m.a.weight' and 'w'|'w' and"),
}


def bytes_of(target):
    leaves = [x for v in target.values() for x in (v.values() if isinstance(v, dict) else [v])]
    leaves = [
        y for x in leaves for y in (x.parameters() if isinstance(x, torch.nn.Module) else [x])
    ]
    return [
        x.tobytes() if isinstance(x, np.ndarray) else x.detach().clone().numpy().tobytes()
        for x in leaves
    ]


@pytest.mark.parametrize("make", CONFLICTS, ids=lambda f: f.__name__)
def test_different_values_for_shared_memory_are_a_misfit(make, tmp_path):
    saved, message = CONFLICTS[make]
    target = make()
    other = torch.zeros(3)
    before = bytes_of(target)
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, {"other": ones(3), **saved}).wait()
        with pytest.raises(Error, match=message) as e:
            ckpt.resume({"other": other, **target})
    assert e.value.code == "invalid" and "nothing was changed" in str(e.value)
    assert bytes_of(target) == before and not other.any()


FINE = {
    expanded: [expanded, lambda: {"a": torch.ones(4)}],
    strided: [strided, lambda: {"a": torch.tensor([[1.0, 2, 3], [2, 3, 4]])}],
    tied: [tied, lambda: {"a": ones(4, 3.0), "more": {"b": ones(4, 3.0)}}],
    slices: [
        slices,
        lambda: {"a": torch.arange(4.0), "b": torch.arange(2.0, 6.0)},
        lambda: {"a": torch.tensor([1, 2, torch.nan, 4]), "b": torch.tensor([torch.nan, 4, 5, 6])},
    ],
    backwards: [backwards],
    tied_module: [tied_module],
    module_and_tensor: [module_and_tensor],
}


@pytest.mark.parametrize(
    ("make", "saved"),
    [(make, saved) for make, all_saved in FINE.items() for saved in all_saved],
    ids=lambda f: f.__name__,
)
def test_equal_values_are_fine(make, saved, tmp_path):
    target, state = make(), saved()
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, state).wait()
        ckpt.resume(target)
    assert bytes_of(target) == bytes_of(state)
