"""Calls, forked children and interpreters that end while a rank waits for others."""

import re
from pathlib import Path

import pytest
from launches import run_program

ENDS_PY = Path(__file__).parent / "ends.py"


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    return run_program(ENDS_PY, tmp_path_factory.mktemp("runs"))[1]


@pytest.mark.parametrize("name", ["a_call", "a_ticket", "a_vote", "a_child", "the_interpreter"])
def test_what_ends_while_a_rank_waits(output: str, name: str) -> None:
    assert name in re.findall(r"^passed (\w+)$", output, re.M), output
