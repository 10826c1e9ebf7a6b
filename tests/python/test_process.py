"""Fork, exit, Ctrl-C, other threads; what a long run uses."""

import gc
import os
import sys
import threading
import time
import types

import numpy as np
import pytest
import torch

import understudy
from understudy import Checkpointer, Stager


def test_other_threads_run_while_a_save_is_in_flight(tmp_path):
    """A thread that counts in Python goes on while copies, hashes and writes are made."""
    state = {"w": torch.ones(30_000_000)}
    count, stop = 0, threading.Event()

    def counting():
        nonlocal count
        while not stop.is_set():
            count += 1
            time.sleep(0)  # lets the GIL go

    switch = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # the GIL changes hands only where it is let go
    thread = threading.Thread(target=counting, daemon=True)

    def counted(action):
        # What runs with the GIL held cannot be seen by the counter at all.
        before = count
        result = action()
        return result, count - before

    try:
        with Checkpointer(tmp_path) as ckpt, Stager() as stager:
            thread.start()
            ticket, during_save = counted(lambda: ckpt.save(1, state))
            _, during_wait = counted(ticket.wait)
            _, during_restore = counted(ckpt.restore)
            _, during_stage = counted(lambda: stager.stage(state).wait())
            stop.set()
    finally:
        sys.setswitchinterval(switch)
        stop.set()
        thread.join()
    assert min(during_save, during_wait, during_restore, during_stage) > 0


def test_ctrl_c_wakes_a_wait(run_python, tmp_path):
    done = run_python(
        """
        import os, signal, sys, threading
        import numpy as np
        import understudy

        # The GIL changes hands only where it is let go: within the wait.
        sys.setswitchinterval(1000)
        started = threading.Event()

        def press_ctrl_c():
            started.wait()
            os.kill(os.getpid(), signal.SIGINT)

        ckpt = understudy.Checkpointer(sys.argv[1], keep=1, max_write_rate=8 << 20)
        thread = threading.Thread(target=press_ctrl_c)
        thread.start()
        ticket = ckpt.save(1, {"w": np.ones(4_000_000)})  # 4 s at this rate
        try:
            started.set()
            ticket.wait()
        except KeyboardInterrupt:
            print("woken" if not ticket.done() else "too late")
        thread.join()
        assert ticket.wait().exists()  # the save itself goes on
        ckpt.close()
        """,
        tmp_path,
    )
    assert done.stdout == "woken\n"


def test_exit_finishes_started_saves(run_python, tmp_path):
    run_python(
        """
        import sys, numpy as np, understudy
        ckpt = understudy.Checkpointer(sys.argv[1])
        for step in range(3):
            ckpt.save(step, {"w": np.full(3_000_000, step)})
        """,
        tmp_path,
    )
    ckpt = Checkpointer(tmp_path)
    assert ckpt.steps() == [0, 1, 2]
    assert (ckpt.restore(2).state["w"] == 2).all()
    assert not [n for n in os.listdir(tmp_path) if "tmp" in n]


def test_exit_by_an_exception_finishes_started_saves(run_python, tmp_path):
    run_python(
        """
        import sys, numpy as np, understudy
        def main():
            ckpt = understudy.Checkpointer(sys.argv[1])
            ckpt.save(7, {"w": np.full(3_000_000, 7)})
            raise RuntimeError("the training broke")
        main()
        """,
        tmp_path,
        status=1,
    )
    assert Checkpointer(tmp_path).steps() == [7]


def test_a_dropped_checkpointer_finishes_its_saves(tmp_path):
    Checkpointer(tmp_path).save(3, {"w": torch.ones(1_000_000)})
    gc.collect()
    assert Checkpointer(tmp_path).steps() == [3]


def test_failures_at_exit_are_logged(run_python, tmp_path):
    done = run_python(
        """
        import logging, resource, sys, numpy as np, understudy
        logging.basicConfig(format="%(name)s %(levelname)s %(message)s")
        ckpt = understudy.Checkpointer(sys.argv[1], images=1)
        ckpt.save(1, {"w": np.ones(1_000_000)}).wait()
        # The image is there already; a file of its size is not possible any more.
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
        ckpt.save(2, {"w": np.ones(1_000_000)})
        """,
        tmp_path,
    )
    assert "Traceback" not in done.stderr
    assert "understudy ERROR" in done.stderr and str(tmp_path) in done.stderr
    assert Checkpointer(tmp_path).steps() == [1]


def test_nothing_is_printed(run_python, tmp_path):
    done = run_python(
        """
        import sys, numpy as np, understudy
        ckpt = understudy.Checkpointer(sys.argv[1])
        stager = understudy.Stager()
        snapshot = stager.stage({"w": np.ones(10), "o": object()}).wait()
        arrays = snapshot.state()
        ticket = ckpt.save(1, {"w": np.ones(10)})
        module = sys.modules[__name__]
        module.cycle = [stager, snapshot, arrays, ticket, ckpt, module]
        """,
        tmp_path,
    )
    assert done.stdout == done.stderr == ""


def fork_and_wait(child) -> int:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            child()
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


pytestmark = pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")


def test_handles_are_inert_in_a_forked_child(tmp_path):
    h = types.SimpleNamespace(stager=Stager(), ckpt=Checkpointer(tmp_path / "run"))
    h.ckpt.save(1, {"w": np.ones(5)}).wait()
    h.snapshot = h.stager.stage({"w": np.ones(5)}).wait()
    h.ticket = h.ckpt.save(2, {"w": np.ones(5)})

    def child():
        for use in (
            lambda: h.stager.stage({}),
            lambda: h.ckpt.save(3, {}),
            lambda: h.ckpt.restore(),
            lambda: h.ckpt.resume({}),
            lambda: h.snapshot.state(),
            lambda: h.snapshot.save_file(tmp_path / "f"),
            lambda: h.ckpt.wait(),
            lambda: h.ticket.wait(timeout=1),
        ):
            try:
                use()
            except understudy.Error as error:
                assert error.code in ("closed", "timeout"), error
            else:
                raise AssertionError("it worked")
        vars(h).clear()
        gc.collect()
        with Checkpointer(tmp_path / "child") as own, Stager() as other:
            own.save(1, {"w": np.ones(3)}).wait()
            assert own.restore().state["w"].sum() == 3
            assert other.stage({"w": np.ones(3)}).wait().state()["w"].sum() == 3

    assert fork_and_wait(child) == 0
    assert h.ticket.wait().exists()
    assert h.ckpt.steps() == [1, 2]
    assert h.snapshot.state()["w"].sum() == 5
    assert not (tmp_path / "f").exists()
    h.ckpt.save(3, {"w": np.ones(5)}).wait()
    h.ckpt.close()


def test_a_childs_exit_leaves_the_parent_alone(run_python, tmp_path):
    """A child of fork that ends as Python programs do, while a save is in flight."""
    run_python(
        """
        import os, sys, warnings, numpy as np, understudy
        warnings.simplefilter("ignore")
        ckpt = understudy.Checkpointer(sys.argv[1])
        ckpt.save(1, {"w": np.ones(3)}).wait()
        ticket = ckpt.save(2, {"w": np.ones(20_000_000)})
        pid = os.fork()
        if pid == 0:
            sys.exit(0)  # runs the child's own atexit
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert ticket.wait().exists()
        ckpt.save(3, {"w": np.ones(3)}).wait()
        ckpt.close()
        assert ckpt.steps() == [1, 2, 3]
        """,
        tmp_path,
    )


def test_children_that_live_on_during_saves_captures_and_exit(run_python, tmp_path):
    """As a data loader's workers do; they also keep the folder's lock from nobody."""
    run_python(
        """
        import os, signal, sys, time, warnings, numpy as np, understudy
        warnings.simplefilter("ignore")
        ckpt = understudy.Checkpointer(sys.argv[1])
        stager = understudy.Stager()
        children, kept = [], []
        for step in range(6):
            ticket = ckpt.save(step, {"w": np.full(2_000_000, step)})
            kept.append(stager.stage({"w": np.full(100_000, step)}).wait().state()["w"])
            kept = kept[-1:]
            pid = os.fork()
            if pid == 0:
                signal.pause()
                os._exit(0)
            children.append(pid)
        ckpt.wait()
        assert ckpt.steps() == list(range(6))
        assert (kept[0] == 5).all()
        ckpt.close()
        other = understudy.Checkpointer(sys.argv[1])
        other.save(6, {"w": np.ones(3)}).wait()  # the lock went with close()
        ckpt = other
        ckpt.save(7, {"w": np.ones(2_000_000)})
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        """,
        tmp_path,
    )
    assert Checkpointer(tmp_path).steps() == list(range(8))


def resident_pages() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])


def test_memory_and_descriptors_stay_flat(tmp_path):
    state = {f"t{i}": torch.randn(1000) for i in range(200)} | {
        "array": np.ones(10_000),
        "rng": understudy.torch.RngState(),
        "objects": [torch.nn.Linear(10, 10)],
        "scalars": list(range(1000)),
    }
    descriptors, pages, threads = [], [], []
    with Checkpointer(tmp_path, keep=2) as ckpt, Stager() as stager:
        for step in range(200):
            ckpt.save(step, state)
            with stager.stage(state | {"opaque": object()}).wait() as snapshot:
                snapshot.state()
            if step % 20 == 0:
                ckpt.wait()
                ckpt.restore()
                assert ckpt.resume(state) == step
            if step in (60, 199):
                ckpt.wait()
                gc.collect()
                descriptors.append(len(os.listdir("/proc/self/fd")))
                threads.append(len(os.listdir("/proc/self/task")))
                pages.append(resident_pages())
    assert descriptors[1] <= descriptors[0]
    assert threads[1] <= threads[0]
    # One save's image is 1 MB: 140 of them that stay would be 140 MB.
    assert (pages[1] - pages[0]) * os.sysconf("SC_PAGESIZE") < 20_000_000


def test_references_are_given_back():
    array, thing = np.ones(10), object()
    tensor, parameter = torch.ones(10), torch.nn.Parameter(torch.ones(3))
    module = torch.nn.Linear(2, 2)
    held = [array, thing, tensor, parameter, module, module.weight]
    state = {"a": array, "o": thing, "t": tensor, "p": parameter, "m": module, "text": "x" * 99}

    def counts():
        gc.collect()
        return [sys.getrefcount(o) for o in held]

    with Stager() as stager:
        stager.stage(state).wait().close()
        before = counts()
        for _ in range(50):
            snapshot = stager.stage(state).wait()
            snapshot.state()
            snapshot.close()
            with pytest.raises(understudy.Error):
                stager.stage(state | {"bad": torch.ones(1, device="meta")})
        assert counts() == before


def test_handles_are_freed(tmp_path):
    import weakref

    stager, ckpt = Stager(), Checkpointer(tmp_path)
    snapshot = stager.stage([1]).wait()
    seen = [weakref.ref(o) for o in (stager, ckpt, snapshot)]
    del stager, ckpt, snapshot
    gc.collect()
    assert [r() for r in seen] == [None] * 3
