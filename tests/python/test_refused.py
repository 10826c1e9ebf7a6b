"""Leaves that have no bytes to take, states that raise, states without end."""

import collections

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import understudy


def fake():
    with FakeTensorMode():
        return torch.ones(2, 3)


def resized_to_nothing():
    tensor = torch.ones(4)
    tensor.untyped_storage().resize_(0)
    return tensor


class Wrapper(torch.Tensor):
    """A subclass that keeps its data elsewhere."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise NotImplementedError(func)


class Plain(torch.Tensor):
    pass


def quantised():
    return torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)


def functional():
    return torch._to_functional_tensor(torch.ones(3))


REFUSED = {
    "meta": (lambda: torch.ones(2, device="meta"), "device meta"),
    "sparse": (lambda: torch.ones(2, 2).to_sparse().to("meta"), "layout torch.sparse_coo"),
    "quantised": (lambda: quantised().as_subclass(Plain), "quantised"),
    "nested": (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "nested"),
    "fake": (fake, "FakeTensor"),
    "wrapper": (lambda: Wrapper(torch.ones(2)), "Wrapper"),
    "functional": (functional, "without memory"),
    "resized to nothing": (resized_to_nothing, "without memory"),
    "lazy parameter": (torch.nn.parameter.UninitializedParameter, "uninitialised"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("exchange", [True, False], ids=["dlpack", "attributes"])
@pytest.mark.parametrize("name", REFUSED)
def test_tensors_without_bytes_are_refused_by_path(name, exchange):
    make, why = REFUSED[name]
    leaf = make()
    stager = understudy.Stager()
    understudy._core._use_exchange_api(exchange)
    try:
        with pytest.raises(understudy.Error, match=rf"'model\.layers\.2'.*({why})") as e:
            stager.stage({"model": {"layers": [torch.ones(1), None, leaf]}})
    finally:
        understudy._core._use_exchange_api(True)
    assert e.value.code == "unsupported"
    assert stager.stage({"fine": torch.ones(1)}).wait().state()["fine"] == 1


@pytest.mark.filterwarnings("ignore")
def test_a_dtensor_is_pointed_to_distributed_checkpoint():
    import torch.distributed as dist
    from torch.distributed.tensor import DeviceMesh, Replicate, distribute_tensor

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        tensor = distribute_tensor(torch.ones(4), DeviceMesh("cpu", [0]), [Replicate()])
        with pytest.raises(understudy.Error, match=r"'w'.*DTensor.*distributed\.checkpoint"):
            understudy.Stager().stage({"w": tensor})
    finally:
        dist.destroy_process_group()


def test_plain_subclasses_are_taken_as_tensors(round_trip):
    loaded = round_trip({"t": torch.arange(3.0).as_subclass(Plain)})
    assert type(loaded["t"]) is torch.Tensor
    assert torch.equal(loaded["t"], torch.arange(3.0))


def test_a_device_that_is_not_the_host_is_refused():
    class Far:
        def __dlpack__(self, **options):
            raise AssertionError("must not be asked")

        def __dlpack_device__(self):
            return (2, 0)

    with pytest.raises(understudy.Error, match=r"'far'.*device"):
        understudy.Stager().stage({"far": Far()})


def list_in_itself():
    cycle = [1]
    cycle.append({"again": cycle})
    return cycle


def dict_in_itself():
    cycle = {}
    cycle["deep"] = [(cycle,)]
    return cycle


def object_in_itself():
    class Me:
        def state_dict(self):
            return {"me": self}

        def load_state_dict(self, state):
            pass

    return Me()


@pytest.mark.parametrize("make", [list_in_itself, dict_in_itself, object_in_itself])
def test_cycles_are_an_error_with_the_path(make):
    with pytest.raises(understudy.Error, match="contains itself") as e:
        understudy.Stager().stage({"outer": make()})
    assert e.value.code == "invalid"
    assert "'outer" in str(e.value)


@pytest.mark.parametrize("wrap", [lambda x: [x], lambda x: (x,), lambda x: {"k": x}])
def test_too_deep_is_an_error(wrap, tmp_path):
    state = 1
    for _ in range(100_000):
        state = wrap(state)
    try:
        with pytest.raises(understudy.Error, match="nested deeper than 500"):
            understudy.save_file(state, tmp_path / "f")
    finally:
        while not isinstance(state, int):  # by hand: tuples are freed recursively
            (state,) = state.values() if isinstance(state, dict) else state


def test_as_deep_as_is_allowed(round_trip):
    state = torch.ones(1)
    for _ in range(499):
        state = [state]
    loaded = round_trip(state)
    for _ in range(499):
        (loaded,) = loaded
    assert loaded == 1


def test_objects_without_end_are_an_error():
    class Endless:
        def state_dict(self):
            return {"next": Endless()}

        def load_state_dict(self, state):
            pass

    with pytest.raises(understudy.Error, match="nested deeper"):
        understudy.Stager().stage(Endless())


class Boom(Exception):
    pass


class RaisingState:
    def state_dict(self):
        raise Boom("no state today")

    def load_state_dict(self, state):
        raise Boom("not loaded")


class RaisingCopy:
    def __deepcopy__(self, memo):
        raise Boom("no copy today")


class RaisingReduce:
    def __reduce_ex__(self, protocol):
        raise Boom("no pickle today")


def notes(error: BaseException) -> str:
    return "\n".join(getattr(error, "__notes__", ["'a.b'"]))  # Python 3.10 has no notes


@pytest.mark.parametrize("leaf", [RaisingState(), RaisingCopy()])
def test_what_objects_raise_comes_through(leaf):
    stager = understudy.Stager()
    before = stager.stage({"x": torch.ones(2)}).wait()
    with pytest.raises(Boom) as e:
        stager.stage({"a": {"b": leaf}})
    assert "'a.b'" in notes(e.value)
    assert torch.equal(before.state()["x"], torch.ones(2)), "earlier snapshots stay"
    assert stager.stage({"x": torch.zeros(2)}).wait().state()["x"].sum() == 0


def test_what_pickling_raises_comes_through(tmp_path):
    with understudy.Checkpointer(tmp_path, allow_pickle=True) as ckpt:
        ckpt.save(1, {"x": 1}).wait()
        with pytest.raises(Boom) as e:
            ckpt.save(2, {"a": {"b": RaisingReduce()}})
        assert "'a.b'" in notes(e.value)
        ckpt.save(3, {"x": 3}).wait()
        assert ckpt.steps() == [1, 3]


@pytest.mark.parametrize("kind", [dict, collections.OrderedDict])
def test_a_state_that_changes_under_the_walk(kind):
    state = kind()

    class Grows:
        def state_dict(self):
            state["new"] = 1
            return {}

        def load_state_dict(self, loaded):
            pass

    state["a"] = Grows()
    state["b"] = 1
    with pytest.raises((understudy.Error, RuntimeError), match=r"changed|mutated"):
        understudy.Stager().stage(state)


def test_attributes_of_an_ordered_dict_hold_no_tensors():
    ordered = collections.OrderedDict(a=1)
    ordered.extra = np.ones(3)
    with pytest.raises(understudy.Error, match="ndarray"):
        understudy.Stager().stage({"o": ordered})
