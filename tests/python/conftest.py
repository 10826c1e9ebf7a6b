"""Shared by all tests of the Python package."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

import understudy

# Where the package under test lies, for programs that the tests start.
PACKAGE_ROOT = str(Path(understudy.__file__).parent.parent)

Run = Callable[..., subprocess.CompletedProcess[str]]


def child_environment() -> dict[str, str]:
    paths = [PACKAGE_ROOT, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


@pytest.fixture
def run_python() -> Run:
    """Runs a program in a process of its own; fails the test when it fails."""

    def run(code: str, *arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
            capture_output=True,
            text=True,
            env=child_environment(),
            timeout=300,  # what hangs must fail here and not hang the suite
            check=False,
        )
        assert done.returncode == status, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.fixture
def round_trip(tmp_path: Path) -> Callable[..., object]:
    """Through a file and back."""

    def go(state: object, **options: object) -> object:
        path = tmp_path / "state.safetensors"
        understudy.save_file(state, path, **options)
        return understudy.load_file(path, allow_pickle=bool(options.get("allow_pickle", False)))

    return go
