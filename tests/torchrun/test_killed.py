"""Ranks that are killed in saves, again and again."""

from pathlib import Path

from launches import run_program

KILLED_PY = Path(__file__).parent / "killed.py"


def test_fifty_times_in_a_row_nothing_is_torn_and_nothing_is_lost(tmp_path: Path) -> None:
    status, output = run_program(KILLED_PY, tmp_path)
    assert status == 0 and output.splitlines()[-1] == "killed 28 ranks and 28 groups", output
