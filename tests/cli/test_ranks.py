"""A step that two ranks have saved, which the program shows, compares and exports as a whole."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from conftest import Cli, flip
from safetensors.torch import load_file

import understudy

GOLDEN = Path(__file__).parent.parent / "checkpointer" / "golden" / "step-7"
SHARDS = [f"shard-0000{rank}-of-00002.safetensors" for rank in range(2)]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two steps of the same state, one by two ranks, one by one process."""
    folder = tmp_path / "run"
    shutil.copytree(GOLDEN, folder / "step-7")
    with understudy.Checkpointer(folder) as ckpt:
        ckpt.save(8, understudy.load_file(GOLDEN))
    return folder


def test_show_has_whole_tensors(cli: Cli, run: Path) -> None:
    text = cli("show", run / "step-7").out
    assert "7 tensors in 9 entries of 2 shards, written by Understudy" in text
    assert "rows  float32 [5, 2]  40 B  in 2 chunks" in text
    assert "shares bytes with model.plain" in text
    assert "[0:3, 0:2] in" not in text


def test_show_all_says_how_they_are_cut(cli: Cli, run: Path) -> None:
    text = cli("show", "--all", run / "step-7").out
    for line in (f"[0:3, 0:2] in {SHARDS[0]}", f"[3:5, 0:2] in {SHARDS[1]}"):
        assert line in text
    assert f"[0:2, 2:3] in {SHARDS[1]}" in text


def test_show_in_json(cli: Cli, run: Path) -> None:
    (file,) = cli("show", "--json", run / "step-7").json["files"]
    assert file["shards"] == 2 and file["step"] == 7
    assert file["file"] == str(run / "step-7")
    assert file["nbytes"] == sum((run / "step-7" / shard).stat().st_size for shard in SHARDS)
    tensors = {tensor["path"]: tensor for tensor in file["tensors"]}
    assert tensors["model.columns"]["shape"] == [2, 3]
    assert tensors["model.columns"]["entry"] == "" and tensors["model.columns"]["file"] == ""
    assert tensors["model.columns"]["chunks"] == [
        {"file": SHARDS[0], "entry": "model.columns", "offsets": [0, 0], "sizes": [2, 2]},
        {"file": SHARDS[1], "entry": "model.columns", "offsets": [0, 2], "sizes": [2, 1]},
    ]
    assert tensors["model.stage.1.w"]["chunks"] == []
    assert tensors["model.stage.1.w"]["file"] == SHARDS[1]
    assert {entry["file"] for entry in file["entries"]} == set(SHARDS)


def test_diff_of_different_numbers_of_ranks(cli: Cli, run: Path) -> None:
    assert cli("diff", run / "step-7", run / "step-8").out == "no difference\n"
    with understudy.Checkpointer(run) as ckpt:
        state = understudy.load_file(GOLDEN)
        state["model"]["rows"][4, 1] = 0.25
        ckpt.save(9, state)
    text = cli("diff", run / "step-7", run / "step-9", status=1).out
    assert "model.rows: 1 of 10 elements differ, the first at [4, 1]" in text


def test_export_of_whole_tensors(cli: Cli, run: Path, tmp_path: Path) -> None:
    want = understudy.load_file(GOLDEN)["model"]
    for options, load_it in (([], load_file), (["--hf"], understudy.load_file)):
        out = tmp_path / f"out{len(options)}"
        cli("export", run / "step-7", out, "--prefix", "model", *options)
        got = load_it(out)
        assert torch.equal(got["rows"], want["rows"])
        assert torch.equal(got["columns"], want["columns"])
        assert torch.equal(got["stage.1.w"], want["stage.1"]["w"])


def test_damage_in_one_shard_is_named(cli: Cli, run: Path, tmp_path: Path) -> None:
    flip(run / "step-7" / SHARDS[1], -20)
    for command in (["verify"], ["diff", run / "step-8"], ["export"]):
        name, *others = command
        more = [tmp_path / "out"] if name == "export" else others
        done = cli(name, run / "step-7", *more, status=1)
        assert SHARDS[1] in done.out + done.err
    assert not (tmp_path / "out").exists()
