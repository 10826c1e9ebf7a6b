"""A rank is killed in the middle of a save, all resume, and go on as another number of ranks."""

from __future__ import annotations

from pathlib import Path

from conftest import Run


def test_ranks_resume_after_one_was_killed_and_go_on_as_another_number(
    run: Run, tmp_path: Path
) -> None:
    done = run("examples/fsdp2.py", tmp_path / "fsdp2")
    assert done.returncode == 0
    killed, resumed, other = done.stdout.splitlines()[-3:]
    # Step 20 was under way: what is there of it has no step's name.
    assert "'step-10'" in killed and "'step-20'" not in killed
    assert "resumed at step 11: all 20 losses are the same, to the last bit" in resumed
    assert "went on at step 31: all 10 losses are the same" in other
