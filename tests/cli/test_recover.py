"""What survived in memory of a run that was killed: recover, and what ls says of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import SHARD, Cli, flip

import understudy

SAVE = """
import os, signal, sys, time
import torch, understudy

ckpt = understudy.Checkpointer(sys.argv[1], survive=sys.argv[2])
ticket = ckpt.save(7, {"w": torch.arange(100_000)}, metadata={"loss": 0.5})
while not ticket.metrics()["survival"]:
    time.sleep(0.001)
if len(sys.argv) > 3:
    print("sealed", flush=True)
    sys.stdin.readline()
os.kill(os.getpid(), signal.SIGKILL)
"""


def is_tmpfs(folder: str) -> bool:
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return any(at == folder and kind == "tmpfs" for _, at, kind, *_ in mounts)


pytestmark = pytest.mark.skipif(not is_tmpfs("/dev/shm"), reason="/dev/shm is no tmpfs")

Killed = Callable[[Path | str], Path]


@pytest.fixture
def memory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture
def killed(tmp_path: Path) -> Killed:
    """A run that was killed when step 7 was in memory and not on the disk."""

    def run(memory: Path | str) -> Path:
        folder = tmp_path / "run"
        done = subprocess.run([sys.executable, "-c", SAVE, folder, memory], check=False)
        assert done.returncode == -signal.SIGKILL
        if (folder / "step-7").exists():
            (folder / "step-7").rename(tmp_path / "forgotten")
        return folder

    return run


def test_what_survived_is_listed_and_written(cli: Cli, killed: Killed, memory: Path) -> None:
    run = killed(memory)
    options = (run, "--memory", memory)
    (listed,) = cli("recover", *options, "--list", "--json").json["survivors"]
    assert listed["step"] == 7
    assert listed["is_whole"] is True
    assert listed["problem"] is None
    assert (listed["is_on_disk"], listed["is_written"], listed["is_removed"]) == (False,) * 3
    assert listed["ranks"] == 1
    assert listed["nbytes"] == (Path(listed["path"]) / SHARD).stat().st_size
    assert "1 rank" in cli("recover", *options, "--list").out
    assert not (run / "step-7").exists()

    out = cli("recover", *options).out
    assert out.startswith("step 7  ")
    assert "whole  written to the folder" in out
    assert list(memory.iterdir()) == []
    cli("verify", run)
    found = understudy.Checkpointer(run).restore()
    assert found.step == 7
    assert found.metadata == {"loss": 0.5}
    assert found.state["w"].tolist() == list(range(100_000))
    assert "nothing of " in cli("recover", *options).out
    assert cli("recover", *options, "--json").json == {"survivors": [], "directory": str(run)}


def test_what_is_on_the_disk_is_only_removed(cli: Cli, killed: Killed, memory: Path) -> None:
    run = killed(memory)
    with understudy.Checkpointer(run, survive=memory) as ckpt:
        assert ckpt.resume({"w": understudy.Checkpointer(run, survive=memory).restore().state["w"]})
        ckpt.wait()
        assert cli("recover", run, "--memory", memory, "--list").out.rstrip().endswith(", too")


def test_discard(cli: Cli, killed: Killed, memory: Path) -> None:
    run = killed(memory)
    assert "discarded" in cli("recover", run, "--memory", memory, "--discard").out
    assert list(memory.iterdir()) == []
    assert understudy.Checkpointer(run).steps() == []


def test_damage_is_a_finding_and_is_kept(cli: Cli, killed: Killed, memory: Path) -> None:
    run = killed(memory)
    (shard,) = memory.glob(f"*/*/step-7/{SHARD}")
    flip(shard, -1)
    for flag in ([], ["--list"]):
        (found,) = cli("recover", run, "--memory", memory, "--json", *flag, status=1).json[
            "survivors"
        ]
        assert found["is_whole"] is False
        assert "not what was written" in found["problem"]
    assert "not usable" in cli("recover", run, "--memory", memory, status=1).out
    assert shard.exists()
    cli("recover", run, "--memory", memory, "--discard")
    assert list(memory.iterdir()) == []


def test_a_living_run_keeps_what_it_has(cli: Cli, tmp_path: Path, memory: Path) -> None:
    run = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", SAVE, run, memory, "wait"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "sealed\n"
        got = cli("recover", run, "--memory", memory, "--json", status=2).json
        assert got["error"]["code"] == "busy"
        assert (
            len(cli("recover", run, "--memory", memory, "--list", "--json").json["survivors"]) == 1
        )
        process.stdin.write("go on\n")
        process.stdin.flush()
    assert process.returncode == -signal.SIGKILL


def test_ls_mentions_it(cli: Cli, killed: Killed) -> None:
    run = killed("/dev/shm")
    try:
        assert "step 7 is in memory, " in cli("ls", run).out
        assert "and not on the disk" in cli("ls", run).out
        (found,) = cli("ls", run, "--json").json["survivors"]
        assert found["step"] == 7
        assert Path(found["path"]).parent.parent == Path(f"/dev/shm/understudy-{os.geteuid()}")
    finally:
        cli("recover", run, "--discard")
    assert cli("ls", run, "--json").json["survivors"] == []


def test_no_folder(cli: Cli, tmp_path: Path) -> None:
    assert cli("recover", tmp_path / "nowhere", "--json", status=2).json["error"]["code"] == (
        "not_found"
    )
    cli("recover", tmp_path, "--list", "--discard", status=2)
    assert cli("recover", tmp_path, "--memory", "/proc", "--json", status=2).json["error"][
        "code"
    ] == ("invalid")
