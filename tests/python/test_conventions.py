"""Python's own conventions: kinds of errors, pickles, reprs, python -m, folders given as files."""

import copy
import errno
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import child_environment
from safetensors import safe_open
from safetensors.torch import save_file as save_plain

import understudy
from understudy import Checkpointer, Error, Stager, load_file, save_file


def error_of(call) -> Error:
    with pytest.raises(Error) as raised:
        call()
    return raised.value


@pytest.fixture
def errors(tmp_path) -> dict[str, Error]:
    """One of each code that an everyday call can give."""
    save_file({"w": torch.zeros(1000)}, tmp_path / "damaged")
    data = bytearray((tmp_path / "damaged").read_bytes())
    data[-1] ^= 1
    (tmp_path / "damaged").write_bytes(data)
    (tmp_path / "zip").write_bytes(b"PK\x03\x04" + bytes(40))
    ring = tmp_path / "ring"
    ring.symlink_to(ring)
    closed = Checkpointer(tmp_path / "closed")
    closed.close()
    return {
        "invalid": error_of(lambda: Checkpointer(tmp_path, images=0)),
        "unsupported": error_of(lambda: load_file(tmp_path / "zip")),
        "not_found": error_of(lambda: load_file(tmp_path / "none")),
        "corrupt": error_of(lambda: load_file(tmp_path / "damaged")),
        "io": error_of(lambda: load_file(ring)),
        "closed": error_of(lambda: closed.save(1, {})),
    }


def test_errors_are_pythons_own_kinds_too(errors):
    kinds = {"invalid": ValueError, "not_found": FileNotFoundError, "io": OSError}
    for code, error in errors.items():
        assert error.code == code, error
        assert type(error).__name__ == "Error" and type(error).__module__ == "understudy"
        assert isinstance(error, Error) and str(error)
        for other in (ValueError, FileNotFoundError, OSError, TimeoutError):
            assert isinstance(error, other) == issubclass(kinds.get(code, Error), other), code
    assert errors["not_found"].errno == errno.ENOENT
    assert errors["io"].errno == errno.ELOOP


def test_the_number_is_the_systems():
    error = error_of(lambda: load_file("/dev/shm/" + "n" * 300))
    assert error.errno == errno.ENAMETOOLONG and str(error).startswith("cannot ")


def test_a_timeout_is_pythons(tmp_path):
    with Checkpointer(tmp_path, max_write_rate=2**20) as ckpt:
        ticket = ckpt.save(1, {"w": torch.zeros(2**18)})
        error = error_of(lambda: ticket.wait(timeout=0))
        assert error.code == "timeout" and isinstance(error, TimeoutError)


def test_errors_survive_a_pickle(errors):
    for code, error in errors.items():
        error.add_note("a note") if hasattr(error, "add_note") else None
        for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert type(again) is type(error) and again.code == code
            assert str(again) == str(error) and again.args == error.args
            assert getattr(again, "errno", None) == getattr(error, "errno", None)
            assert getattr(again, "__notes__", None) == getattr(error, "__notes__", None)


def test_own_subclasses_stay_what_they_are():
    error = pickle.loads(pickle.dumps(Mine("a", 1)))
    assert type(error) is Mine and error.args == ("a", 1) and error.code == "invalid"
    assert type(pickle.loads(pickle.dumps(Error("x")))) is Error


class Mine(Error):
    pass


def test_reprs_tell(tmp_path):
    ckpt = Checkpointer(tmp_path)
    assert repr(ckpt) == f"Checkpointer({str(tmp_path)!r}, steps=[])"
    for step in range(7):
        ticket = ckpt.save(step, {"w": torch.zeros(10)})
    ticket.wait()
    assert repr(ticket) == "Ticket(done)"
    assert repr(ckpt) == f"Checkpointer({str(tmp_path)!r}, steps=[..., 2, 3, 4, 5, 6] (7 in all))"
    ckpt.close()
    assert repr(ckpt).endswith(", closed)")
    tmp_path.joinpath("step-6").rename(tmp_path.parent / "elsewhere")
    with Checkpointer(tmp_path / "slow", max_write_rate=2**20) as slow:
        ticket = slow.save(1, {"w": torch.zeros(2**18)})
        assert repr(ticket).startswith("Ticket(") and " bytes)" in repr(ticket)
        (tmp_path / "slow").rename(tmp_path / "moved")
        assert "steps unknown (io)" in repr(slow)
        (tmp_path / "moved").rename(tmp_path / "slow")
    stager = Stager(images=3)
    snapshot = stager.stage({"w": np.zeros(100)}).wait()
    assert repr(stager) == "Stager(images=3)"
    assert repr(snapshot) == f"Snapshot({snapshot.nbytes} bytes)"
    snapshot.close()
    stager.close()
    assert (repr(snapshot), repr(stager)) == ("Snapshot(closed)", "Stager(images=3, closed)")


def test_a_failed_ticket_tells_why(tmp_path):
    ckpt = Checkpointer(tmp_path / "run")
    ckpt.save(1, {"x": 1}).wait()
    ckpt.close()
    ckpt = Checkpointer(tmp_path / "run", images=1, when_busy="skip")
    stager = Stager(images=1, when_busy="skip")
    kept = stager.stage({"w": np.zeros(3)}).wait()
    ticket = stager.stage({"w": np.zeros(3)})
    assert repr(ticket).startswith("Ticket(failed: ")
    kept.close()
    ckpt.close()


@pytest.fixture
def run_cli():
    """``python -m understudy``."""
    program = os.environ.get("UNDERSTUDY_CLI")
    environment = child_environment()
    if program:
        environment["PATH"] = os.path.dirname(program) + os.pathsep + environment["PATH"]

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "understudy", *map(str, arguments)],
            capture_output=True,
            text=True,
            env=environment,
            timeout=120,  # what hangs must fail here and not hang the suite
            check=False,
        )

    return run


def test_the_command_line_by_python(tmp_path, run_cli):
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(3, {"w": torch.zeros(4)}).wait()
    assert " 3 " in run_cli("ls", tmp_path).stdout
    assert run_cli("show", tmp_path / "none").returncode == 2
    assert run_cli("--version").stdout == f"understudy {understudy.__version__}\n"


def test_what_another_tool_has_rewritten_is_a_plain_file(tmp_path, run_cli):
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    state = {"a": torch.arange(5), "b": {"c": torch.randn(3, 4)}, "n": 7}
    save_file(state, ours, metadata={"by": "me"})
    with safe_open(ours, "pt") as opened:
        names = opened.keys()
        tensors = {name: opened.get_tensor(name) for name in names}
        save_plain(tensors, theirs, opened.metadata())
    loaded = load_file(theirs)
    assert sorted(loaded) == sorted(tensors) and torch.equal(loaded["a"], state["a"])
    verified = run_cli("verify", theirs)
    assert verified.returncode == 0 and "cannot be verified" in verified.stdout
    # A step's file that was rewritten is damage: the manifest knows another.
    with Checkpointer(tmp_path / "run") as ckpt:
        step = ckpt.save(1, state).wait()
        (shard,) = step.glob("*.safetensors")
        with safe_open(shard, "pt") as opened:
            save_plain({"a": state["a"]}, shard, opened.metadata())
        assert error_of(ckpt.restore).code == "corrupt"


def test_load_file_takes_a_steps_folder(tmp_path):
    with Checkpointer(tmp_path) as ckpt:
        step = ckpt.save(3, {"w": torch.arange(4), "n": (1, "x")}).wait()
    state = load_file(step)
    assert state["n"] == (1, "x") and torch.equal(state["w"], torch.arange(4))
    with pytest.raises(Error, match="give a step's folder"):
        load_file(tmp_path)


def test_load_file_takes_a_model_of_several_files(tmp_path):
    whole = {f"layers.{i}.weight": torch.randn(8, 8) for i in range(6)}
    names = list(whole)
    weight_map = {}
    for part, taken in enumerate((names[:2], names[2:5], names[5:])):
        file = f"model-{part + 1:05}-of-00003.safetensors"
        save_plain({name: whole[name] for name in taken}, tmp_path / file, {"format": "pt"})
        weight_map |= dict.fromkeys(taken, file)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"metadata": {}, "weight_map": ' + str(weight_map).replace("'", '"') + "}")
    state = load_file(tmp_path)
    assert list(state) == names
    assert all(torch.equal(state[name], whole[name]) for name in names)
    assert list(load_file(tmp_path, names="layers.3")) == ["layers.3.weight"]
    with pytest.raises(Error, match="give the folder that it lies in"):
        load_file(index)
    Path(tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="model-00002-of-00003"):
        load_file(tmp_path)
