"""Tensors that reach beyond the end of their memory: their storage was made smaller."""

import numpy as np
import pytest
import torch
from again import Holder, stage

import understudy
from understudy import Checkpointer, Error, Stager
from understudy._core import _use_exchange_api, _use_peek


@pytest.fixture(params=["looking", "asking", "attributes"], autouse=True)
def way(request):
    """Each way in which tensors are looked at."""
    _use_exchange_api(request.param != "attributes")
    _use_peek(request.param == "looking")
    yield
    _use_exchange_api(True)
    _use_peek(True)


def shrunk(tensor, nbytes=16):
    tensor.untyped_storage().resize_(nbytes)
    return tensor


def numbers():
    return torch.arange(4096, dtype=torch.float32)


KINDS = {
    "plain": lambda: shrunk(numbers()),
    "large": lambda: shrunk(torch.zeros(8 << 20), 4096),
    "parameter": lambda: shrunk(torch.nn.Parameter(numbers())),
    "slice": lambda: shrunk(numbers()[5:], 64),
    "begins behind the end": lambda: shrunk(numbers()[1000:], 64),
    "strided": lambda: shrunk(numbers().view(64, 64).t(), 64),
    "conjugate": lambda: shrunk(torch.ones(4096, dtype=torch.complex64).conj()),
    "one byte": lambda: shrunk(torch.zeros(100, dtype=torch.uint8), 99),
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_walk_reads_past_the_end(kind, tmp_path):
    state = {"model": {"w": KINDS[kind]()}}
    with Stager() as stager, Checkpointer(tmp_path / "run") as run:
        for take in (
            stager.stage,
            stager.prewarm,
            lambda s: run.save(1, s),
            run.prewarm,
            lambda s: understudy.save_file(s, tmp_path / "f.safetensors"),
        ):
            with pytest.raises(Error, match=r"'model\.w' needs \d+ bytes, .* storage has") as e:
                take(state)
            assert e.value.code == "invalid"
        assert run.steps() == []
        run.save(1, {"model": {"w": numbers()}}).wait()


@pytest.mark.parametrize("kind", ["plain", "slice", "strided", "parameter"])
def test_no_resume_writes_past_the_end(kind, tmp_path):
    whole = {"model": {"w": torch.ones_like(KINDS[kind]().detach(), memory_format=None)}}
    target = {"first": torch.zeros(3), "model": {"w": KINDS[kind]()}}
    with Checkpointer(tmp_path) as run:
        run.save(1, {"first": torch.ones(3), **whole}).wait()
        with pytest.raises(Error, match=r"'model\.w' needs"):
            run.resume(target)
        assert target["first"].tolist() == [0, 0, 0]


def test_a_storage_that_shrinks_between_two_captures():
    state = {"a": torch.ones(8), "w": numbers()}
    with Stager() as stager:
        for _ in range(2):
            stage(stager, state)
        shrunk(state["w"])
        for _ in range(2):
            with pytest.raises(Error, match="'w' needs 16384 bytes, but its storage has 16"):
                stager.stage(state)
        state["w"].untyped_storage().resize_(16384)
        state["w"].fill_(3)
        assert stage(stager, state)[0]["w"].eq(3).all()


def test_what_fits_still_is_taken(tmp_path):
    """Only what a tensor covers must be there."""
    state = {"head": numbers()[:4], "none": numbers()[:0], "rows": torch.ones(1).expand(1000)}
    shrunk(state["head"])
    shrunk(state["none"], 0)
    with Stager() as stager:
        for _ in range(3):
            assert stage(stager, state)[0]["head"].tolist() == [0, 1, 2, 3]


class Frees(Holder):
    """Its state_dict() lets go of what others gave, as sharded modules do."""

    def __init__(self, victim):
        super().__init__({"mine": torch.ones(3)})
        self.victim, self.is_armed = victim, False

    def state_dict(self):
        if self.is_armed:
            self.victim.untyped_storage().resize_(0)
        return super().state_dict()


@pytest.mark.parametrize("captures_before", [0, 2])
def test_a_state_dict_that_frees_what_was_walked(captures_before):
    """What is met is asked about once more when an object has run code of its own."""
    victim = torch.ones(1 << 20)
    frees = Frees(victim)
    state = {"params": [torch.ones(2), victim], 3: torch.ones(1), "late": frees}
    with Stager() as stager:
        for _ in range(captures_before):
            stage(stager, state)
        frees.is_armed = True
        with pytest.raises(Error, match=r"'params\.1'"):
            stager.stage(state)
        assert frees.asked == captures_before + 1


def test_a_view_of_a_numpy_array_that_was_resized(tmp_path):
    owner = np.arange(100_000.0)
    state = {"views": {"even": owner[::2], "back": owner[::-1], "rest": owner[90_000:]}}
    with Stager() as stager:
        for _ in range(2):
            stage(stager, state)
        owner.resize(1000, refcheck=False)
        for take in (stager.stage, lambda s: understudy.save_file(s, tmp_path / "f")):
            with pytest.raises(Error, match=r"'views\.even' reaches beyond the memory"):
                take(state)
        del state["views"]["even"], state["views"]["back"]
        with pytest.raises(Error, match=r"'views\.rest' reaches beyond"):
            stager.stage(state)


class FreesWhenLoaded(Frees):
    def state_dict(self):
        return Holder.state_dict(self)

    def load_state_dict(self, state):
        if self.is_armed and isinstance(self.victim, torch.Tensor):
            self.victim.untyped_storage().resize_(16)
        elif self.is_armed:
            self.victim.resize(4, refcheck=False)


@pytest.mark.parametrize("make", [torch.ones, np.ones])
def test_a_load_state_dict_that_frees_what_will_be_written(make, tmp_path):
    """The tensors beside are written after the objects have been given their parts."""
    victim = make(1 << 20)
    state = {"early": FreesWhenLoaded(victim), "params": [make(2), victim]}
    with Checkpointer(tmp_path) as run:
        run.save(1, state).wait()
        assert run.resume(state) == 1
        state["early"].is_armed = True
        with pytest.raises(Error, match=r"'params\.1' was resized .*must not be used") as e:
            run.resume(state)
        assert e.value.code == "invalid"


def test_dlpack_without_memory():
    class Odd:
        """Has elements, and no bytes."""

        def __init__(self, tensor):
            self.tensor = tensor

        def __dlpack__(self, **how):
            return self.tensor.__dlpack__(**how)

        def __dlpack_device__(self):
            return self.tensor.__dlpack_device__()

    with Stager() as stager:
        stage(stager, {"o": Odd(numbers())})
        with pytest.raises(Error, match=r"'o' gives no memory over DLPack"):
            stager.stage({"o": Odd(shrunk(numbers(), 0))})
