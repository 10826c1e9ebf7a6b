"""A leaf that cannot be built here is found before anything changes."""

import numpy as np
import pytest
import torch

from understudy import Checkpointer, Error


class Thing:
    def __init__(self, part):
        self.part = part
        self.loaded = 0

    def state_dict(self):
        return self.part

    def load_state_dict(self, part):
        self.part = part
        self.loaded += 1


def refuse(error):
    def call(*args, **kwargs):
        raise error

    return call


# As NumPy answers to what a file may say, and which code tells of it.
ANSWERS = {
    "a value that it refuses": (refuse(ValueError("buffer size")), "corrupt", "buffer size"),
    "a type that it refuses": (refuse(TypeError("dtype")), "corrupt", "dtype"),
    "what it lacks": (refuse(RuntimeError("not built in")), "unsupported", "not built in"),
    "an exception of another kind": (refuse(LookupError("?")), "corrupt", "cannot be built"),
    "no memory": (refuse(MemoryError()), "no_space", "no memory"),
    "two elements": (lambda *a, **k: np.zeros(2, np.float32), "corrupt", "has 4 bytes"),
    "none": (lambda *a, **k: np.zeros(0, np.float32), "corrupt", "has 4 bytes"),
}


@pytest.fixture
def ckpt(tmp_path):
    with Checkpointer(tmp_path) as ckpt:
        scalar = np.float32(2.0)
        things = {"first": Thing({"x": 2}), "second": Thing({"deep": [0, scalar]})}
        ckpt.save(1, {**things, "w": torch.ones(2), "n": 2, "list": [1, 2], "s": {"x": [scalar]}})
        ckpt.save(2, {"w": torch.ones(2), "n": 2, "list": [1, 2], "s": {"x": [scalar]}})
        ckpt.wait()
        yield ckpt


@pytest.mark.parametrize("answer", ANSWERS)
def test_among_plain_data(answer, ckpt, monkeypatch):
    call, code, message = ANSWERS[answer]
    target = {"w": torch.zeros(2), "n": 0, "list": [], "s": {"x": [np.float32(0)]}}
    monkeypatch.setattr(np, "frombuffer", call)
    with pytest.raises(Error, match=message) as e:
        ckpt.resume(target)
    monkeypatch.undo()
    assert e.value.code == code and "'s.x.0'" in str(e.value)
    assert not target["w"].any() and target["n"] == 0 and target["list"] == []
    assert ckpt.resumed is None
    assert ckpt.resume(target) == 2 and target["s"]["x"] == [2.0]


@pytest.mark.parametrize("answer", ANSWERS)
def test_in_the_part_of_an_object(answer, ckpt, monkeypatch):
    call, code, message = ANSWERS[answer]
    first, second = Thing({"x": 0}), Thing({})
    target = {"first": first, "second": second, "w": torch.zeros(2), "n": 0, "list": [], "s": None}
    monkeypatch.setattr(np, "frombuffer", call)
    with pytest.raises(Error, match=message) as e:
        ckpt.resume(target, step=1)
    monkeypatch.undo()
    assert e.value.code == code
    assert "at 'second'" in str(e.value) and "'deep.1'" in str(e.value)
    assert first.loaded == second.loaded == 0
    assert not target["w"].any() and target["n"] == 0
    assert ckpt.resume(target, step=1) == 1 and first.part == {"x": 2}


def test_an_interrupt_comes_through(ckpt, monkeypatch):
    target = {"w": torch.zeros(2), "n": 0, "list": [], "s": {"x": [np.float32(0)]}}
    monkeypatch.setattr(np, "frombuffer", refuse(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        ckpt.resume(target)
    assert not target["w"].any() and target["n"] == 0


def test_what_pickles_raise_comes_through_and_changes_nothing(tmp_path, monkeypatch):
    import pickle

    target = {"w": torch.zeros(2), "o": None}
    with Checkpointer(tmp_path, allow_pickle=True) as ckpt:
        ckpt.save(1, {"w": torch.ones(2), "o": complex}).wait()
        monkeypatch.setattr(pickle, "loads", refuse(AttributeError("it moved")))
        with pytest.raises(AttributeError, match="it moved"):
            ckpt.resume(target)
    assert not target["w"].any() and target["o"] is None


def test_a_dict_that_changes_while_it_is_looked_at(tmp_path):
    target = {"w": torch.zeros(2), "d": {"a": 1}}

    class Growing(torch.nn.Linear):
        def state_dict(self, *args, **kwargs):
            target["d"][len(target["d"])] = 1
            return super().state_dict(*args, **kwargs)

    target["m"] = Growing(1, 1)
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, {"w": torch.ones(2), "d": {"a": 2}, "m": torch.nn.Linear(1, 1)}).wait()
        with pytest.raises(Error, match="changed its size"):
            ckpt.resume(target)
    assert not target["w"].any() and target["d"]["a"] == 1
