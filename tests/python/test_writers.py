"""Who writes, how fast at most, and which save goes first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import understudy

WRITERS = ["auto", "io_uring", "threads", "buffered"]
MIB = 1 << 20


def state(nbytes: int = 9 * MIB, seed: int = 1) -> dict[str, np.ndarray]:
    return {"w": np.random.default_rng(seed).integers(0, 255, nbytes, dtype=np.uint8)}


def or_skip(error: understudy.Error) -> None:
    """A writer that this folder or machine refuses is refused by name."""
    if error.code != "unsupported":
        raise error
    pytest.skip(str(error))


@pytest.mark.parametrize("writer", WRITERS)
def test_every_writer_writes_steps_and_is_named(tmp_path: Path, writer: str) -> None:
    with understudy.Checkpointer(tmp_path, writer=writer) as ckpt:
        ticket = ckpt.save(1, state())
        try:
            ticket.wait()
        except understudy.Error as error:
            or_skip(error)
        named = ticket.metrics()["writer"]
        assert named.split(";")[0] in WRITERS[1:]
        assert writer == "auto" or named == writer
        assert np.array_equal(ckpt.restore().state["w"], state()["w"])


@pytest.mark.parametrize("writer", WRITERS)
def test_every_writer_writes_files(tmp_path: Path, writer: str) -> None:
    file = tmp_path / "f.safetensors"
    try:
        understudy.save_file(state(), file, writer=writer)
    except understudy.Error as error:
        or_skip(error)
    assert np.array_equal(understudy.load_file(file)["w"], state()["w"])


def test_the_choice_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "understudy"), understudy.Checkpointer(tmp_path) as ckpt:
        for step in range(3):
            ckpt.save(step, state()).wait()
        writer = ckpt.save(4, state())
    (record,) = caplog.records
    assert record.getMessage() == f"steps of {tmp_path} are written by {writer.metrics()['writer']}"


def test_no_such_writer(tmp_path: Path) -> None:
    with pytest.raises(understudy.Error, match="'auto', 'io_uring', 'threads', 'buffered'"):
        understudy.Checkpointer(tmp_path, writer="tape")
    with pytest.raises(understudy.Error, match="writer is 'tape'"):
        understudy.save_file(state(), tmp_path / "f", writer="tape")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rate", ["fast", True, -1, 0, float("nan"), float("inf"), 1000])
def test_rates_that_cannot_be(tmp_path: Path, rate: object) -> None:
    with pytest.raises(understudy.Error, match="max_write_rate") as raised:
        understudy.Checkpointer(tmp_path, max_write_rate=rate)
    assert raised.value.code == "invalid"


def test_a_rate_is_kept(tmp_path: Path) -> None:
    """A lower bound: a machine that is slower passes all the more."""
    rate = 40e6
    with understudy.Checkpointer(tmp_path, max_write_rate=rate) as ckpt:
        ticket = ckpt.save(1, state())
        ticket.wait()
        metrics = ticket.metrics()
        assert metrics["durable_s"] - metrics["captured_s"] >= metrics["nbytes"] / rate
        assert ticket.progress() == (metrics["nbytes"], metrics["nbytes"])


def test_an_urgent_save_drops_one_that_has_not_begun(tmp_path: Path) -> None:
    # The rate keeps the first busy for a second. Where the second was begun all the same, because
    # this process stood still for so long, it is tried again.
    with understudy.Checkpointer(tmp_path, images=3, max_write_rate=9 * MIB) as ckpt:
        for base in range(0, 50, 10):
            ckpt.save(base + 1, state())
            second = ckpt.save(base + 2, state())
            ckpt.save(base + 3, state(seed=3), urgent=True).wait()
            if second.exception() is not None:
                break
        with pytest.raises(understudy.Error, match=f"urgent save of step {base + 3}") as raised:
            second.wait()
        assert raised.value.code == "busy"
        assert ckpt.wait()  # it is not raised again
        assert base + 2 not in ckpt.steps()
        assert {base + 1, base + 3} <= set(ckpt.steps())
        assert np.array_equal(ckpt.restore().state["w"], state(seed=3)["w"])
