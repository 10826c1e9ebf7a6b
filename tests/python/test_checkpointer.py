"""The Checkpointer: save, restore, steps, retention, failures."""

import json
import os
import resource
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from same import assert_same

import understudy
from understudy import Checkpointer, Error


def state_at(step: int) -> dict:
    return {"w": torch.full((1000,), float(step)), "step": step, "log": [step] * 3}


def damage(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(data)


def test_save_and_restore(tmp_path):
    with Checkpointer(tmp_path / "new" / "run") as ckpt:
        assert ckpt.latest() is None and ckpt.steps() == []
        ticket = ckpt.save(5, state_at(5), metadata={"loss": 0.5, "tags": ["a", None, True]})
        path = ticket.wait()
        assert isinstance(path, Path) and path.is_dir() and path.parent == ckpt.directory
        assert ckpt.latest() == 5 and ckpt.steps() == [5]
        found = ckpt.restore()
        assert (found.step, found.source) == (5, "disk")
        assert found.reader.startswith("page cache, ")
        assert found.metadata == {"loss": 0.5, "tags": ["a", None, True]}
        assert_same(found.state, state_at(5))
        assert "5" in repr(found)
        assert ticket.metrics()["durable_s"] > 0
        assert ticket.metrics()["writer"]
        assert ticket.done() and ticket.exception() is None


def test_the_state_may_change_at_once(tmp_path):
    with Checkpointer(tmp_path) as ckpt:
        state = state_at(0)
        for step in range(6):
            ckpt.save(step, state)
            state["w"].add_(1)
            state["step"] += 1
            state["log"] = [state["step"]] * 3
        ckpt.wait()
        assert ckpt.steps() == list(range(6))
        for step in range(6):
            assert_same(ckpt.restore(step).state, state_at(step))


def test_parts(tmp_path):
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, {"model": state_at(1), "other": 2}).wait()
        assert_same(ckpt.restore(names="model.w").state, {"model": {"w": state_at(1)["w"]}})


def test_retention(tmp_path):
    with Checkpointer(tmp_path, keep=2) as ckpt:
        for step in (3, 1, 7, 9, 8):
            ckpt.save(step, state_at(step)).wait()
        # 9 is above the step saved last: left behind by a run that was rolled back, or kept for it.
        assert ckpt.steps() == [7, 8, 9]
        ckpt.save(10, state_at(10)).wait()
        assert ckpt.steps() == [9, 10]


def test_a_step_given_twice(tmp_path):
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, state_at(1)).wait()
        with pytest.raises(Error, match="1") as e:
            ckpt.save(1, state_at(2))
        assert e.value.code == "invalid"
        assert_same(ckpt.restore(1).state, state_at(1))
        ckpt.save(1, state_at(2), overwrite=True).wait()
        assert_same(ckpt.restore(1).state, state_at(2))


@pytest.mark.parametrize("step", [True, False, -1, 1.0, "1", None, 2**63, torch.ones(2)], ids=repr)
def test_steps_that_are_none(step, tmp_path):
    with Checkpointer(tmp_path) as ckpt:
        with pytest.raises((Error, TypeError)) as e:
            ckpt.save(step, {})
        assert isinstance(e.value, TypeError) or e.value.code == "invalid"
        assert ckpt.steps() == []


@pytest.mark.parametrize("step", [0, np.int64(3), 2**40])
def test_steps_that_are_fine(step, tmp_path):
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(step, {"a": 1}).wait()
        assert ckpt.steps() == [int(step)]


@pytest.mark.parametrize("keep", [0, -1])
def test_keep_nothing_is_refused(keep, tmp_path):
    with pytest.raises(Error) as e:
        Checkpointer(tmp_path, keep=keep)
    assert e.value.code == "invalid"


@pytest.mark.parametrize("metadata", [{"a": torch.ones(1)}, {1: 2}, {"a": {1, 2}}, [1], {"a": b""}])
def test_metadata_is_json(metadata, tmp_path):
    with Checkpointer(tmp_path) as ckpt:
        with pytest.raises(Error) as e:
            ckpt.save(1, {}, metadata=metadata)
        assert e.value.code == "invalid"
        assert ckpt.steps() == []


def test_the_manifest_is_json(tmp_path):
    with Checkpointer(tmp_path) as ckpt:
        path = ckpt.save(1, state_at(1), metadata={"who": "me"}).wait()
    assert "me" in json.dumps(json.loads((path / "checkpoint.json").read_text()))


def test_nothing_there(tmp_path):
    with Checkpointer(tmp_path) as ckpt:
        for options in ({}, {"step": 3}):
            with pytest.raises(Error) as e:
                ckpt.restore(**options)
            assert e.value.code == "not_found"
        assert ckpt.resume({"a": 1}) is None
        with pytest.raises(Error) as e:
            ckpt.resume({"a": 1}, step=3)
        assert e.value.code == "not_found"
        with pytest.raises(Error):
            ckpt.restore(source="memory")
        with pytest.raises(Error, match="'auto', 'memory', 'disk'"):
            ckpt.restore(source="moon")


def test_two_writers(tmp_path, run_python):
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, {"a": 1}).wait()
        run_python(
            """
            import sys, understudy
            other = understudy.Checkpointer(sys.argv[1])
            assert other.steps() == [1]  # reading takes no lock
            assert other.restore().state == {"a": 1}
            try:
                other.save(2, {"a": 2})
            except understudy.Error as error:
                assert error.code == "busy" and sys.argv[1] in str(error), error
            else:
                raise AssertionError("a second writer was let in")
            """,
            tmp_path,
        )
        ckpt.save(2, {"a": 2}).wait()
        assert ckpt.steps() == [1, 2]


def test_damage_is_named_with_the_newest_whole_step(tmp_path):
    with Checkpointer(tmp_path) as ckpt:
        for step in (1, 2, 3):
            path = ckpt.save(step, state_at(step)).wait()
        (file,) = path.glob("*.safetensors")
        damage(file)
        with pytest.raises(Error, match=r"safetensors") as e:
            ckpt.restore()
        assert e.value.code == "corrupt"
        assert "2" in str(e.value) and str(file) in str(e.value)
        target = {"w": torch.zeros(1000), "step": 0, "log": []}
        with pytest.raises(Error) as e:
            ckpt.resume(target)
        assert e.value.code == "corrupt"
        assert_same(target, {"w": torch.zeros(1000), "step": 0, "log": []})
        assert ckpt.resume(target, on_damage="previous") == 2
        assert_same(target, state_at(2))
        assert ckpt.resumed.step == 2 and ckpt.resumed.source == "disk"
        assert ckpt.resumed.reader.startswith("page cache, ")
        ((step, reason),) = ckpt.resumed.skipped
        assert step == 3 and file.name in reason


@pytest.fixture
def limit_files():
    """Called with True: no file of this process may grow beyond a megabyte from then on."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(on: bool) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000 if on else old[0], old[1]))

    yield limit
    limit(False)


@pytest.mark.parametrize("who", ["ticket", "wait", "save", "close"])
def test_a_failed_save_is_raised_once_and_the_next_one_works(who, tmp_path, limit_files):
    ckpt = Checkpointer(tmp_path, images=1)
    ckpt.save(1, {"w": np.ones(1_000_000)}).wait()  # makes the image, which is reused
    limit_files(True)
    ticket = ckpt.save(2, {"w": np.ones(1_000_000)})
    while not ticket.done():
        time.sleep(0.001)
    limit_files(False)
    assert isinstance(ticket.exception(), Error)
    raiser = {
        "ticket": ticket.wait,
        "wait": ckpt.wait,
        "save": lambda: ckpt.save(3, state_at(3)),
        "close": ckpt.close,
    }[who]
    with pytest.raises(Error, match="shard") as e:
        raiser()
    assert e.value.code in ("io", "no_space")
    if who != "close":
        assert ckpt.wait() is True, "it was raised once"
        ckpt.save(4, state_at(4)).wait()
        assert ckpt.steps() == [1, 4]
    ckpt.close()
    assert not [n for n in os.listdir(tmp_path) if "tmp" in n]


def test_files_of_others_are_left_alone(tmp_path):
    names = ["notes.txt", "step-x", "step-7.bak", ".hidden"]
    for name in names:
        (tmp_path / name).write_text("mine")
    (tmp_path / "stepping").mkdir()
    with Checkpointer(tmp_path, keep=1) as ckpt:
        for step in range(3):
            ckpt.save(step, state_at(step)).wait()
        assert ckpt.steps() == [2]
    assert {*names, "stepping"} <= set(os.listdir(tmp_path))
    assert all((tmp_path / name).read_text() == "mine" for name in names)


def test_closed_is_closed(tmp_path):
    ckpt = Checkpointer(tmp_path)
    ckpt.save(1, {"a": 1})
    ckpt.close()
    ckpt.close()
    assert ckpt.steps() == [1]
    with pytest.raises(Error) as e:
        ckpt.save(2, {})
    assert e.value.code == "closed"


def test_leaving_the_context_waits(tmp_path):
    with Checkpointer(tmp_path) as ckpt:
        ticket = ckpt.save(1, state_at(1))
    assert ticket.done()
    assert understudy.Checkpointer(tmp_path).steps() == [1]


def test_wait_tells_whether_it_was_enough(tmp_path):
    with Checkpointer(tmp_path) as ckpt:
        assert ckpt.wait() is True
        ckpt.save(1, {"w": torch.zeros(20_000_000)})
        assert ckpt.wait(timeout=0) in (True, False)
        assert ckpt.wait(timeout=300) is True
        assert ckpt.latest() == 1


def test_bad_arguments(tmp_path):
    with Checkpointer(tmp_path) as ckpt:
        ticket = ckpt.save(1, {})
        with pytest.raises(Error):
            ticket.wait(timeout=float("nan"))
        with pytest.raises(TypeError):
            ticket.wait(timeout="soon")
        with pytest.raises(TypeError):
            ckpt.save(2, {}, None)
        assert ticket.wait(timeout=float("inf")).exists()


def test_pickles_need_permission(tmp_path):
    with Checkpointer(tmp_path, allow_pickle=True) as ckpt:
        ckpt.save(1, {"o": {1: complex}, "w": torch.ones(1)}).wait()
        assert ckpt.restore().state["o"] == {1: complex}
    with Checkpointer(tmp_path) as ckpt, pytest.raises(Error) as e:
        ckpt.restore()
    assert e.value.code == "unsupported"
