from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SHARD, Cli, flip, make_state
from safetensors.torch import save_file

import understudy


@pytest.fixture
def pair(cli: Cli, tmp_path: Path) -> Any:
    """Saves two states; gives their differences as {path: what}."""

    def differences(a: Any, b: Any) -> dict[str, str]:
        understudy.save_file(a, tmp_path / "a")
        understudy.save_file(b, tmp_path / "b")
        # Equal or not, the status says the same as the document.
        document = cli("diff", tmp_path / "a", tmp_path / "b", "--json", status=0 if a is b else 1)
        assert document.json["is_equal"] == (a is b)
        return {d["path"]: d["what"] for d in document.json["differences"]}

    return differences


def test_equal(cli: Cli, run: Path, tmp_path: Path) -> None:
    assert cli("diff", run / "step-2", run / "step-2").out == "no difference\n"
    understudy.save_file(make_state(2), tmp_path / "same.safetensors")
    got = cli("diff", run / "step-2", tmp_path / "same.safetensors", "--json")
    assert got.json == {
        "a": str(run / "step-2"),
        "b": str(tmp_path / "same.safetensors"),
        "is_equal": True,
        "differences": [],
    }


def test_different(cli: Cli, run: Path) -> None:
    text = cli("diff", run / "step-1", run, status=1).out
    assert "step: 1 in the first, 10 in the second\n" in text
    assert "optimizer.param_groups.0.lr: 0.1 in the first, 0.01 in the second\n" in text
    assert "model.embed.weight: 320 of 320 elements differ, the first at [0, 0]; " in text
    assert text.splitlines()[-1] == "7 differences"


def test_tensors(pair: Any) -> None:
    a, b = torch.zeros(4, 5), torch.zeros(4, 5)
    b[2, 3] = -0.5
    assert pair({"w": a}, {"w": b}) == {
        "w": "1 of 20 elements differ, the first at [2, 3]; the largest difference is 0.5"
    }
    assert "int64" in pair({"w": a}, {"w": torch.zeros(4, 5, dtype=torch.int64)})["w"]
    assert "[5, 4]" in pair({"w": a}, {"w": torch.zeros(5, 4)})["w"]
    assert pair({"w": a}, {}) == {"w": "only in the first: float32 tensor of shape [4, 5]"}


def test_nan(pair: Any) -> None:
    nan = {"w": torch.tensor([1.0, float("nan")]), "loss": float("nan")}
    assert pair(nan, nan) == {}
    payload = torch.tensor([0x3F800000, 0x7FC00001], dtype=torch.int32).view(torch.float32)
    assert pair(nan, {**nan, "w": payload}) == {"w": "1 of 2 elements differ, the first at [1]"}


def test_types_and_kinds(pair: Any) -> None:
    got = pair(
        {"a": 1, "b": (1, 2), "c": {"x": 1}, "d": 1.0, "e": {1: "x"}},
        {"a": True, "b": [1, 2], "c": collections.OrderedDict(x=1), "d": -1.0, "e": {"1": "x"}},
    )
    assert set(got) == {"a", "b", "c", "d", "e.1"}


def test_aliasing(pair: Any) -> None:
    w = torch.ones(3)
    got = pair({"a": w, "b": w}, {"a": w, "b": w.clone()})
    assert got == {"b": "shares bytes with 'a' in the first, with none before it in the second"}


def test_files_of_others(cli: Cli, tmp_path: Path) -> None:
    a, b = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_file({"x": torch.ones(2), "y": torch.ones(3, dtype=torch.float8_e4m3fn)}, a)
    save_file({"y": torch.ones(3, dtype=torch.float8_e4m3fn), "x": torch.ones(2)}, b)
    cli("diff", a, b)
    save_file({"x": torch.ones(2), "y": torch.full((3,), 2.0).to(torch.float8_e4m3fn)}, b)
    got = cli("diff", a, b, status=1).out
    assert "y: 3 of 3 elements differ, the first at [0]; the largest difference is 1\n" in got


def test_damage_is_no_difference(cli: Cli, run: Path) -> None:
    flip(run / "step-2" / SHARD, -1)
    got = cli("diff", run / "step-1", run / "step-2", "--json", status=1)
    assert got.json["error"]["code"] == "corrupt"
    missing = cli("diff", run / "step-1", run / "step-3", "--json", status=2)
    assert missing.json["error"]["code"] == "not_found"
