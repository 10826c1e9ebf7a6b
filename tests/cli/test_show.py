from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SHARD, Cli, flip
from safetensors.torch import save_file

import understudy


def line_of(text: str, key: str) -> str:
    (line,) = [line for line in text.splitlines() if line.strip().startswith(key + "  ")]
    return line


def test_text_of_a_step(cli: Cli, run: Path) -> None:
    text = cli("show", run / "step-2").out
    assert text.startswith(str(run / "step-2" / SHARD) + "\nstep 2, ")
    assert "5 tensors in 4 entries, written by Understudy" in text
    assert 'metadata {"loss":0.5}' in text
    assert line_of(text, "embed.weight") == (
        "    embed.weight  float32 [40, 8]  1.2 KiB  shares bytes with model.head.weight and 1 more"
    )
    assert line_of(text, "first_rows").endswith("shares bytes with model.embed.weight and 1 more")
    assert line_of(text, "norm.weight") == "    norm.weight  bfloat16 [8]  16 B"
    assert line_of(text, "betas").endswith("betas  tuple of 2: 0.9, 0.999")
    assert line_of(text, "history").endswith("list of 20: 0, 1, 2, 3, 4, 5, 6, 7, ... 12 more")
    assert line_of(text, "note") == r"  note  'a\ttext'"
    assert line_of(text, "step") == "  step  2"
    assert "18, 19" in cli("show", run / "step-2", "--all").out


def test_a_run_stands_for_its_newest_step(cli: Cli, run: Path) -> None:
    assert "\nstep 10, " in cli("show", run).out
    assert cli("show", run, "--json").json["files"][0]["step"] == 10


def test_sizes_and_attributes_of_containers(cli: Cli, tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(100, 10))
    understudy.save_file({"model": model.state_dict(), "lr": 0.1}, tmp_path / "state")
    text = cli("show", tmp_path / "state").out
    assert line_of(text, "model").endswith("ordered_dict of 2, 3.9 KiB")
    assert line_of(text, "(attributes)").endswith("dict of 1 (--all shows them)")
    assert "version" not in text
    assert line_of(cli("show", "--all", tmp_path / "state").out, "(attributes)").endswith("of 1")
    (file,) = cli("show", tmp_path / "state", "--json").json["files"]
    node = at(file["tree"], "model")
    assert node["kind"] == "ordered_dict"
    assert at(node["extra"], "_metadata")["kind"] == "ordered_dict"


def test_json_of_a_step(cli: Cli, run: Path) -> None:
    got = cli("show", run / "step-2", "--json").json
    assert got["path"] == str(run / "step-2")
    (file,) = got["files"]
    assert set(file) == {
        *("file", "nbytes", "is_ours", "step", "metadata", "entries", "tensors", "tree")
    }
    assert file["file"] == str(run / "step-2" / SHARD)
    assert file["nbytes"] == (run / "step-2" / SHARD).stat().st_size
    assert (file["is_ours"], file["step"], file["metadata"]) == (True, 2, {"loss": 0.5})
    tensors = {tensor["path"]: tensor for tensor in file["tensors"]}
    assert tensors["model.first_rows"] == {
        "path": "model.first_rows",
        "dtype": "float32",
        "shape": [4, 8],
        "strides": [8, 1],
        "nbytes": 128,
        "entry": "model.first_rows",
        "is_shared": True,
    }
    assert not tensors["optimizer.state.0.exp_avg"]["is_shared"]
    entry = next(e for e in file["entries"] if e["name"] == "model.norm.weight")
    assert (entry["dtype"], entry["shape"], entry["nbytes"]) == ("BF16", [8], 16)


def at(node: Any, *keys: str) -> Any:
    for key in keys:
        (node,) = [item["value"] for item in node["items"] if item["key"] == key]
    return node


def test_json_of_the_tree(cli: Cli, run: Path) -> None:
    (file,) = cli("show", run / "step-2", "--json").json["files"]
    tree = file["tree"]
    assert at(tree, "step") == {"type": "integer", "value": 2}
    assert at(tree, "note") == {"type": "text", "value": "a\ttext"}
    (group,) = at(tree, "optimizer", "param_groups")["items"]
    assert at(group, "betas")["type"] == "tuple"
    (numbered,) = at(tree, "optimizer", "state")["items"]
    assert (numbered["key"], numbered["key_type"]) == ("0", "integer")
    leaf = at(tree, "model", "norm.weight")
    assert leaf["type"] == "tensor"
    assert file["tensors"][leaf["tensor"]]["path"] == "model.norm.weight"


def test_every_kind_is_shown(cli: Cli, tmp_path: Path) -> None:
    state = {
        "none": None,
        "yes": True,
        "nan": float("nan"),
        "complex": 1 + 2j,
        "big": 2**100,
        "bytes": b"\x00\xff",
        "long bytes": bytes(5000),
        "long text": "é" * 3000,
        "ordered": collections.OrderedDict(a=1),
        "default": collections.defaultdict(int, a=1),
        "deque": collections.deque([1, 2], maxlen=5),
        "set": {1},
        "dtype": torch.float16,
        "size": torch.Size([1, 2]),
        "parameter": torch.nn.Parameter(torch.zeros(2), requires_grad=False),
        "1": "text key",
        1: "integer key",
    }
    path = tmp_path / "state.safetensors"
    understudy.save_file(state, path)
    text = cli("show", path).out
    assert line_of(text, "none").endswith("  None")
    assert line_of(text, "yes").endswith("  True")
    assert line_of(text, "nan").endswith("  nan")
    assert line_of(text, "complex").endswith("  (1, 2)")
    assert str(2**100) in line_of(text, "big")
    assert line_of(text, "bytes").endswith("bytes 00 ff")
    assert line_of(text, "long bytes").endswith("5000 bytes")
    assert line_of(text, "long text").endswith("é...' (6000 bytes)")
    assert line_of(text, "ordered").endswith("ordered_dict of 1")
    assert line_of(text, "default").endswith("default_dict of 1  ('int')")
    assert line_of(text, "deque").endswith("deque of 2: 1, 2  (5)")
    assert line_of(text, "set").endswith("set of 1: 1")
    assert line_of(text, "dtype").endswith("'float16'  (torch_dtype)")
    assert line_of(text, "size").endswith("torch_size of 2: 1, 2")
    assert line_of(text, "parameter").endswith("(frozen parameter)")
    assert line_of(text, "'1'").endswith("'text key'")
    assert line_of(text, "1").endswith("'integer key'")
    (file,) = cli("show", path, "--json").json["files"]
    assert at(file["tree"], "nan") == {"type": "floating", "value": "nan"}
    assert at(file["tree"], "complex")["value"] == [1, 2]
    assert at(file["tree"], "bytes")["hex"] == "00ff"
    assert at(file["tree"], "big") == {
        "type": "text",
        "kind": "big_integer",
        "value": str(2**100),
    }
    assert at(file["tree"], "long text")["value"] == "é" * 3000


def test_long_containers_are_cut(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "many.safetensors"
    tensors = {f"t{i:03}": torch.zeros(1) for i in range(100)}
    understudy.save_file({"cut": tensors, "after": tensors["t099"]}, path)
    text = cli("show", path).out
    assert "    t031  " in text
    assert "    t032  " not in text
    assert "    ... 68 more (--all shows them)\n" in text
    assert line_of(text, "after").endswith("shares bytes with cut.t099")
    assert "    t099  " in cli("show", path, "--all").out
    assert len(cli("show", path, "--json").json["files"][0]["tensors"]) == 101


@pytest.mark.parametrize(
    "dtype",
    [torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float64, torch.bool],
)
def test_files_of_others(cli: Cli, tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "theirs.safetensors"
    save_file({"layer.0.w": torch.zeros(3, 2).to(dtype)}, path, metadata={"format": "pt"})
    text = cli("show", path).out
    assert "1 tensor in 1 entry, a plain safetensors file" in text
    assert 'metadata {"format":"pt"}' in text
    assert f"  layer.0.w  {str(dtype).removeprefix('torch.')} [3, 2]  " in text
    (file,) = cli("show", path, "--json").json["files"]
    assert (file["is_ours"], file["step"]) == (False, None)
    assert file["entries"][0]["offset"] == path.stat().st_size - file["entries"][0]["nbytes"]


def test_a_damaged_step_is_a_finding(cli: Cli, run: Path) -> None:
    (run / "step-10" / SHARD).unlink()
    got = cli("show", run, "--json", status=1)
    assert got.json["error"]["code"] == "corrupt"
    assert "step 10" in got.err or "step-10" in got.err
    assert "newest" in got.err
    flip(run / "step-2" / SHARD, 100)
    assert SHARD in cli("show", run / "step-2", status=1).err


def test_no_checkpoint(cli: Cli, tmp_path: Path) -> None:
    assert cli("show", tmp_path, "--json", status=2).json["error"]["code"] == "not_found"
    assert cli("show", tmp_path / "no", "--json", status=2).json["error"]["code"] == "not_found"
    assert cli("show", "/dev/null", "--json", status=2).json["error"]["code"] == "invalid"
    (tmp_path / "text").write_text("hello")
    assert cli("show", tmp_path / "text", "--json", status=1).json["error"]["code"] == "corrupt"


def test_hostile_names(cli: Cli, tmp_path: Path) -> None:
    bell = "\x1b]0;owned\x07\n\u202egnp.exe\u0085"
    path = tmp_path / f"x\x1b[31m{chr(0xDCFF)}.safetensors"  # one byte that is no UTF-8
    save_file({bell: torch.zeros(1)}, path, metadata={bell: bell})
    text = cli("show", path).out
    assert r"\x1b]0;owned\x07\n\u202egnp.exe\x85" in text
    assert r"x\x1b[31m\xff.safetensors" in text
    raw = set(text) - {"\n"}
    assert all(c.isprintable() for c in raw), raw
    got = cli("show", "--json", path)
    assert got.out.isascii()
    assert got.json["files"][0]["entries"][0]["name"] == bell
    assert "\x1b" not in cli("show", tmp_path / "\x1b[31mnothing", status=2).err
