"""Modules and optimizers: what is compared, and who decides for itself."""

import copy
import logging

import pytest
import torch
from same import assert_same
from torch import nn

from understudy import Checkpointer, Error


def save_and_resume(tmp_path, saved, target):
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, saved).wait()
        ckpt.resume(target)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_module_of_another_dtype_is_refused(dtype, tmp_path):
    target = nn.Linear(2, 2).to(dtype)
    before = copy.deepcopy(target.state_dict())
    with pytest.raises(Error, match=r"'weight' is b?float\d\d here, but was saved as float32"):
        save_and_resume(tmp_path, {"m": nn.Linear(2, 2)}, {"m": target})
    assert_same(target.state_dict(), before)


class Scale(nn.Module):
    """A quantiser whose scale gets its size from what it loads."""

    def __init__(self, n):
        super().__init__()
        self.register_buffer("scale", torch.full((n,), float(n)))
        self.inner = nn.Linear(2, 2)

    def _load_from_state_dict(self, state, prefix, *args):
        self.scale = torch.empty_like(state[prefix + "scale"])
        super()._load_from_state_dict(state, prefix, *args)


class Stripping(nn.Linear):
    """A wrapper whose names differ from those it loads."""

    def load_state_dict(self, state, *args, **kwargs):
        state = {k.removeprefix("old."): v for k, v in state.items()}
        return super().load_state_dict(state, *args, **kwargs)


def renaming(n):
    module = nn.Linear(n, n)

    def rename(owner, state, prefix, *args):
        if prefix + "old_weight" in state:
            state[prefix + "weight"] = state.pop(prefix + "old_weight")
        state.pop(prefix + "unused", None)

    module.register_load_state_dict_pre_hook(rename)
    return module


def test_modules_with_overrides_decide_for_themselves(tmp_path):
    saved = nn.Sequential(nn.Linear(2, 2), Scale(4))
    target = nn.Sequential(nn.Linear(2, 2), Scale(1))
    save_and_resume(tmp_path, {"m": saved}, {"m": target})
    assert_same(target.state_dict(), saved.state_dict())


def test_modules_with_hooks_decide_for_themselves(tmp_path):
    saved = {"0.old_weight": torch.ones(2, 2), "0.bias": torch.ones(2), "0.unused": torch.ones(1)}
    target = nn.Sequential(renaming(2))
    save_and_resume(tmp_path, {"m": saved}, {"m": target})
    assert torch.equal(target[0].weight, torch.ones(2, 2))


def test_a_wrapper_decides_for_itself(tmp_path):
    source = nn.Linear(2, 2)
    saved = {f"old.{name}": tensor for name, tensor in source.state_dict().items()}
    target = Stripping(2, 2)
    save_and_resume(tmp_path, {"m": saved}, {"m": target})
    assert_same(target.state_dict(), source.state_dict())


def test_a_lazy_module(tmp_path):
    source, target = nn.Sequential(nn.Linear(3, 2)), nn.Sequential(nn.LazyLinear(2))
    save_and_resume(tmp_path, {"m": source}, {"m": target})
    assert_same(target.state_dict(), source.state_dict())


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_the_old_weight_norm_into_the_new_one(tmp_path):
    source = nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 2)))
    target = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)))
    save_and_resume(tmp_path, {"m": source}, {"m": target})
    x = torch.randn(1, 3)
    assert torch.equal(source(x), target(x))


def old_batch_norm(source):
    state = source.state_dict()
    del state["1.num_batches_tracked"]
    state._metadata["1"]["version"] = 1
    return state


def test_a_batch_norm_of_version_1(tmp_path):
    source, target = (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)) for _ in range(2))
    target[1].num_batches_tracked += 5
    save_and_resume(tmp_path, {"m": old_batch_norm(source)}, {"m": target})
    assert torch.equal(target[0].weight, source[0].weight)


def test_the_rest_of_a_batch_norm_is_still_compared(tmp_path):
    source, target = nn.BatchNorm1d(2), nn.BatchNorm1d(3)
    with pytest.raises(Error, match=r"shape \[3\] here, but was saved with \[2\]"):
        save_and_resume(tmp_path, {"m": source}, {"m": target})
    state = source.state_dict()
    del state["num_batches_tracked"]  # of version 2, so that torch would stop half-way
    with pytest.raises(Error, match="lacks 'num_batches_tracked'"):
        save_and_resume(tmp_path / "2", {"m": state}, {"m": nn.BatchNorm1d(2)})


def test_beside_those_who_decide_all_is_compared(tmp_path):
    saved = nn.Sequential(nn.Linear(2, 2), Scale(4))
    target = nn.Sequential(nn.Linear(3, 2), Scale(1))
    with pytest.raises(Error, match=r"'0\.weight' has shape"):
        save_and_resume(tmp_path, {"m": saved}, {"m": target})
    assert target[1].scale.shape == (1,)


def stepped(make, *shapes):
    parameters = [nn.Parameter(torch.ones(shape)) for shape in shapes]
    optimizer = make(parameters)
    for p in parameters:
        p.grad = torch.ones_like(p)
    optimizer.step()
    return optimizer


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.1)


def momentum(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


@pytest.mark.parametrize("make", [adam, momentum, torch.optim.Adagrad, torch.optim.Rprop])
def test_states_of_other_parameters_are_refused(make, tmp_path):
    saved, target = stepped(make, (3, 2), (2,)), stepped(make, (2,), (3, 2))
    before = copy.deepcopy(target.state_dict())
    with pytest.raises(Error, match=r"'\w+' of parameter 0 was saved with shape \[3, 2\]"):
        save_and_resume(tmp_path, {"o": saved}, {"o": target})
    assert_same(target.state_dict(), before)


def test_states_of_another_dtype_are_refused(tmp_path):
    saved = stepped(adam, (2,))
    target = adam([nn.Parameter(torch.ones(2, dtype=torch.bfloat16))])
    with pytest.raises(Error, match="was saved as float32, but the parameter is bfloat16"):
        save_and_resume(tmp_path, {"o": saved}, {"o": target})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", [n for n in dir(torch.optim) if n[0].isupper()])
def test_every_optimizer_takes_its_own_state(name, dtype, tmp_path):
    kind = getattr(torch.optim, name)
    if kind is torch.optim.Optimizer or not issubclass(kind, torch.optim.Optimizer):
        pytest.skip("no optimizer")
    if name in ("SparseAdam", "LBFGS", "Muon", "Adafactor") and dtype != torch.float64:
        pytest.skip("not for this dtype, or only for sparse gradients")

    def make():
        parameters = [nn.Parameter(torch.ones(3, 2, dtype=dtype))]
        optimizer = kind(parameters, lr=0.1)
        for p in parameters:
            p.grad = torch.ones_like(p).to_sparse() if name == "SparseAdam" else torch.ones_like(p)
        optimizer.step(lambda: torch.ones((), dtype=dtype))
        return optimizer

    saved, target = make(), make()
    save_and_resume(tmp_path, {"o": saved}, {"o": target})
    reference = make()
    reference.load_state_dict(copy.deepcopy(saved.state_dict()))
    assert_same(target.state_dict(), reference.state_dict())


class Thing:
    def __init__(self, fails=False):
        self.x, self.fails = 0, fails

    def state_dict(self):
        return {"x": self.x}

    def load_state_dict(self, state):
        if self.fails:
            raise KeyError("no")
        self.x = state["x"]


def test_what_loading_raises_says_that_the_state_is_no_longer_whole(tmp_path, caplog):
    saved = {"a": Thing(), "b": Thing(), "w": torch.ones(1)}
    saved["a"].x = 5
    target = {"a": Thing(), "b": Thing(fails=True), "w": torch.zeros(1)}
    with caplog.at_level(logging.ERROR, "understudy"), pytest.raises(KeyError) as e:
        save_and_resume(tmp_path, saved, target)
    told = "".join(getattr(e.value, "__notes__", [])) + caplog.text
    assert "overwritten in part: it must not be used" in told
