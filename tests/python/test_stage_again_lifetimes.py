"""How long what is staged again lives, and where."""

import gc
import threading
import time
import weakref

import numpy as np
import pytest
import torch
from again import AGAIN, Holder, stage
from same import assert_same
from test_properties import tensors_of

from understudy import Error, Stager


def test_nothing_is_kept_alive():
    class Dict(dict):
        pass

    tensor, array, large = torch.ones(10), np.ones(10), torch.ones(1 << 20)
    holder = Holder({"w": torch.ones(3)})
    state = {"t": tensor, "a": array, "l": large, "h": holder}
    with Stager() as stager:
        for _ in range(3):
            stage(stager, state)
        alive = [weakref.ref(x) for x in (tensor, array, large, holder, holder.state["w"])]
        alive.append(weakref.ref(large.untyped_storage()))
        del state, tensor, array, large, holder
        gc.collect()
        assert [a() for a in alive] == [None] * len(alive)
        # Others in their places, and at their addresses, are seen.
        state = {
            "t": torch.zeros(10),
            "a": np.zeros(10),
            "l": torch.zeros(1 << 20),
            "h": Holder({"w": torch.zeros(3)}),
        }
        got, plan = stage(stager, state)
        assert plan == AGAIN
        assert not any(x.any() for x in tensors_of(got))


@pytest.fixture
def overlapping():
    try:
        stager = Stager(capture="overlapped")
    except Error as e:
        pytest.skip(str(e))
    with stager:
        yield stager


def test_storages_are_let_go_of_without_another_call(overlapping):
    """As soon as they are captured, by the main thread as it goes on."""
    kept = {"w": torch.ones(1 << 20)}
    for _ in range(3):  # walked, and again
        freed = threading.Event()
        state = {"w": torch.ones(8 << 20), "kept": kept["w"]}
        weakref.finalize(state["w"].untyped_storage(), freed.set)
        ticket = overlapping.stage(state)
        del state
        deadline = time.monotonic() + 60
        while not freed.wait(0.01):  # the main thread must run, and take the interpreter's lock
            assert time.monotonic() < deadline
        ticket.wait().close()


def test_storages_are_held_behind_the_call(overlapping):
    state = {"w": torch.full((16 << 20,), 1.0), "small": torch.ones(3)}
    for n in range(1, 5):
        state["w"].fill_(n)
        other = torch.full((16 << 20,), -1.0)
        ticket = overlapping.stage(state)
        state["w"].data = other
        with ticket.wait() as snapshot:
            assert (snapshot.state()["w"] == n).all()
        assert ticket.capture.startswith("overlapped")
        assert ticket.metrics()["plan"] == (AGAIN if n > 1 else "new")


def test_pages_are_protected_where_the_tensor_lies_now(overlapping):
    places = [torch.full((16 << 20,), float(n)) for n in range(2)]
    for n in range(6):
        ticket = overlapping.stage({"w": places[n % 2]})
        places[n % 2].add_(2)
        with ticket.wait() as snapshot:
            assert (snapshot.state()["w"] == n).all()
        assert ticket.metrics()["plan"] == (AGAIN if n > 0 else "new")


def test_what_was_compared_is_what_is_captured():
    """As module.float() in a state_dict() does: the storage of a tensor goes meanwhile."""
    tensor = torch.full((12000,), 1.0)

    class Rebinding(Holder):
        def state_dict(self):
            if self.asked:
                tensor.data = torch.full((12000,), 2.0)
                self.more = [torch.full((12000,), 3.0) for _ in range(20)]
            return super().state_dict()

    state = {"w": tensor, "o": Rebinding({"k": 1})}
    with Stager() as stager:
        stage(stager, state)
        assert_same(stage(stager, state)[0]["w"], torch.full((12000,), 1.0))


def test_a_storage_that_goes_while_an_image_is_waited_for():
    tensor = torch.full((12000,), 1.0)
    with Stager(images=1) as stager:
        stage(stager, {"w": tensor})
        held = stager.stage({"w": tensor}).wait()

        def replace_and_close():
            tensor.data = torch.full((12000,), 2.0)
            kept.extend(torch.full((12000,), 3.0) for _ in range(20))
            held.close()

        kept = []
        later = threading.Timer(0.2, replace_and_close)
        later.start()
        got, _ = stage(stager, {"w": tensor})
        later.join()
        assert_same(got["w"], torch.full((12000,), 1.0))


def test_a_class_may_end_with_its_stager():
    def make():
        class Local(Holder):
            pass

        Local.stager = Stager()
        for _ in range(2):
            stage(Local.stager, {"o": Local({"w": torch.ones(3)})})
        return weakref.ref(Local)

    made = make()
    gc.collect()
    assert made() is None
