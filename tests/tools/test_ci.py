"""CI's last line is the sum over its targets, and no bad end of one gets lost."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("test", "asan", "status", "line"),
    [
        ("echo '5 passed, 0 failed'", "echo '2 passed, 0 failed'", 0, "8 passed, 0 failed"),
        (
            "echo '5 passed, 0 failed, 3 skipped'",
            "echo '2 passed, 0 failed, 1 skipped'",
            0,
            "8 passed, 0 failed, 4 skipped",
        ),
        (
            "echo '1 passed, 0 failed of something'; echo '5 passed, 4 failed, 1 skipped'; exit 2",
            "echo '2 passed, 0 failed'",
            1,
            "8 passed, 4 failed, 1 skipped",
        ),
        ("exit 2", "echo '2 passed, 0 failed'", 1, "3 passed, 1 failed"),
        ("echo '5 passed, 0 failed'", "echo no build; exit 2", 1, "6 passed, 1 failed"),
        ("echo '5 passed, 0 failed'; exit 2", "echo '2 passed, 0 failed'", 1, "8 passed, 1 failed"),
        ("echo nothing", "echo '2 passed, 0 failed'", 1, "3 passed, 1 failed"),
    ],
)
def test_the_last_line_is_the_sum(tmp_path, test, asan, status, line):
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    make = tmp_path / "bin" / "make"
    make.parent.mkdir()
    targets = f"test) {test} ;; asan) {asan} ;; docs-test) echo '1 passed, 0 failed' ;;"
    make.write_text(f"#!/bin/bash\ncase $1 in {targets} esac\n")
    make.chmod(0o755)
    result = subprocess.run(
        [tmp_path / ".ci" / "run"],
        env={**os.environ, "PATH": f"{make.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == status, result.stdout + result.stderr
    assert result.stdout.splitlines()[-1] == line
