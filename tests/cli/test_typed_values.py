"""Typed values through the program: what they were is told, and their dense parts are tensors."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from conftest import Cli
from safetensors.torch import load_file

import understudy

pytestmark = pytest.mark.filterwarnings("ignore")


def _many_values() -> ModuleType:
    path = Path(__file__).parent.parent / "python" / "many_values.py"
    spec = importlib.util.spec_from_file_location("many_values", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["many_values"] = module
    spec.loader.exec_module(module)
    return module


many_values = _many_values()
CASES = pytest.mark.parametrize("case", many_values.ALL, ids=[c.name for c in many_values.ALL])


class Color(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Config:
    lr: float
    w: torch.Tensor


@CASES
def test_each_is_shown_compared_and_exported(case, cli: Cli, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    understudy.save_file({"v": case.make(1), "t": torch.ones(2)}, one)
    understudy.save_file({"v": case.make(2), "t": torch.ones(2)}, two)
    assert case.kind in cli("show", one).out
    assert '"typed"' in cli("show", one, "--json").out
    is_always_the_same = case.name in ("empty", "a dtype")
    told = cli("diff", one, two, status=0 if is_always_the_same else 1).out
    assert is_always_the_same or told.startswith("v"), told
    cli("diff", one, one)
    cli("verify", one)
    cli("export", one, tmp_path / "plain")
    plain = load_file(tmp_path / "plain")
    assert torch.equal(plain["t"], torch.ones(2))
    assert all(name == "t" or name.startswith("v.") for name in plain)


def test_a_value_takes_one_line(cli: Cli, tmp_path: Path) -> None:
    understudy.save_file(
        {
            "date": datetime.date(2026, 1, 2),
            "span": datetime.timedelta(days=1),
            "at": datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc),
            "color": Color.RED,
            "dates": np.array(["2026-01-02"], "M8[D]"),
            "config": Config(0.5, torch.ones(2, 3)),
            "keys": {datetime.date(2026, 1, 3): 1},
        },
        tmp_path / "f",
    )
    lines = cli("show", tmp_path / "f").out.splitlines()
    assert "  date  datetime.date  '2026-01-02'" in lines
    assert "  span  datetime.timedelta  days 1, seconds 0, microseconds 0" in lines
    assert f"  color  enum {__name__}.Color  name 'RED', value 1" in lines
    assert f"  config  dataclass {__name__}.Config of 2, 24 B" in lines
    assert "    w  float32 [2, 3]  24 B" in lines
    assert "    data  int64 [1]  8 B  (numpy_array)" in lines
    assert "    2026-01-03  1" in lines
    at = lines.index("  at  datetime.datetime of 3")
    assert lines[at + 1 : at + 4] == [
        "    text  '2026-01-02T00:00:00'",
        "    fold  0",
        "    tzinfo  datetime.timezone of 2",
    ]


def test_a_difference_tells_the_types(cli: Cli, tmp_path: Path) -> None:
    understudy.save_file({"v": datetime.date(2026, 1, 2), "c": Color.RED}, tmp_path / "a")
    understudy.save_file({"v": 7, "c": datetime.date(2026, 1, 2)}, tmp_path / "b")
    out = cli("diff", tmp_path / "a", tmp_path / "b", status=1).out
    assert "datetime.date '2026-01-02'" in out
    assert f"{__name__}.Color" in out
