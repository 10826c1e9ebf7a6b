"""Overlapped captures while training goes on: bit for bit what it was at the call."""

import ctypes
import os
import socket
import threading

import numpy as np
import pytest
import torch
from same import assert_same

from understudy import Checkpointer, Error, Stager

MIB = 1 << 20


@pytest.fixture(name="stager", params=[False, True], ids=["small_pages", "huge_pages"])
def overlapped_stager(request):
    try:
        stager = Stager(capture="overlapped", huge_pages=request.param)
    except Error as error:
        pytest.skip(str(error))
    yield stager
    stager.close()


@pytest.fixture(autouse=True)
def possible():
    try:
        Stager(capture="overlapped").close()
    except Error as error:
        pytest.skip(str(error))


def clone(state):
    if isinstance(state, torch.Tensor):
        return state.detach().clone()
    if isinstance(state, dict):
        return {key: clone(value) for key, value in state.items()}
    if isinstance(state, list):
        return [clone(value) for value in state]
    return state


def check(stager, state, overwrite):
    """One capture under fire. Gives its figures."""
    before = clone(state)
    ticket = stager.stage(state)
    overwrite()
    with ticket.wait(timeout=60) as snapshot:
        assert_same(snapshot.state(), before)
    assert ticket.capture.startswith("overlapped"), ticket.capture
    return ticket.metrics()


def plain(state_dict):
    """An OrderedDict as a dict, so that clone() need not know it."""
    return dict(state_dict)


@pytest.mark.parametrize("how", ["fused", "foreach"])
def test_adamw_steps_right_after_the_call(stager, how):
    torch.manual_seed(0)
    model = torch.nn.Sequential(*[torch.nn.Linear(500, 500) for _ in range(5)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, **{how: True})
    x = torch.randn(4, 500)

    def gradients():
        optimizer.zero_grad()
        model(x).square().mean().backward()

    gradients()
    optimizer.step()
    faults = 0
    for _ in range(60):
        state = {"model": plain(model.state_dict()), "optimizer": optimizer.state_dict()}
        faults += check(stager, state, optimizer.step)["faults"]
        gradients()
    assert faults > 0, "nothing was ever caught"


def test_training_is_the_same_with_captures_and_without(stager):
    def train(captures):
        torch.manual_seed(0)
        model = torch.nn.Linear(1500, 1500)
        optimizer = torch.optim.AdamW(model.parameters())
        tickets = []
        for _ in range(15):
            if captures:
                tickets.append(stager.stage({"model": plain(model.state_dict())}))
            optimizer.zero_grad()
            model(torch.ones(2, 1500)).square().mean().backward()
            optimizer.step()
            while len(tickets) > 1:
                tickets.pop(0).wait().close()
        return [p.detach().clone() for p in model.parameters()]

    assert_same(train(True), train(False))


def test_embeddings_with_sparse_rows(stager):
    torch.manual_seed(0)
    table = torch.nn.Embedding(40_000, 128, sparse=True)
    optimizer = torch.optim.SparseAdam(table.parameters())

    def step():
        optimizer.zero_grad()
        table(torch.randint(0, 40_000, (500,))).sum().backward()
        optimizer.step()

    step()
    for _ in range(40):
        state = {"table": plain(table.state_dict()), "optimizer": optimizer.state_dict()}
        check(stager, state, step)


def test_in_place_writes_of_several_threads(stager):
    state = {f"t{i}": torch.rand(500_000) for i in range(12)}

    def overwrite():
        def work(first):
            for i in range(first, 12, 4):
                state[f"t{i}"].mul_(1.5).add_(i)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    for _ in range(40):
        check(stager, state, overwrite)


def test_writes_with_the_gil_held(stager):
    """Nobody who copies or serves may need it."""
    array = np.zeros(24 * MIB, np.uint8)
    memset = ctypes.PyDLL(None).memset  # keeps the GIL
    memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    for value in range(1, 20):
        before = array.copy()
        ticket = stager.stage({"a": array})
        memset(array.ctypes.data, value, array.nbytes)
        memoryview(array)[5 * MIB : 6 * MIB] = bytes(MIB)
        with ticket.wait(timeout=60) as snapshot:
            assert_same(snapshot.state()["a"], before)


def test_writes_by_the_kernel(stager, tmp_path):
    array = np.zeros(24 * MIB, np.uint8)
    fresh = np.random.default_rng(0).integers(0, 255, 24 * MIB, np.uint8)
    (tmp_path / "fresh").write_bytes(fresh.tobytes())
    ours, theirs = socket.socketpair()
    for _ in range(5):
        before = array.copy()
        ticket = stager.stage({"a": array})
        with open(tmp_path / "fresh", "rb", buffering=0) as file:
            assert file.readinto(memoryview(array)[: 12 * MIB]) == 12 * MIB
        feeder = threading.Thread(target=theirs.sendall, args=(fresh[12 * MIB :],))
        feeder.start()
        received, rest = 0, memoryview(array)[12 * MIB :]
        while received < 12 * MIB:
            received += ours.recv_into(rest[received:])
        feeder.join()
        assert (array == fresh).all()
        with ticket.wait(timeout=60) as snapshot:
            assert_same(snapshot.state()["a"], before)
        array[:] = 1


def test_tensors_that_are_dropped_replaced_or_given_new_data(stager):
    for _ in range(8):
        state = {name: torch.rand(2 * MIB) for name in ("dropped", "replaced", "data")}

        def overwrite(state=state):
            del state["dropped"]
            state["replaced"] = torch.zeros(2 * MIB)
            state["data"].data = torch.zeros(2 * MIB)

        check(stager, state, overwrite)


def test_a_storage_that_is_resized_is_an_error_that_names_it(stager):
    """Or a right snapshot, when the capture was faster; never a torn one, never a signal."""
    other = torch.rand(8 * MIB)
    for _ in range(8):
        state = {"model": {"other": other, "weight": torch.rand(8 * MIB)}}
        before = clone(state)
        ticket = stager.stage(state)
        state["model"]["weight"].untyped_storage().resize_(0)
        reused = torch.zeros(8 * MIB)
        try:
            with ticket.wait(timeout=60) as snapshot:
                assert_same(snapshot.state(), before)
        except Error as error:
            assert error.code == "invalid"
            assert "'model.weight' was freed" in str(error)
        del reused
    check(stager, {"other": other}, lambda: other.add_(1))


def test_children_write_for_themselves(stager):
    state = {"w": torch.rand(6 * MIB)}

    def overwrite():
        pid = os.fork()
        if pid == 0:
            state["w"].numpy()[:] = 1
            try:
                stager.stage(state)
            except Error as error:
                os._exit(0 if error.code == "closed" else 2)
            os._exit(3)
        state["w"].add_(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    for _ in range(10):
        check(stager, state, overwrite)


def test_saves_of_a_checkpointer(tmp_path):
    state = {"w": torch.rand(6 * MIB), "step": 0}
    saved = []
    with Checkpointer(tmp_path, capture="overlapped") as ckpt:
        for step in range(10):
            state["step"] = step
            saved.append(clone(state))
            ticket = ckpt.save(step, state)
            state["w"].add_(1)
        ckpt.wait()
        assert ticket.capture.startswith("overlapped")
        for step in range(10):
            assert_same(ckpt.restore(step).state, saved[step])


def test_a_save_that_loses_its_memory_fails_and_the_next_goes_on(tmp_path):
    with Checkpointer(tmp_path, capture="overlapped") as ckpt:
        for step in range(5):
            state = {"w": torch.rand(16 * MIB)}
            before = clone(state)
            ticket = ckpt.save(step, state)
            state["w"].untyped_storage().resize_(0)
            try:
                ticket.wait(timeout=60)
            except Error as error:
                assert "'w'" in str(error)
                assert step not in ckpt.steps()
            else:
                assert_same(ckpt.restore(step).state, before)
        ckpt.save(10, {"w": torch.ones(16 * MIB)}).wait()
        assert ckpt.latest() == 10


def test_automatic_overlaps_what_is_worth_it_and_says_why_not():
    with Stager() as stager:
        ticket = stager.stage({"w": torch.rand(40 * MIB)})
        assert ticket.capture.startswith("overlapped (")
        ticket.wait().close()
        assert "no pages" not in ticket.metrics()["memory"]
    with Stager(huge_pages=True) as stager:
        ticket = stager.stage({"w": torch.rand(40 * MIB)})
        assert ticket.capture.startswith("overlapped (")
        ticket.wait().close()
        ticket = stager.stage({"w": torch.rand(MIB)})
        assert ticket.done()
        assert "copied as soon as protected" in ticket.capture
        ticket.wait().close()
        shared = torch.rand(40 * MIB).share_memory_()
        ticket = stager.stage({"w": shared})
        assert ticket.done()
        assert ticket.capture.startswith("blocking (") and "shared memory" in ticket.capture


def test_the_figures_of_a_capture():
    with Stager(capture="overlapped") as stager:
        state = {"w": torch.rand(8 * MIB), "small": torch.rand(10)}
        ticket = stager.stage(state)
        state["w"].zero_()
        ticket.wait_captured(timeout=60)
        assert ticket.is_captured()
        metrics = ticket.metrics()
        assert 40 <= metrics["at_once_nbytes"] < MIB
        assert metrics["captured_s"] > metrics["blocked_s"] > metrics["waited_s"] == 0
        assert metrics["faults_nbytes"] <= metrics["faults"] * 2 * MIB
        ticket.wait(timeout=60).close()
        done, total = ticket.progress()
        assert done == total == metrics["nbytes"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give up what root may do")
def test_without_permission_it_is_an_error_with_the_command_or_blocking_with_the_reason(run_python):
    with open("/proc/sys/vm/unprivileged_userfaultfd") as sysctl:
        if sysctl.read().strip() == "1":
            pytest.skip("everybody has the permission here")
    run_python(
        """
        import os, torch, understudy
        os.setgid(65534), os.setuid(65534)
        try:
            understudy.Stager(capture="overlapped")
        except understudy.Error as error:
            assert error.code == "unsupported"
            assert "sysctl vm.unprivileged_userfaultfd=1" in str(error), error
        else:
            raise AssertionError("no error")
        ticket = understudy.Stager().stage({"w": torch.ones(8 << 20)})
        assert ticket.done()
        why = ticket.capture
        assert why.startswith("blocking (kernel faults are not permitted"), why
        """
    )


def test_huge_pages_serve_overlapped_captures_only():
    with pytest.raises(Error, match="huge_pages") as e:
        Stager(capture="blocking", huge_pages=True)
    assert e.value.code == "invalid"


def test_the_interpreter_ends_during_a_capture(run_python):
    run_python(
        """
        import torch, understudy
        stager = understudy.Stager(capture="overlapped")
        state = {f"w{i}": torch.rand(8 << 20) for i in range(4)}
        ticket = stager.stage(state)
        for w in state.values():
            w.zero_()
        ticket = stager.stage(state)
        """
    )


def test_nothing_is_left_open_or_mapped():
    state = {f"t{i}": torch.rand(30_000) for i in range(300)}

    def counts():
        with open("/proc/self/maps") as maps:
            return len(os.listdir("/proc/self/fd")), sum(1 for _ in maps)

    with Stager(capture="overlapped") as stager:
        check(stager, state, lambda: None)
        before = counts()
        for _ in range(30):
            check(stager, state, lambda: [t.add_(1) for t in state.values()])
        after = counts()
    assert after[0] == before[0]
    # Not 300 or 600: the storages' pages are no mappings of their own.
    assert after[1] < before[1] + 50
