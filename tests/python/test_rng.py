"""RngState: all generators as one object."""

import random
import warnings

import numpy as np
import pytest
import torch

import understudy
from understudy.torch import RngState


def draw() -> list:
    return [
        random.random(),
        random.gauss(0, 1),
        np.random.rand(3).tolist(),
        torch.rand(3).tolist(),
        torch.nn.functional.dropout(torch.ones(8)).tolist(),
    ]


def test_generators_go_on_where_they_were(tmp_path):
    random.gauss(0, 1)  # leaves the other half of its pair behind
    path = tmp_path / "f"
    understudy.save_file({"rng": RngState()}, path)
    expected = draw()
    draw()
    RngState().load_state_dict(understudy.load_file(path)["rng"])
    assert draw() == expected


def test_it_is_compact(tmp_path):
    understudy.save_file(RngState(), tmp_path / "f")
    assert (tmp_path / "f").stat().st_size < 24_000


def test_another_number_of_cuda_devices_warns():
    state = RngState().state_dict()
    state["cuda"] = [torch.zeros(16, dtype=torch.uint8)] * 3
    if torch.cuda.is_available() and torch.cuda.device_count() == 3:
        pytest.skip("this machine has just as many")
    with pytest.warns(UserWarning, match="3 CUDA devices were saved"):
        RngState().load_state_dict(state)


def test_a_state_of_something_else_is_refused():
    expected = random.getstate()
    for bad in ({}, {"a": 1}, [1]):
        with pytest.raises(ValueError, match="RngState"):
            RngState().load_state_dict(bad)
    assert random.getstate() == expected


def test_no_warning_without_cuda():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RngState().load_state_dict(RngState().state_dict())


def test_without_torch_and_numpy(run_python):
    run_python(
        """
        import random, sys
        import understudy
        rng = understudy.torch.RngState()
        state = rng.state_dict()
        assert list(state) == ["python"], state
        first = random.random()
        rng.load_state_dict(state)
        assert random.random() == first
        assert "torch" not in sys.modules and "numpy" not in sys.modules
        """
    )
