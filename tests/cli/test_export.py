from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import SHARD, Cli, flip, make_state
from safetensors import safe_open
from safetensors.torch import load_file

import understudy


def assert_equal(got: dict[str, torch.Tensor], want: dict[str, torch.Tensor]) -> None:
    assert got.keys() == want.keys()
    for name, tensor in want.items():
        assert got[name].dtype == tensor.dtype, name
        assert torch.equal(got[name], tensor), name


def test_a_plain_file(cli: Cli, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    text = cli("export", run / "step-2", out).out
    assert text.startswith(f"{out}: 4 tensors, ")
    assert "1 tensor tied to another" in text
    assert "other values left out" in text
    model = make_state(2)["model"]
    want = {f"model.{name}": model[name] for name in ("embed.weight", "first_rows", "norm.weight")}
    want["optimizer.state.0.exp_avg"] = make_state(2)["optimizer"]["state"][0]["exp_avg"]
    assert_equal(load_file(out), want)
    with safe_open(out, "pt") as file:
        assert file.metadata() == {"format": "pt", "model.head.weight": "model.embed.weight"}


def test_a_part(cli: Cli, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    report = cli("export", run, out, "--prefix", "model", "--json").json
    assert report == {
        "files": [str(out)],
        "nbytes": 40 * 8 * 4 + 4 * 8 * 4 + 8 * 2,
        "tensors": 3,
        "tied": 1,
        "left_out": 0,
    }
    model = make_state(10)["model"]
    del model["head.weight"]
    assert_equal(load_file(out), model)


def test_a_folder_with_shards(cli: Cli, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "hf"
    report = cli("export", run, out, "--hf", "--max-shard-size", "1300", "--json").json
    index = json.loads((out / "model.safetensors.index.json").read_text())
    files = sorted(set(index["weight_map"].values()))
    assert files == [f"model-{i:05}-of-00003.safetensors" for i in (1, 2, 3)]
    assert report["files"] == [str(out / name) for name in files]
    assert index["metadata"]["total_size"] == report["nbytes"]
    assert sorted(p.name for p in out.iterdir()) == [*files, "model.safetensors.index.json"]
    loaded = {name: load_file(out / file)[name] for name, file in index["weight_map"].items()}
    whole = tmp_path / "whole.safetensors"
    cli("export", run, whole)
    assert_equal(loaded, load_file(whole))
    assert sum(len(load_file(out / file)) for file in files) == len(loaded)


def test_a_folder_of_one_file(cli: Cli, run: Path, tmp_path: Path) -> None:
    cli("export", run, tmp_path / "hf", "--hf", "--prefix", "model.")
    assert [p.name for p in (tmp_path / "hf").iterdir()] == ["model.safetensors"]
    assert len(load_file(tmp_path / "hf" / "model.safetensors")) == 3


@pytest.mark.parametrize("size", ["1KB", "1KiB", "1000", "1 kb"])
def test_sizes_have_units(cli: Cli, run: Path, tmp_path: Path, size: str) -> None:
    cli("export", run, tmp_path / "hf", "--hf", "--max-shard-size", size)
    assert len(list((tmp_path / "hf").glob("model-*-of-00003.safetensors"))) == 3


@pytest.mark.parametrize("size", ["0", "-1", "many", "5 parsecs", ""])
def test_sizes_that_make_no_sense(cli: Cli, run: Path, tmp_path: Path, size: str) -> None:
    got = cli("export", run, tmp_path / "x", "--hf", "--max-shard-size", size, "--json", status=2)
    assert got.json["error"]["code"] == "invalid"
    assert not (tmp_path / "x").exists()


def test_every_type_and_layout_comes_through(cli: Cli, tmp_path: Path) -> None:
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = {
        "transposed": base.t(),
        "strided": base[::2, 1::3],
        "expanded": torch.tensor([1.0, 2.0])[:, None].expand(2, 3),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
        "bf16": base.to(torch.bfloat16),
        "f8": base.to(torch.float8_e5m2),
        "bool": base > 3,
        "complex": torch.complex(base, base),
    }
    understudy.save_file(state, tmp_path / "state")
    cli("export", tmp_path / "state", tmp_path / "plain")
    got = load_file(tmp_path / "plain")
    assert got.keys() == state.keys()
    for name, tensor in state.items():
        assert got[name].dtype == tensor.dtype
        assert got[name].shape == tensor.shape
        assert (
            got[name]
            .contiguous()
            .view(torch.uint8 if tensor.dim() else tensor.dtype)
            .equal(tensor.contiguous().view(torch.uint8 if tensor.dim() else tensor.dtype))
        ), name


def test_an_export_is_a_plain_file(cli: Cli, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    cli("export", run, out)
    report = cli("verify", out, "--json").json
    assert (report["is_whole"], report["has_checksums"]) == (True, False)
    assert set(understudy.load_file(out)) == set(load_file(out))


def test_refusals(cli: Cli, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def code(*arguments: object, status: int = 2) -> str:
        got = cli("export", *arguments, "--json", status=status)
        assert got.err.startswith("understudy: error: ")
        code: str = got.json["error"]["code"]
        return code

    assert code(run / "step-3", out) == "not_found"
    assert code(run, out, "--prefix", "nothing") == "not_found"
    assert code(run, tmp_path / "no" / "out") == "not_found"
    assert code(run, out, "--max-shard-size", "1MB") == "invalid"
    understudy.save_file({"z": torch.zeros(1, dtype=torch.complex128)}, tmp_path / "c128")
    assert code(tmp_path / "c128", out) == "unsupported"
    assert code(tmp_path / "c128", out, "--hf") == "unsupported"
    flip(run / "step-2" / SHARD, -1)
    assert code(run / "step-2", out, status=1) == "corrupt"
    assert not out.exists()
    out.write_text("mine")
    assert code(run, out) == "invalid"
    assert out.read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c128", "out", "run"]
