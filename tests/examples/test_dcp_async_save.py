from __future__ import annotations

import subprocess
import sys
import time

from conftest import ROOT, Run

EXAMPLE = "examples/dcp_async_save.py"


def weights(output: str) -> str:
    return next(line for line in output.splitlines() if line.startswith("weights "))


def test_a_killed_run_resumes_to_the_same_weights(run: Run, tmp_path) -> None:
    straight = run(EXAMPLE, tmp_path / "straight")
    assert straight.returncode == 0
    folder = tmp_path / "killed"
    # Long enough not to end before it is killed.
    command = [sys.executable, str(ROOT / EXAMPLE), str(folder), "--steps", "100000"]
    training = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while not (folder / "step-10" / ".metadata").exists():
        assert training.poll() is None
        time.sleep(0.005)
    training.kill()
    training.wait()
    done = max(
        int(p.name.removeprefix("step-"))
        for p in folder.glob("step-*")
        if (p / ".metadata").exists()
    )
    resumed = run(EXAMPLE, folder, "--steps", max(60, done))
    assert resumed.returncode == 0 and f"starts at step {done}\n" in resumed.stdout
    if done > 60:  # a fast machine
        straight = run(EXAMPLE, tmp_path / "longer", "--steps", done)
    assert weights(resumed.stdout) == weights(straight.stdout)
