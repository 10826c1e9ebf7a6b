"""The shortest examples, in Python and in C++."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from conftest import ROOT, Run


def test_quickstart_trains_then_resumes_where_it_stopped(run: Run, tmp_path: Path) -> None:
    first = run("examples/quickstart.py", tmp_path / "run")
    assert first.returncode == 0
    assert "starting after step 0" in first.stdout
    assert first.stdout.endswith("[100, 200, 300]\n")
    second = run("examples/quickstart.py", tmp_path / "run")
    assert second.returncode == 0
    assert "starting after step 300" in second.stdout


def test_cpp_quickstart_builds_against_the_installed_package(tmp_path: Path) -> None:
    build = Path(os.environ.get("UNDERSTUDY_BUILD", ROOT / "build" / "release"))
    prefix, folder = tmp_path / "prefix", tmp_path / "build"
    find_it = f"-DCMAKE_PREFIX_PATH={prefix}"
    for command in (
        ["cmake", "--install", build, "--prefix", prefix],
        ["cmake", "-GNinja", "-S", ROOT / "examples/cpp", "-B", folder, find_it],
        ["cmake", "--build", folder],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    for _ in range(2):  # the second run finds the step of the first
        done = subprocess.run(
            [folder / "quickstart", tmp_path / "run"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "every weight is back" in done.stdout
