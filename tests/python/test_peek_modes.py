"""Both ways to know what a tensor is: reading in place what no function tells, and without."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from staging import limit  # noqa: F401

pytestmark = pytest.mark.usefixtures("limit")
torch = pytest.importorskip("torch")
HERE = Path(__file__).parent

# What depends most on what is known of a tensor: recognition, views, changes of storage.
SUITES = [
    "test_state_dict_stager_again.py",
    "test_state_dict_stager_rules.py",
    "test_shrunk_memory.py",
]
AGAIN = "test_stage_again_lifetimes.py"


@pytest.mark.parametrize("peek", ["0", "1"])
def test_the_environment_decides(run_python, monkeypatch, peek):
    monkeypatch.setenv("UNDERSTUDY_PEEK", peek)
    run_python(f"""
    import torch, understudy.torch
    from understudy._core import _how_tensors_are_known, _use_peek
    stager = understudy.torch.StateDictStager()
    assert _use_peek(True) == {peek == "1"}
    assert ("stable C functions" in _how_tensors_are_known()) == {peek == "1"}
    assert ("UNDERSTUDY_PEEK is 0" in _how_tensors_are_known()) == {peek == "0"}
    base = torch.arange(24.0)
    many = base.view(1, 2, 1, 3, 1, 4, 1)  # of more dimensions than torch keeps in place
    conjugate = torch.ones(3, dtype=torch.complex64).conj()
    state = {{"base": base, "part": base[3:9], "t": base.view(4, 6).t(), "many": many,
             "conjugate": conjugate, "empty": base[:0], "scalar": base[5]}}
    for n in range(4):
        base.fill_(n)
        staged = stager.stage(state)
        snapshot = understudy.Stager().stage(state).wait().state()
        for name, x in state.items():
            assert torch.equal(staged[name], x) and torch.equal(snapshot[name], x), name
            assert staged[name].stride() == x.stride(), name
    """)


@pytest.mark.parametrize("suite", [*SUITES, AGAIN])
def test_suites_without_reading_in_place(suite):
    """They run with it by themselves."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", HERE / suite]
    environment = {**os.environ, "UNDERSTUDY_PEEK": "0"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize("peek", ["0", "1"])
def test_doctor_says_which_way_is_taken(monkeypatch, peek):
    cli = os.environ.get("UNDERSTUDY_CLI", "build/release/cli/understudy")
    folder = (HERE.parents[1] / cli).parent
    if not (folder / "understudy").exists():
        pytest.skip("the command line was not built")
    path = os.pathsep.join([str(folder), os.environ["PATH"]])
    environment = {**os.environ, "UNDERSTUDY_PEEK": peek, "PATH": path}

    def doctor(*arguments):
        command = [sys.executable, "-m", "understudy", "doctor", *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=280, check=True
        )
        return done.stdout

    expected = "UNDERSTUDY_PEEK is 0" if peek == "0" else "by its stable C functions"
    assert expected in doctor() and "userfaultfd" in doctor()
    found = json.loads(doctor("--json"))
    assert expected in found["torch_tensors"] and found["probes"]
