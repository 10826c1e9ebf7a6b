"""Calls one after the other, at once, inside each other, deep ones, and those of a fork."""

import threading

import pytest
import torch
from staging import (
    Boom,
    Raises,
    both,
    everywhere,
    only_ours,
    stager_class,  # noqa: F401
    unlike_original,
)

import understudy


@unlike_original("after close the next call raises KeyError, or does not know a dict")
@pytest.mark.parametrize("share_memory", [False, True])
def test_a_call_after_close(Stager, share_memory):
    stager, x = Stager(share_memory=share_memory), torch.ones(9)
    first = stager.stage({"x": x, "cls": type(x)})["x"]
    stager.close()
    stager.close()
    x.fill_(2)
    second = stager.stage({"x": x, "cls": [type(x)]})["x"]
    assert first.tolist() == [1] * 9 and second.tolist() == [2] * 9
    assert type(second) is torch.Tensor and type(stager.stage({})) is dict


@only_ours
def test_close_inside_a_call_is_refused(Stager):
    stager = Stager()

    class Closes:
        def __deepcopy__(self, memo):
            stager.close()

    with pytest.raises(understudy.Error, match="closed"):
        stager.stage([torch.ones(2), Closes()])
    assert stager.stage(torch.ones(2)).tolist() == [1, 1]


DEEP = """
import sys, types, threading, torch
from understudy.torch import StateDictStager
n = 50_000
if sys.argv[2] == "raised":
    sys.setrecursionlimit(10**6)
stager = StateDictStager()

class Holder:
    pass

class Sub(torch.Tensor):
    pass

class Returns:
    def __deepcopy__(self, memo):
        return stager.deepcopy_with_tensor_offload(self.x, memo)

def attribute(y, x):
    y.x = x
    return y

makers = {
    "containers": lambda x: [({"a": x},)],
    "object": lambda x: attribute(Holder(), x),
    "tensor": lambda x: attribute(torch.ones(1), x),
    "subclass": lambda x: attribute(torch.ones(1).as_subclass(Sub), x),
    "method": lambda x: types.MethodType(print, x),
    "deepcopy": lambda x: attribute(Returns(), x),
}
kept = []
for kind in sys.argv[1].split(","):
    x = torch.ones(2)
    for _ in range(n):
        x = makers[kind](x)
    kept.append(x)
    try:
        stager.stage(x)
    except RecursionError as e:
        assert str(e)
    else:
        raise AssertionError("no error")
assert stager.stage([torch.ones(2)])[0].sum() == 2
import os
sys.stdout.flush()
os._exit(0)  # letting go of the nest is a recursion, too, and not ours
"""


@pytest.mark.parametrize("limit", ["usual", "raised"])
@pytest.mark.parametrize("kind", ["containers,object,tensor,subclass", "method", "deepcopy"])
def test_deep_nesting_is_an_error(run_python, kind, limit):
    run_python(DEEP, kind, limit)


@everywhere
def test_what_is_not_so_deep_works(Stager):
    x = [torch.ones(2)]
    for _ in range(30):
        x = [{"a": (x,)}]
    y = Stager().stage(x)
    for _ in range(30):
        y = y[0]["a"][0]
    assert y[0].tolist() == [1, 1]


@unlike_original("two threads interleave: results are torn", AssertionError)
def test_two_threads_stage_one_after_the_other(Stager):
    stager, inside = Stager(), threading.Event()
    sources = [torch.full((8,), float(n)) for n in range(2)]
    log, second_runs = [], threading.Event()

    class Slow:
        def __init__(self, n):
            self.n = n

        def __deepcopy__(self, memo):
            log.append(("in", self.n))
            if self.n == 0:
                inside.set()
                second_runs.wait(0.3)  # the second call must not get as far
            else:
                second_runs.set()
            log.append(("out", self.n))

    def work(n):
        if n == 1:
            inside.wait(10)
        stager.stage([sources[n], Slow(n)])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log == [("in", 0), ("out", 0), ("in", 1), ("out", 1)]


@only_ours
@pytest.mark.parametrize("share_memory", [False, True])
def test_many_threads_with_sources_that_go(Stager, share_memory):
    stager, failures = Stager(share_memory=share_memory), []
    shared = torch.arange(1000.0)

    def work(n):
        try:
            for i in range(40):
                own = [torch.full((size,), float(n * 100 + i)) for size in (10, 1000, 70_000)]
                staged = stager.stage({"own": own, "shared": shared, "view": shared[n:]})
                assert all(y.eq(n * 100 + i).all() for y in staged["own"])
                assert staged["shared"].tolist() == shared.tolist()
                if i % 10 == n:
                    stager.close()
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]


@both
def test_the_collector_runs_again_afterwards(Stager):
    import gc

    assert gc.isenabled()
    with pytest.raises(Boom):
        Stager().stage([Raises()])
    assert gc.isenabled()
    gc.disable()
    try:
        Stager().stage([torch.ones(2)])
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_forked_child_is_told(run_python):
    run_python("""
        import os, torch, understudy
        from understudy.torch import StateDictStager

        stager = StateDictStager()
        first = stager.stage(torch.ones(3))
        child = os.fork()
        if child == 0:
            try:
                stager.stage(torch.ones(3))
            except understudy.Error as e:
                assert e.code == "closed" and first.sum() == 3
                assert StateDictStager().stage(torch.ones(2)).sum() == 2
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        assert stager.stage(torch.ones(3)).sum() == 3
    """)
