"""Going back to an earlier step, and on from there."""

import logging
import os
import signal

import pytest
import torch

from understudy import Checkpointer, Error

# Resumes from 300, saves two steps more, the last of them over one of the old future where that is
# left, says so, and waits to be killed.
TRAINER = """
import signal, sys
import torch
import understudy

run, discard = sys.argv[1], sys.argv[2] == "True"
state = {"w": torch.zeros(1000), "step": 0}
ckpt = understudy.Checkpointer(run, keep=3)
assert ckpt.resume(state, step=300, discard_newer=discard) == 300
for step in (310, 400):
    state["step"] = step
    state["w"][:] = -step
    ckpt.save(step, state, overwrite=True).wait()
print("saved", flush=True)
import os
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def run(tmp_path):
    with Checkpointer(tmp_path) as ckpt:
        for step in (200, 300, 400, 500):
            ckpt.save(step, {"w": torch.full((1000,), float(step)), "step": step}).wait()
    return tmp_path


@pytest.mark.parametrize("discard", [True, False])
def test_a_crash_after_a_rollback(discard, run, run_python):
    done = run_python(TRAINER, run, discard, status=-signal.SIGKILL)
    assert done.stdout == "saved\n"
    state = {"w": torch.zeros(1000), "step": 0}
    with Checkpointer(run) as ckpt:
        newest = ckpt.resume(state)
        assert newest == (400 if discard else 500)
        assert torch.equal(state["w"], torch.full((1000,), -400.0 if discard else 500.0))
        assert set(ckpt.steps()) >= {300, 310, 400}
        assert (500 in ckpt.steps()) is not discard


def test_what_was_discarded_is_told(run):
    with Checkpointer(run) as ckpt:
        target = {"w": torch.zeros(1000), "step": 0}
        assert ckpt.resume(target, step=300) == 300
        assert ckpt.resumed.discarded == []
        assert ckpt.resume(target, step=300, discard_newer=True) == 300
        assert ckpt.resumed.discarded == [400, 500]
        assert ckpt.steps() == [200, 300] and target["step"] == 300
        assert ckpt.resume(target, discard_newer=True) == 300
        assert ckpt.resumed.discarded == []
    assert not [name for name in os.listdir(run) if ".del-" in name]


def test_a_save_below_the_newest_step_warns_once(run, caplog):
    with caplog.at_level(logging.WARNING, "understudy"), Checkpointer(run, keep=2) as ckpt:
        tickets = [ckpt.save(step, {"step": step}) for step in (310, 320, 501)]
        assert [t.metrics()["newer_step"] for t in tickets] == [500, 500, None]
    (record,) = caplog.records
    assert "step 310 is saved, and there is step 500" in record.getMessage()
    assert "discard_newer=True" in record.getMessage()


def test_retention_keeps_the_new_branch(run):
    with Checkpointer(run, keep=2) as ckpt:
        ckpt.resume({"w": torch.zeros(1000), "step": 0}, step=300)
        for step in (310, 320, 330):
            ckpt.save(step, {"step": step}).wait()
        assert ckpt.steps() == [320, 330, 400, 500]
        ckpt.save(600, {"step": 600}).wait()
        assert ckpt.steps() == [500, 600]


def test_nothing_is_discarded_when_the_state_does_not_fit(run):
    with Checkpointer(run) as ckpt:
        with pytest.raises(Error, match="nothing was changed"):
            ckpt.resume({"other": 1}, step=300, discard_newer=True)
        assert ckpt.steps() == [200, 300, 400, 500]


def test_the_lock_of_another_process_is_respected(run, run_python):
    with Checkpointer(run) as ckpt:
        ckpt.save(600, {"step": 1}).wait()
        run_python(
            """
            import sys, torch, understudy
            state = {"w": torch.zeros(1000), "step": 0}
            with understudy.Checkpointer(sys.argv[1]) as ckpt:
                try:
                    ckpt.resume(state, step=300, discard_newer=True)
                except understudy.Error as e:
                    assert e.code == "busy" and state["step"] == 0, e
                else:
                    raise AssertionError
            """,
            run,
        )
        assert ckpt.steps() == [200, 300, 400, 500, 600]
