"""Faults of the stagers for PyTorch that were found by attacks, by their kinds."""

import contextlib
import copy
import os
import signal
import threading

import pytest
import torch
from staging import (
    Holder,
    everywhere,
    limit,  # noqa: F401
    only_ours,
    same_storage,
    stager_class,  # noqa: F401
)

import understudy
import understudy.dcp
from understudy.torch import StateDictStager

np = pytest.importorskip("numpy")
pytestmark = pytest.mark.usefixtures("limit")


@everywhere
def test_an_address_that_has_come_to_be_anothers(Stager):
    """The storage lets go of its memory and lives on; another one lies there now."""
    memory, stager = np.arange(700.0), Stager()
    first = torch.from_numpy(memory)
    x = first.detach()
    state = {"x": x, "tied": first[:]}
    for _ in range(3):
        stager.stage(state)
    first.share_memory_()
    other = torch.from_numpy(memory[:300])
    x.data = other
    assert x.data_ptr() == memory.ctypes.data != first.data_ptr()
    state["tied"] = x.detach()
    for n in range(3):
        memory[:] = n
        result = stager.stage(state)
        assert result["x"].eq(n).all() and same_storage(result["x"], result["tied"])
        assert result["x"].untyped_storage().nbytes() == 300 * 8


@only_ours
@pytest.mark.parametrize("share_memory", [False, True])
def test_a_state_that_holds_earlier_results(Stager, share_memory):
    """Their copies are what they were when the call began, wherever they stand."""
    stager = Stager(share_memory=share_memory)
    source = [torch.zeros(1 << 20) for _ in range(3)]
    last = stager.stage(source)
    chain = stager.stage(last)
    state = [{"w": s, "last": y, "chain": z} for s, y, z in zip(source, last, chain, strict=True)]
    state += [{"part": torch.from_numpy(last[0].numpy()[5:500])}]
    for n in range(1, 6):
        for s in source:
            s.fill_(n)
        before = [(y[0].item(), z[0].item()) for y, z in zip(last, chain, strict=True)]
        result = stager.stage(state)
        for d, (y, z) in zip(result, before, strict=False):
            assert d["w"].eq(n).all() and d["last"].eq(y).all() and d["chain"].eq(z).all()
        assert before[0][0] == n - 1 and result[3]["part"].eq(n - 1).all()


@only_ours
def test_an_earlier_result_that_was_overwritten_in_the_same_call(Stager):
    stager, source = Stager(), torch.zeros(5000)
    last = stager.stage(source)

    class Looks:
        def __setstate__(self, state):
            self.seen = source[0].item()  # what has been met before is copied now

    looks = Looks()
    looks.seen = 0
    for n in range(1, 4):
        source.fill_(n)
        result = stager.stage([source, looks, last, last[7:]])
        assert result[0].eq(n).all() and last.eq(n).all()
        assert result[2].eq(n - 1).all() and result[3].eq(n - 1).all()


def test_a_forked_child_never_waits_for_the_parents_threads():
    stager = understudy.dcp.AsyncStager()
    inside, go = threading.Event(), threading.Event()

    class Waits:
        def __deepcopy__(self, memo):
            inside.set()
            assert go.wait(250)
            return self

    thread = threading.Thread(target=stager.stage, args=({"a": Waits()},))
    thread.start()
    assert inside.wait(250)
    child = os.fork()
    if child == 0:
        signal.alarm(100)
        codes = []
        stager.close()  # does nothing
        for call in (lambda: stager.stage({"a": 1}), stager._stagers[0].is_leased):
            try:
                call()
            except understudy.Error as error:
                codes.append(error.code)
        os._exit(0 if codes == ["closed"] * 2 else 1)
    status = os.waitpid(child, 0)[1]
    go.set()
    thread.join()
    assert status == 0


@pytest.mark.parametrize("name", ["understudy.dcp.AsyncStager", "understudy.torch.StateDictStager"])
def test_closing_at_the_end_of_the_interpreter(run_python, name):
    done = run_python(f"""
    import builtins, torch, understudy.dcp, understudy.torch

    class Closes:
        def __init__(self):
            self.stager = {name}()
            self.staged = self.stager.stage({{"a": torch.ones(3)}})
        def __del__(self):
            self.stager.close()
            print("closed")

    builtins.last_of_all = Closes()
    """)
    assert done.stdout == "closed\n" and done.stderr == ""


def fails(what):
    raise what


class Fails:
    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce_ex__(self, protocol):
        return self.reduced


class Sets:
    def __init__(self, error=None):
        self.error = error

    def __setstate__(self, state):
        raise state["error"]


class Key:
    def __init__(self):
        self.known = 1

    def __hash__(self):
        return hash(self.known)  # a copy has no attribute yet when it becomes a key


class NoAppend:
    append = None


class Named(torch.Tensor):
    @property
    def name(self):
        return "fixed"


def tensor_with_an_attribute():
    x = torch.ones(2).as_subclass(Named)
    x.__dict__["name"] = "other"
    return x


def key_that_is_its_own_value():
    key = Key()
    key.table = {key: 1}
    return key


BROKEN = {
    "too much from reduce": lambda: Fails(Holder, (), None, None, None, None),
    "too little": lambda: Fails(Holder),
    "nothing": lambda: type("Odd", (), {"__reduce_ex__": lambda self, protocol: 5})(),
    "maker": lambda: Fails(fails, (ValueError("no"),)),
    "arguments": lambda: Fails(Holder, 5),
    "state": lambda: Fails(Holder, (), 5),
    "setstate": lambda: Sets(RuntimeError("no")),
    "items": lambda: Fails(NoAppend, (), None, iter([1])),
    "pairs": lambda: Fails(dict, (), None, None, iter([(1,)])),
    "assignment": lambda: Fails(Holder, (), None, None, iter([(1, 2)])),
    "unhashable": lambda: Fails(dict, (), None, None, iter([([], 2)])),
    "key": key_that_is_its_own_value,
    "attribute of a tensor": tensor_with_an_attribute,
    "deepcopy": lambda: type("Odd", (), {"__deepcopy__": lambda self, memo: fails(KeyError(1))})(),
    "lookup": lambda: type("Odd", (), {"__deepcopy__": property(lambda x: fails(OSError(1)))})(),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("Stager", [StateDictStager, understudy.dcp.AsyncStager])
def test_what_goes_wrong_says_where(Stager, kind):
    with pytest.raises(Exception) as caught:
        Stager().stage({"model": {"a": [1, BROKEN[kind]()]}})
    told = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert "at 'model.a.1" in told and told.count("at 'model") == 1


def test_what_was_caught_on_the_way_is_not_what_fails():
    class Tries:
        def __deepcopy__(self, memo):
            for _ in range(3):
                with contextlib.suppress(TypeError):
                    copy.deepcopy(Fails(Holder), memo)
            raise RuntimeError("after all")

    with pytest.raises(RuntimeError, match=r"after all .*at 'a.b'"):
        StateDictStager().stage({"a": {"b": Tries()}})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [torch.quint4x2, torch.quint2x4])
@pytest.mark.parametrize("share_memory", [False, True])
def test_elements_that_share_bytes(dtype, share_memory):
    weights = torch.linspace(-1, 1, 27)
    x = torch.quantize_per_tensor(weights, 0.1, 3, dtype)
    channels = [torch.full((3,), 0.1), torch.zeros(3)]
    rows = torch.quantize_per_channel(weights.view(3, 9)[:, :8], *channels, 0, torch.quint4x2)
    stager = StateDictStager(share_memory=share_memory)
    for _ in range(2):
        for made, source in zip(stager.stage([x, rows]), [x, rows], strict=True):
            assert made.dtype == source.dtype and made.size() == source.size()
            assert list(made.untyped_storage()) == list(source.untyped_storage())
            assert made.qscheme() == source.qscheme()


@pytest.mark.parametrize(
    "inside",
    [
        "torch.func.grad(lambda x: (first(), x.sum())[1])(torch.ones(2))",
        "torch.func.functionalize(lambda x: (first(), x)[1])(torch.ones(2))",
        "torch.func.vmap(lambda x: (first(), x)[1])(torch.ones(2))",
        "with torch.device('meta'): first()",
        "with torch._subclasses.fake_tensor.FakeTensorMode(): first()",
    ],
)
def test_torch_first_met_inside_a_transformation(run_python, inside):
    """What could not be found out there is found out later, by stagers made there, too."""
    run_python(f"""
    import torch, torch._subclasses.fake_tensor, understudy
    from understudy._core import _use_peek
    from understudy.torch import StateDictStager

    made = []

    def first():
        made.append(StateDictStager())
        try:
            made[0].stage({{"x": torch.ones(3, device="cpu")}})
        except understudy.Error:
            pass

    {inside}
    x = torch.arange(5.0)
    for n in range(5):
        x.fill_(n)
        result = made[0].stage([x, x[2:]])
        assert result[0].eq(n).all() and result[1].eq(n).all()
    assert _use_peek(True)
    """)
