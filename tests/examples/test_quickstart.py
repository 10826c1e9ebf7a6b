"""The shortest examples, in Python and in C++."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import torch
from conftest import ROOT, Run

import understudy


def test_quickstart_trains_then_resumes_where_it_stopped(run: Run, tmp_path: Path) -> None:
    first = run("examples/quickstart.py", tmp_path / "run")
    assert first.returncode == 0
    assert "starting after step 0" in first.stdout
    assert first.stdout.endswith("[100, 200, 300]\n")
    second = run("examples/quickstart.py", tmp_path / "run")
    assert second.returncode == 0
    assert "starting after step 300" in second.stdout


@pytest.fixture(scope="module")
def cpp_examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of examples/cpp, built against the installed package."""
    build = Path(os.environ.get("UNDERSTUDY_BUILD", ROOT / "build" / "release"))
    prefix, folder = (tmp_path_factory.mktemp(name) for name in ("prefix", "build"))
    find_it = f"-DCMAKE_PREFIX_PATH={prefix}"
    for command in (
        ["cmake", "--install", build, "--prefix", prefix],
        ["cmake", "-GNinja", "-S", ROOT / "examples/cpp", "-B", folder, find_it],
        ["cmake", "--build", folder],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return folder


def run_program(program: Path, folder: Path) -> str:
    done = subprocess.run([program, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_cpp_quickstart_resumes_what_it_saved(cpp_examples: Path, tmp_path: Path) -> None:
    for _ in range(2):  # the second run finds the step of the first
        output = run_program(cpp_examples / "quickstart", tmp_path / "run")
        assert "every weight is back" in output


def test_three_forked_ranks_save_and_two_resume(cpp_examples: Path, tmp_path: Path) -> None:
    for _ in range(2):
        output = run_program(cpp_examples / "many_ranks", tmp_path / "run")
        assert "3 ranks saved" in output
        assert "rank 0 of 2 resumed step 7: every weight is back" in output
        assert "rank 1 of 2 resumed step 7: every weight is back" in output
    whole = understudy.load_file(tmp_path / "run" / "step-7")
    rows, columns = torch.arange(1000.0)[:, None], torch.arange(256.0) / 1024
    assert torch.equal(whole["weights"], rows + columns)
    assert whole["learning_rate"] == 0.1
