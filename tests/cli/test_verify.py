from __future__ import annotations

from pathlib import Path

import torch
from conftest import SHARD, Cli, flip
from safetensors.torch import save_file

import understudy


def test_a_whole_step(cli: Cli, run: Path) -> None:
    got = cli("verify", run / "step-1")
    assert got.out.startswith(f"{run / 'step-1'}: whole, ")
    assert got.err == "", "progress is for terminals"
    report = cli("verify", run, "--json").json
    assert set(report) == {"path", "nbytes", "has_checksums", "is_whole", "damage"}
    assert report["path"] == str(run / "step-10")
    assert (report["is_whole"], report["has_checksums"], report["damage"]) == (True, True, [])


def test_several_paths(cli: Cli, run: Path, tmp_path: Path) -> None:
    got = cli("verify", run / "step-1", run / "step-2")
    assert got.out.count(": whole, ") == 2
    flip(run / "step-2" / SHARD, -1)
    got = cli("verify", run / "step-2", run / "step-1", status=1)
    assert "damaged in 1 place\n" in got.out and got.out.count(": whole, ") == 1
    paths = (run / "none", run / "step-2", run / "step-1")
    got = cli("verify", *paths, "--json", status=2)
    missing, damaged, whole = got.json["reports"]
    assert (missing["path"], missing["error"]["code"]) == (str(run / "none"), "not_found")
    assert (damaged["is_whole"], whole["is_whole"]) == (False, True)
    assert "there is nothing at" in got.err


def test_what_is_no_safetensors_file_is_named(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"w": torch.ones(2)}, path)
    for command in ("verify", "show"):
        assert "an archive of torch.save" in cli(command, path, status=2).err


def test_a_flipped_bit_is_named(cli: Cli, run: Path) -> None:
    shard = run / "step-2" / SHARD
    for offset in (0, 9, 4095, 4096, -1):
        before = shard.read_bytes()
        flip(shard, offset)
        (damage, *_) = cli("verify", run / "step-2", "--json", status=1).json["damage"]
        assert damage["file"] == str(shard), offset
        assert set(damage) == {"file", "offset", "what"}
        text = cli("verify", run / "step-2", status=1).out
        assert "damaged in 1 place\n" in text
        assert SHARD in text
        shard.write_bytes(before)
    cli("verify", run / "step-2")


def test_every_damaged_block_is_reported(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "large.safetensors"
    understudy.save_file({"w": torch.arange(4_000_000)}, path)
    flip(path, -1)
    flip(path, 10_000_000)
    damage = cli("verify", path, "--json", status=1).json["damage"]
    assert [d["offset"] for d in damage] == sorted(d["offset"] for d in damage)
    assert len(damage) == 2


def test_truncation_growth_missing_and_extra_files(cli: Cli, run: Path) -> None:
    def damage(step: int) -> list[str]:
        report = cli("verify", run / f"step-{step}", "--json", status=1).json
        assert report["is_whole"] is False
        return [d["file"] for d in report["damage"]]

    shard = run / "step-1" / SHARD
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    assert damage(1) == [str(shard)]
    shard.write_bytes(whole + b"\0")
    assert damage(1) == [str(shard)]
    shard.write_bytes(b"")
    assert damage(1) == [str(shard)]
    shard.unlink()
    assert str(shard) in damage(1)[0]
    (run / "step-2" / "extra").write_text("?")
    assert damage(2) == [str(run / "step-2" / "extra")]
    (run / "step-10" / "checkpoint.json").unlink()
    assert damage(10) == [str(run / "step-10" / "checkpoint.json")]


def test_a_file_of_another_step(cli: Cli, run: Path) -> None:
    other = (run / "step-1" / SHARD).read_bytes()
    (run / "step-2" / SHARD).write_bytes(other)
    (damage, *_) = cli("verify", run / "step-2", "--json", status=1).json["damage"]
    assert damage["file"] == str(run / "step-2" / SHARD)


def test_single_files(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    understudy.save_file({"w": torch.arange(100)}, path)
    assert "whole" in cli("verify", path).out
    path.write_bytes(path.read_bytes()[:-1])
    assert cli("verify", path, "--json", status=1).json["damage"][0]["file"] == str(path)


def test_files_of_others_have_no_checksums(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "theirs.safetensors"
    save_file({"w": torch.zeros(100)}, path)
    report = cli("verify", path, "--json").json
    assert (report["is_whole"], report["has_checksums"]) == (True, False)
    assert "without checksums" in cli("verify", path).out
    path.write_bytes(path.read_bytes()[:-1])
    cli("verify", path, status=1)


def test_not_being_able_to_look(cli: Cli, tmp_path: Path) -> None:
    assert cli("verify", tmp_path / "no", "--json", status=2).json["error"]["code"] == "not_found"
    (tmp_path / "text").write_text("hello")
    cli("verify", tmp_path / "text", status=1)
