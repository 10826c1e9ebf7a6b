"""Without torch, without NumPy, without both."""

import numpy as np
import pytest
import torch

import understudy

BLOCK = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

BLOCKED = set(sys.argv[1].split(",")) - {""}
sys.meta_path.insert(0, Blocker())
import understudy
"""


def test_import_brings_neither(tmp_path, run_python):
    run_python(
        BLOCK
        + """
assert "torch" not in sys.modules and "numpy" not in sys.modules
understudy.save_file({"a": [1, "x"]}, sys.argv[2])
assert understudy.load_file(sys.argv[2]) == {"a": [1, "x"]}
assert "torch" not in sys.modules and "numpy" not in sys.modules
""",
        "",
        tmp_path / "f",
    )


def test_arrays_without_torch(tmp_path, run_python):
    run_python(
        BLOCK
        + """
import numpy as np
state = {"a": np.arange(6.0).reshape(2, 3), "s": np.float32(2), "n": 1}
with understudy.Checkpointer(sys.argv[2]) as ckpt:
    ckpt.save(1, state).wait()
    loaded = ckpt.restore().state
    assert (loaded["a"] == state["a"]).all() and type(loaded["s"]) is np.float32
    state["a"][:] = 0
    assert ckpt.resume(state) == 1 and state["a"][1, 2] == 5
with understudy.Stager() as stager:
    assert stager.stage(state).wait().state()["a"][1, 2] == 5
""",
        "torch",
        tmp_path,
    )


def test_a_torch_state_without_torch_gives_arrays(tmp_path, run_python):
    base = torch.arange(6.0)
    state = {
        "w": base,
        "view": base[2:].view(2, 2),
        "p": torch.nn.Parameter(torch.ones(2)),
        "size": torch.Size([1, 2]),
        "dtype": torch.float16,
        "device": torch.device("cpu"),
    }
    understudy.save_file(state, tmp_path / "f")
    understudy.save_file({"b": torch.ones(2).bfloat16()}, tmp_path / "bf16")
    run_python(
        BLOCK
        + """
import numpy as np
state = understudy.load_file(sys.argv[2] + "/f")
assert all(type(state[k]) is np.ndarray for k in ("w", "view", "p"))
assert state["w"].tolist() == [0, 1, 2, 3, 4, 5]
state["w"][3] = 9
assert state["view"].tolist() == [[2, 9], [4, 5]]
assert state["size"] == (1, 2) and state["dtype"] == "torch.float16" and state["device"] == "cpu"
try:
    understudy.load_file(sys.argv[2] + "/bf16")
except understudy.Error as error:
    assert error.code == "unsupported" and "bfloat16" in str(error)
else:
    raise AssertionError
""",
        "torch",
        tmp_path,
    )


def test_torch_without_numpy(tmp_path, run_python):
    run_python(
        BLOCK
        + """
import warnings
warnings.simplefilter("ignore")  # torch says that it misses NumPy
import torch
state = {"w": torch.arange(4.0), "t": torch.arange(4).view(2, 2).t()}
state["rng"] = understudy.torch.RngState()
with understudy.Checkpointer(sys.argv[2]) as ckpt:
    ckpt.save(1, state).wait()
    loaded = ckpt.restore().state
    assert torch.equal(loaded["w"], state["w"]) and torch.equal(loaded["t"], state["t"])
    state["w"].zero_()
    assert ckpt.resume(state) == 1 and state["w"][3] == 3
""",
        "numpy",
        tmp_path,
    )


@pytest.mark.parametrize("kind", ["array", "tensor"])
def test_tensors_with_neither(kind, tmp_path, run_python):
    state = {"x": np.ones(2) if kind == "array" else torch.ones(2), "n": 5}
    understudy.save_file(state, tmp_path / "f")
    run_python(
        BLOCK
        + """
assert understudy.load_file(sys.argv[2], names="n") == {"n": 5}
try:
    understudy.load_file(sys.argv[2])
except understudy.Error as error:
    assert error.code == "unsupported" and "installed" in str(error), error
else:
    raise AssertionError
""",
        "torch,numpy",
        tmp_path / "f",
    )


def test_torch_is_imported_only_when_a_state_needs_it(tmp_path, run_python):
    understudy.save_file({"w": torch.ones(2), "a": np.ones(2), "n": 1}, tmp_path / "f")
    run_python(
        BLOCK
        + """
assert understudy.load_file(sys.argv[2], names="n") == {"n": 1}
assert "torch" not in sys.modules and "numpy" not in sys.modules
assert understudy.load_file(sys.argv[2], names="a")["a"].sum() == 2
assert "torch" not in sys.modules
assert type(understudy.load_file(sys.argv[2])["w"]).__module__ == "torch"
""",
        "",
        tmp_path / "f",
    )
