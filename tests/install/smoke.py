"""Run by the interpreter of an empty environment that has the wheel: no torch, NumPy perhaps."""

import importlib.util
import os
import sys
import tempfile

import understudy

assert importlib.util.find_spec("torch") is None, "this environment is not empty"
assert "site-packages" in understudy.__file__, understudy.__file__

state = {"step": 7, "names": ["a", "b"], "nested": {"t": (1, 2.5, None)}, 3: b"bytes"}
has_numpy = importlib.util.find_spec("numpy") is not None
if has_numpy:
    import numpy as np

    state["w"] = np.arange(12, dtype=np.float32).reshape(3, 4)
    state["view"] = state["w"][1:]


def compare(found):
    assert found.keys() == state.keys(), found
    for key in state:
        same = (found[key] == state[key]).all() if key in ("w", "view") else None
        assert same if same is not None else found[key] == state[key], (key, found[key])
    if has_numpy:
        assert type(found["w"]) is np.ndarray
        assert found["w"].dtype == np.float32
        found["w"][1, 0] = 99  # sharing came back too
        assert found["view"][0, 0] == 99


with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "state.safetensors")
    understudy.save_file(state, path)
    compare(understudy.load_file(path))
    with understudy.Checkpointer(os.path.join(folder, "run"), keep=2) as checkpointer:
        for step in (1, 2, 3):
            checkpointer.save(step, state).wait()
        assert checkpointer.steps() == [2, 3]
        compare(checkpointer.restore().state)
    try:
        understudy.load_file(os.path.join(folder, "missing"))
    except understudy.Error as error:
        assert error.code == "not_found", error.code
    else:
        raise AssertionError("a missing file was loaded")

print("fine", "with" if has_numpy else "without", "NumPy on", sys.version.split()[0])
