"""The notice before a job is preempted, in one process."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import child_environment

import understudy
from understudy import Checkpointer, Error, Preemption


@pytest.fixture
def ckpt(tmp_path: Path) -> Checkpointer:
    return Checkpointer(tmp_path / "run")


def send(number: int) -> None:
    """Sends this process a signal; its handler has run when this returns."""
    signal.raise_signal(number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_notice_and_ends_nothing(ckpt: Checkpointer, number: int) -> None:
    with Preemption(ckpt, grace=60) as stop:
        assert not stop.now()
        assert stop.left == 60
        send(number)
        assert stop.now()
        assert 0 < stop.left < 60
        assert stop.save(3, {"n": 3})
        with pytest.raises(SystemExit) as ended:
            stop.exit()
    assert ended.value.code == 128 + number
    assert ckpt.latest() == 3
    assert ckpt.restore(3).state == {"n": 3}


def test_handlers_of_before_are_called_and_come_back(ckpt: Checkpointer) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        mine = signal.getsignal(signal.SIGTERM)
        with Preemption(ckpt) as stop:
            send(signal.SIGTERM)
            assert stop.now() and seen == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is mine
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_handler_that_was_put_in_its_place_stays(ckpt: Checkpointer) -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        with Preemption(ckpt):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_first_of_two_signals_counts(ckpt: Checkpointer) -> None:
    with Preemption(ckpt, grace=60) as stop:
        send(signal.SIGUSR1)
        left = stop.left
        send(signal.SIGTERM)
        assert stop.left <= left
        with pytest.raises(SystemExit) as ended:
            stop.exit()
    assert ended.value.code == 128 + signal.SIGUSR1


def test_nothing_is_begun_where_no_time_is_left(
    ckpt: Checkpointer, caplog: pytest.LogCaptureFixture
) -> None:
    ckpt.save(1, {"n": 1}).wait()
    with Preemption(ckpt, grace=1e-6) as stop:
        send(signal.SIGTERM)
        while stop.left > 0:
            time.sleep(0.001)
        assert not stop.save(2, {"n": 2})
        assert stop.save(1, {"n": 1}), "it is there already"
    assert ckpt.steps() == [1]
    assert "the newest durable step is 1" in caplog.text


def test_a_failing_save_is_raised(ckpt: Checkpointer) -> None:
    with Preemption(ckpt) as stop, pytest.raises(Error, match="'x'") as refused:
        send(signal.SIGTERM)
        stop.save(1, {"x": threading.Lock()})
    assert refused.value.code == "unsupported"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"grace": 0}, "grace is 0"),
        ({"every": 0}, "every is 0"),
        ({"signals": [signal.SIGKILL]}, "signals cannot be taken here"),
    ],
)
def test_what_cannot_be_is_refused(ckpt: Checkpointer, arguments: dict, message: str) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Error, match=message) as refused, Preemption(ckpt, **arguments):
        pass
    assert refused.value.code == "invalid"
    assert signal.getsignal(signal.SIGTERM) == before


def test_only_a_checkpointer_and_the_main_thread(ckpt: Checkpointer) -> None:
    with pytest.raises(Error, match="must be a Checkpointer"):
        Preemption("runs/a")  # type: ignore[arg-type]
    refused: list[Error] = []

    def enter() -> None:
        try:
            Preemption(ckpt).__enter__()
        except Error as error:
            refused.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert "main thread" in str(refused[0])


JOB = """
import os, sys
import torch, understudy

folder, parent = sys.argv[1], os.getppid()
app = {"w": torch.zeros(200_000), "step": 0}
ckpt = understudy.Checkpointer(folder, keep=2)
with understudy.Preemption(ckpt, grace=100) as stop:
    step = ckpt.resume(app) or 0
    assert bool((app["w"] == step).all()) and app["step"] == step
    while True:
        print("at", step, flush=True)  # the parent sends the signal at one of these
        if stop.now():
            assert stop.save(step, app)
            stop.exit()
        step += 1
        app["w"] += 1
        app["step"] = step
        ckpt.save(step, app)
"""


def test_preempted_again_and_again_at_any_moment(tmp_path: Path) -> None:
    """Nothing of what was trained is lost, in saves and in resumes that a signal interrupts."""
    reached = 0
    for turn in range(4):
        job = subprocess.Popen(
            [sys.executable, "-c", JOB, tmp_path / "run"],
            stdout=subprocess.PIPE,
            text=True,
            env=child_environment(),
        )
        assert job.stdout is not None
        lines = iter(job.stdout.readline, "")
        seen = [next(lines) for _ in range(1 + turn)]
        os.kill(job.pid, signal.SIGTERM)
        seen += lines
        assert job.wait(timeout=300) == 128 + signal.SIGTERM
        steps = [int(line.split()[1]) for line in seen]
        assert steps[0] == reached
        reached = steps[-1]
        assert understudy.load_file(tmp_path / "run" / f"step-{reached}")["step"] == reached
    assert reached >= 6
