"""The examples are run as a reader of the README runs them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The examples' and the benchmark's own modules, for tests of single parts of them.
sys.path += [str(ROOT / "examples"), str(ROOT / "bench")]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run() -> Run:
    """Runs a Python file of the tree; a failure shows what it printed."""

    def run_file(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, str(ROOT / name), *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
        )
        print(done.stdout, done.stderr, sep="\n")
        return done

    return run_file
