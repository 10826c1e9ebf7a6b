"""Children forked while saves, captures and walks are under way."""

import gc
import os
import signal
import threading

import numpy as np
import pytest
import torch

import understudy
import understudy.torch
from understudy import Checkpointer, Stager

pytestmark = pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")


def forked(child, limit_s: int = 60) -> int:
    """The exit status of a child; -SIGALRM when it hung."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(limit_s)
        status = 1
        try:
            status = child() or 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("writer", ["io_uring", "threads", "buffered"])
@pytest.mark.parametrize("end", ["sys.exit()", "os._exit(0)", "drop()", "execute()", "kill()"])
def test_a_childs_end_leaves_the_parents_save_alone(end, writer, run_python, tmp_path):
    """Several children in the middle of each of several saves, as a loader's workers."""
    run_python(
        """
        import gc, os, signal, sys, warnings, numpy as np, understudy
        warnings.simplefilter("ignore")
        folder, end, writer = sys.argv[1:]
        ckpt = understudy.Checkpointer(folder, keep=2, writer=writer)
        try:
            ckpt.save(0, {"w": np.ones(3)}).wait()
        except understudy.Error as error:
            assert error.code == "unsupported", error
            os._exit(0)  # no such writer here
        stager = understudy.Stager()
        ticket = None

        def drop():
            global ckpt, stager, ticket, state
            ckpt = stager = ticket = state = None
            gc.collect()
            os._exit(0)

        def execute():
            os.execv("/bin/true", ["true"])

        def kill():
            os.kill(os.getpid(), signal.SIGKILL)

        state = {"w": np.zeros(6_000_000)}  # a dozen blocks: more than are under way at once
        for step in range(1, 4):
            state["w"][:] = step
            ticket = ckpt.save(step, state)
            capture = stager.stage(state)
            for part in range(1, 4):
                while not ticket.done() and ticket.progress()[0] * 4 < part * ticket.progress()[1]:
                    pass
                pid = os.fork()
                if pid == 0:
                    signal.alarm(60)
                    eval(end)
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) in (0, -signal.SIGKILL)
            assert ticket.wait(timeout=120).exists()
            assert (ckpt.restore().state["w"] == step).all()
            capture.wait().close()
        ckpt.close()
        """,
        tmp_path,
        end,
        writer,
    )


def test_loader_workers_beside_saves(tmp_path):
    data = torch.utils.data.TensorDataset(torch.arange(64.0))
    with Checkpointer(tmp_path, keep=2) as ckpt, Stager() as stager:
        state = {"w": torch.zeros(4_000_000)}
        for step in range(4):
            state["w"].fill_(step)
            ticket = ckpt.save(step, state)
            snapshot = stager.stage(state)
            loader = torch.utils.data.DataLoader(
                data, batch_size=8, num_workers=2, multiprocessing_context="fork"
            )
            assert sum(float(batch[0].sum()) for batch in loader) == sum(range(64))
            assert ticket.wait(timeout=120).exists()
            assert bool((snapshot.wait().state()["w"] == step).all())
            snapshot.wait().close()
        assert bool((ckpt.restore().state["w"] == 3).all())


class Forks:
    """Has children in the middle of a walk."""

    def __init__(self):
        self.seen = []

    def look(self) -> None:
        assert gc.isenabled()
        self.seen.append(forked(lambda: 0 if gc.isenabled() else 3))

    def state_dict(self):
        self.look()
        return {"x": 1}

    def load_state_dict(self, state):
        self.look()

    def __deepcopy__(self, memo):
        self.look()
        return self


def test_garbage_is_collected_in_children_of_a_walk(tmp_path):
    forks = Forks()
    state = {"o": forks, "t": torch.ones(3)}
    understudy.save_file(state, tmp_path / "f")
    with Checkpointer(tmp_path / "run") as ckpt, Stager() as stager:
        for step in range(3):  # the first one walks, the others walk again
            ckpt.save(step, state)
            stager.stage(state).wait().close()
        ckpt.resume(state)
    stage = understudy.torch.StateDictStager().stage
    stage(state)
    stage(state)
    assert len(forks.seen) >= 10 and not any(forks.seen)


def test_garbage_is_collected_in_children_of_other_threads():
    stager = understudy.torch.StateDictStager()
    state = {"t": torch.zeros(4 << 20), "o": [[n] for n in range(2000)]}
    stop = threading.Event()

    def stage():
        while not stop.is_set():
            stager.stage(state)

    thread = threading.Thread(target=stage)
    thread.start()
    try:
        seen = [forked(lambda: 0 if gc.isenabled() else 3) for _ in range(40)]
    finally:
        stop.set()
        thread.join()
    assert seen == [0] * 40


class Switches:
    """Manages the garbage collection by itself, as some trainers do."""

    def state_dict(self):
        gc.disable()
        return {}

    def load_state_dict(self, state):
        gc.disable()

    def __deepcopy__(self, memo):
        gc.disable()
        return self


@pytest.mark.parametrize("is_on", [True, False])
def test_who_switches_collection_finds_it_so(is_on, tmp_path):
    state = {"o": Switches()}
    with Checkpointer(tmp_path) as ckpt, Stager() as stager:
        try:
            for call in (
                lambda: ckpt.save(1, state).wait(),
                lambda: stager.stage(state),
                lambda: ckpt.resume(state),
                lambda: understudy.save_file(state, tmp_path / "f"),
                lambda: understudy.torch.StateDictStager().stage(state),
            ):
                (gc.enable if is_on else gc.disable)()
                call()
                assert not gc.isenabled()
            gc.enable()
            ckpt.save(2, {"x": 1})
            assert gc.isenabled()
        finally:
            gc.enable()


def test_locks_that_other_threads_hold_do_not_matter():
    """Children of a process whose other threads are in the middle of calls."""
    dcp = pytest.importorskip("understudy.dcp")
    stager, dropin, image = Stager(), understudy.torch.StateDictStager(), dcp.AsyncStager()
    stop = threading.Event()
    source = torch.ones(1 << 20)

    def use():
        while not stop.is_set():
            stager.stage({"t": source}).wait().close()
            dropin.stage({"t": source})
            image.stage({"t": source})

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()

    def child() -> int:
        answers = 0
        for call in (
            lambda: stager.stage({}),
            lambda: stager.prewarm({}),
            lambda: dropin.stage({}),
            lambda: image.stage({}),
        ):
            try:
                call()
                answers += 1
            except understudy.Error as error:
                answers += error.code != "closed"
        for close in (stager.close, dropin.close, image.close):
            close()
        fresh = Stager()
        with fresh.stage({"a": np.ones(3)}).wait() as snapshot:
            answers += not (snapshot.state()["a"] == 1).all()
        return answers

    try:
        assert [forked(child) for _ in range(20)] == [0] * 20
    finally:
        stop.set()
        for thread in threads:
            thread.join()
