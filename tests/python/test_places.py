"""Where things lie: relative folders, moved ones, names that are no UTF-8, wrong paths."""

import logging
import os
from pathlib import Path

import pytest
import torch

import understudy
from understudy import Checkpointer, Error

# A name that no UTF-8 has: Latin-1 for "Läufe".
LATIN = os.fsdecode(b"L\xe4ufe")


def state_at(step: int) -> dict:
    return {"w": torch.full((100,), float(step)), "step": step}


def test_a_relative_folder_stays_where_it_was(tmp_path, monkeypatch):
    (tmp_path / "other" / "runs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with Checkpointer("runs") as ckpt:
        ckpt.save(1, state_at(1)).wait()
        monkeypatch.chdir(tmp_path / "other")
        assert ckpt.directory == tmp_path / "runs"
        assert ckpt.save(2, state_at(2)).wait() == tmp_path / "runs" / "step-2"
        assert (ckpt.steps(), ckpt.latest()) == ([1, 2], 2)
        state = state_at(0)
        assert ckpt.resume(state) == 2 and state["step"] == 2
        assert ckpt.restore(1).state["step"] == 1
    assert list((tmp_path / "other" / "runs").iterdir()) == []


def test_a_folder_that_was_moved_takes_nothing(tmp_path):
    run = tmp_path / "run"
    with Checkpointer(run) as ckpt:
        ckpt.save(1, state_at(1)).wait()
        run.rename(tmp_path / "away")
        run.mkdir()
        for call in (lambda: ckpt.save(2, state_at(2)), ckpt.steps, ckpt.restore):
            with pytest.raises(Error, match="renamed, removed or replaced") as raised:
                call()
            assert raised.value.code == "io"
    assert list(run.iterdir()) == []


def test_names_that_are_no_utf8_work_throughout(tmp_path, caplog):
    caplog.set_level(logging.INFO, "understudy")
    run = tmp_path / LATIN
    with Checkpointer(run) as ckpt:
        assert ckpt.directory == run
        assert ckpt.save(1, state_at(1)).wait() == run / "step-1"
        assert ckpt.resume(state_at(0)) == 1
        with pytest.raises(Error):
            ckpt.restore(7)
        (run / "step-2").mkdir()
        state = state_at(0)
        assert ckpt.resume(state, on_damage="previous") == 1
        ((step, reason),) = ckpt.resumed.skipped
        assert step == 2 and "checkpoint.json" in reason
    assert any("are written by" in record.getMessage() for record in caplog.records)
    assert any(LATIN in record.getMessage() for record in caplog.records)
    file = tmp_path / (LATIN + ".safetensors")
    understudy.save_file(state_at(3), file)
    assert understudy.load_file(os.fsencode(file))["step"] == 3
    with pytest.raises(Error, match="No such file"):
        understudy.load_file(tmp_path / (LATIN + "x"))


@pytest.mark.parametrize("path", ["s3://bucket/run", Path("s3://bucket/run"), "~/runs", "", b"~"])
def test_what_is_no_path_makes_nothing(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    for call in (
        lambda: Checkpointer(path),
        lambda: understudy.save_file({}, path),
        lambda: understudy.load_file(path),
    ):
        with pytest.raises(Error) as raised:
            call()
        assert raised.value.code == "invalid"
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_too_long_is_an_error(tmp_path):
    long = str(tmp_path) + "/" + "d/" * 2100
    for call in (
        lambda: Checkpointer(long),
        lambda: understudy.save_file({}, long + "f"),
        lambda: understudy.load_file(long + "f"),
    ):
        with pytest.raises(Error, match="File name too long") as raised:
            call()
        assert raised.value.code == "io"


def test_somebody_elses_checkpoint_is_named_when_nothing_is_resumed(tmp_path, caplog):
    with Checkpointer(tmp_path) as ckpt:
        assert ckpt.resume(state_at(0)) is None
        assert caplog.records == []
        (tmp_path / "step-0001").mkdir()
        assert ckpt.resume(state_at(0)) is None
        (record,) = caplog.records
        assert record.levelname == "WARNING" and record.name == "understudy"
        assert "nothing was resumed" in record.getMessage()
        assert "step-0001" in record.getMessage()
        ckpt.save(1, state_at(1)).wait()
        caplog.clear()
        assert ckpt.resume(state_at(0)) == 1
        assert caplog.records == []


def test_a_torch_file_is_named(tmp_path):
    torch.save(state_at(1), tmp_path / "new.pt")
    torch.save(state_at(1), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name, what in {"new.pt": "an archive of torch.save", "old.pt": "an old torch.save"}.items():
        with pytest.raises(Error, match=what) as raised:
            understudy.load_file(tmp_path / name)
        assert raised.value.code == "unsupported"
