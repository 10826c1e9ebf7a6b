from __future__ import annotations

import re
from pathlib import Path

from conftest import SHARD, Cli


def test_text(cli: Cli, run: Path) -> None:
    lines = cli("ls", run).out.splitlines()
    assert lines[0].split() == ["step", "size", "time", "state"]
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "10"]
    row = r" *10 +\d+\.\d KiB +\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ +whole"
    assert re.fullmatch(row, lines[3])


def test_json(cli: Cli, run: Path) -> None:
    got = cli("ls", "--json", run).json
    assert got["directory"] == str(run)
    assert [step["step"] for step in got["steps"]] == [1, 2, 10]
    newest = got["steps"][-1]
    assert set(newest) == {"step", "path", "is_complete", "problem", "nbytes", "time"}
    assert newest["path"] == str(run / "step-10")
    assert newest["is_complete"] is True
    assert newest["problem"] is None
    assert newest["nbytes"] == sum(p.stat().st_size for p in (run / "step-10").iterdir())


def test_a_damaged_step_is_shown_and_is_a_finding(cli: Cli, run: Path) -> None:
    (run / "step-2" / SHARD).unlink()
    (run / "step-10" / "checkpoint.json").write_text("{}")
    text = cli("ls", run, status=1).out.splitlines()
    assert text[1].endswith("whole")
    assert f"damaged: {SHARD} is missing" in text[2]
    assert "damaged: " in text[3]
    steps = cli("ls", run, "--json", status=1).json["steps"]
    assert [step["is_complete"] for step in steps] == [True, False, False]
    assert steps[1]["problem"] == f"{SHARD} is missing"
    assert steps[2]["time"] is None


def test_what_is_no_step_is_not_listed(cli: Cli, run: Path) -> None:
    (run / "step-11.tmp-0123abcd").mkdir()
    (run / "step-007").mkdir()
    (run / "step-12").write_text("a file")
    (run / "logs").mkdir()
    assert len(cli("ls", "--json", run).json["steps"]) == 3


def test_an_empty_folder(cli: Cli, tmp_path: Path) -> None:
    assert "no steps" in cli("ls", tmp_path).out
    assert cli("ls", "--json", tmp_path).json["steps"] == []


def test_no_folder(cli: Cli, run: Path) -> None:
    assert "understudy: error: " in cli("ls", run / "nowhere", status=2).err
    got = cli("ls", run / "nowhere", "--json", status=2)
    assert got.json["error"]["code"] == "not_found"
    assert str(run / "nowhere") in got.json["error"]["message"]
    assert cli("ls", run / "step-1" / SHARD, "--json", status=2).json["error"]["code"] == "invalid"
