"""What all commands have in common: usage, exit status, pipes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import torch
from conftest import SHARD, Cli

import understudy

COMMANDS = ["ls", "show", "verify", "diff", "export", "doctor"]


def test_version(cli: Cli) -> None:
    assert cli("--version").out == f"understudy {understudy.__version__}\n"


def test_help_has_every_command_and_examples(cli: Cli) -> None:
    text = cli("--help").out
    for command in COMMANDS:
        assert f"  {command} " in text
        assert f"  understudy {command} " in text, "an example"
    assert "Exit status: 0 fine, 1 a finding (damaged, different), 2 could not do it." in text


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(cli: Cli, command: str) -> None:
    got = cli(command, "--help")
    assert "--json" in got.out
    assert got.err == ""


@pytest.mark.parametrize(
    "arguments",
    [[], ["nonsense"], ["ls"], ["ls", "a", "b"], ["diff", "a"], ["show", "--nonsense", "a"]],
)
def test_bad_usage(cli: Cli, arguments: list[str]) -> None:
    got = cli(*arguments, status=2)
    assert got.out == ""
    assert got.err.startswith("understudy: error: ")
    assert "--help" in got.err
    got = cli(*arguments, "--json", status=2)
    assert got.json["error"]["code"] == "invalid"
    assert set(got.json) == {"error"}


def test_errors_are_one_line(cli: Cli, tmp_path: Path) -> None:
    got = cli("show", tmp_path / "no\nwhere", status=2)
    assert got.err.count("\n") == 1
    assert got.out == ""


def test_names_that_begin_with_a_dash(cli: Cli, tmp_path: Path) -> None:
    understudy.save_file({"w": torch.zeros(1)}, tmp_path / "--json")
    got = cli("show", "--", "--json", cwd=tmp_path)
    assert got.out.startswith("--json\n")


def test_a_reader_that_goes_away(program: str, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "many.safetensors"
    understudy.save_file({f"t{i}": torch.zeros(1) for i in range(20_000)}, path)
    for arguments, status in (
        (["show", "--all", path], 0),
        (["show", "--json", path], 0),
        (["diff", path, run / "step-1"], 1),
    ):
        process = subprocess.Popen(
            [program, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout and process.stderr
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        process.stderr.close()
        assert process.wait() == status


def test_output_that_cannot_be_written(program: str, run: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [program, "ls", str(run)], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert "cannot write the output" in done.stderr


def test_closed_standard_streams(program: str, run: Path) -> None:
    done = subprocess.run(["sh", "-c", 'exec "$0" "$@" >&- 2>&-', program, "ls", str(run)])
    assert done.returncode == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file(cli: Cli, run: Path) -> None:
    (run / "step-1" / SHARD).chmod(0)
    assert cli("show", run / "step-1", "--json", status=2).json["error"]["code"] == "io"


def test_nothing_is_written_beside_what_is_read(cli: Cli, run: Path) -> None:
    before = sorted((p, p.stat().st_mtime_ns) for p in run.rglob("*"))
    for arguments in (["ls", run], ["show", run], ["verify", run], ["diff", run, run]):
        cli(*arguments)
    assert sorted((p, p.stat().st_mtime_ns) for p in run.rglob("*")) == before
