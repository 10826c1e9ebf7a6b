"""What other people's tools find in files of ours: every dense tensor under its own name."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import understudy


def step_file(folder):
    return next((folder / "step-1").glob("*.safetensors"))


def by_save_file(state, folder):
    understudy.save_file(state, folder / "f.safetensors")
    return folder / "f.safetensors"


def by_snapshot(state, folder):
    with understudy.Stager() as stager, stager.stage(state).wait() as snapshot:
        snapshot.save_file(folder / "f.safetensors")
    return folder / "f.safetensors"


def by_checkpointer(state, folder):
    with understudy.Checkpointer(folder) as ckpt:
        ckpt.save(1, state).wait()
    return step_file(folder)


WAYS = [by_save_file, by_snapshot, by_checkpointer]


def strided_state():
    w = torch.randn(6, 8)
    images = torch.randn(2, 3, 5, 7).to(memory_format=torch.channels_last)
    return {
        "w": w,
        "transposed": w.T,
        "rows": w[2:5],
        "column": w[:, 3],
        "channels_last": images,
        "permuted": torch.randn(3, 4, 5, dtype=torch.bfloat16).permute(2, 0, 1),
        "sliced": torch.randn(10, 10)[:, 1:9],
        "every_third": torch.arange(30)[::3],
        "complex": torch.randn(4, 3, dtype=torch.complex64).T,
        "wide": torch.randn(4, 3, dtype=torch.complex128).T,
        "one": torch.tensor(3),
        "empty": torch.empty(0, 4).T,
    }


def assert_same_as_others_see(state, path):
    seen = safetensors.torch.load_file(path)
    for name, tensor in state.items():
        expected = torch.view_as_real(tensor) if tensor.dtype == torch.complex128 else tensor
        assert seen[name].dtype == expected.dtype, name
        assert seen[name].shape == expected.shape, name
        assert torch.equal(seen[name], expected), name
    assert set(seen) == set(state)


def strides_of(state):
    return {name: t.stride() for name, t in state.items()}


@pytest.mark.parametrize("way", WAYS)
def test_others_see_every_tensor(way, tmp_path):
    state = strided_state()
    assert_same_as_others_see(state, way(state, tmp_path))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mmap", [False, True])
def test_values_strides_and_sharing_come_back(way, mmap, tmp_path):
    state = strided_state()
    back = understudy.load_file(way(state, tmp_path), mmap=mmap)
    assert list(back) == list(state)
    for name, tensor in state.items():
        assert torch.equal(back[name], tensor), name
        if name not in ("every_third", "empty"):  # gathered: what lay between is not kept
            assert back[name].stride() == tensor.stride(), name
    assert back["channels_last"].is_contiguous(memory_format=torch.channels_last)
    back["w"][2, 3] = 100
    assert back["transposed"][3, 2] == back["rows"][0, 3] == back["column"][2] == 100


def test_tied_tensors_are_one_entry_and_the_other_name_is_told(tmp_path):
    w = torch.randn(3, 4)
    for way in WAYS:
        folder = tmp_path / way.__name__
        folder.mkdir()
        path = way({"embed": w, "head": w}, folder)
        with safetensors.safe_open(path, "pt") as file:
            assert list(file.keys()) == ["embed"]
            assert file.metadata()["head"] == "embed"
        back = understudy.load_file(path)
        assert back["embed"].data_ptr() == back["head"].data_ptr()


def test_metadata_of_the_caller_goes_before_the_names_of_tied_tensors(tmp_path):
    w = torch.ones(2)
    understudy.save_file({"a": w, "b": w}, tmp_path / "f", metadata={"b": "mine"})
    with safetensors.safe_open(tmp_path / "f", "pt") as file:
        assert file.metadata()["b"] == "mine"


def test_transposed_tied_tensors_are_one_entry(tmp_path):
    t = torch.randn(3, 4).T
    path = by_save_file({"a": t, "b": t}, tmp_path)
    assert set(safetensors.torch.load_file(path)) == {"a"}
    back = understudy.load_file(path)
    assert back["a"].data_ptr() == back["b"].data_ptr()
    assert back["b"].stride() == t.stride() and torch.equal(back["b"], t)


def test_a_name_brings_its_strides(tmp_path):
    state = strided_state()
    path = by_save_file({"m": state}, tmp_path)
    back = understudy.load_file(path, names=["m.channels_last", "m.transposed"])["m"]
    assert set(back) == {"channels_last", "transposed"}
    for name, tensor in back.items():
        assert torch.equal(tensor, state[name]) and tensor.stride() == state[name].stride()


@pytest.mark.parametrize("target", ["same", "contiguous"])
def test_resume_into_any_strides(target, tmp_path):
    state = strided_state()
    by_checkpointer(state, tmp_path)
    w = torch.zeros(6, 8)
    mine = {
        name: torch.zeros_like(t).contiguous() if target == "contiguous" else torch.zeros_like(t)
        for name, t in state.items()
    }
    if target == "same":
        mine |= {"w": w, "transposed": w.T, "rows": w[2:5], "column": w[:, 3]}
    with understudy.Checkpointer(tmp_path) as ckpt:
        assert ckpt.resume(mine) == 1
    for name, tensor in state.items():
        assert torch.equal(mine[name], tensor), name


def test_what_an_optimizer_keeps_has_its_strides_again(tmp_path):
    def make():
        torch.manual_seed(0)
        model = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(model.parameters())
        return model, optimizer

    def train(model, optimizer):
        optimizer.zero_grad()
        model(torch.ones(1, 3, 8, 8)).square().mean().backward()
        optimizer.step()

    model, optimizer = make()
    train(model, optimizer)
    by_checkpointer({"model": model, "optimizer": optimizer}, tmp_path)
    train(model, optimizer)
    model2, optimizer2 = make()
    with understudy.Checkpointer(tmp_path) as ckpt:
        ckpt.resume({"model": model2, "optimizer": optimizer2})
    momentum = optimizer2.state[model2.weight]["exp_avg"]
    assert momentum.is_contiguous(memory_format=torch.channels_last)
    train(model2, optimizer2)
    assert torch.equal(model2.weight, model.weight)


def test_expanded_tensors_and_windows_cost_their_bytes_once(tmp_path):
    base = torch.arange(1000.0)
    state = {"e": base[:1].expand(10**6), "w": [base[i : i + 500] for i in range(400)]}
    path = by_save_file(state, tmp_path)
    assert path.stat().st_size < 200_000
    back = understudy.load_file(path)
    assert torch.equal(back["e"], state["e"])
    assert all(torch.equal(a, b) for a, b in zip(back["w"], state["w"], strict=True))


def test_numpy_arrays_in_any_order(tmp_path):
    a = np.arange(24.0).reshape(4, 6)
    state = {"f": np.asfortranarray(a), "reversed": a[::-1].copy()[::-1], "t": a.T}
    path = by_save_file(state, tmp_path)
    for name, array in safetensors.numpy.load_file(path).items():
        assert np.array_equal(array, state[name])
    back = understudy.load_file(path)
    assert back["f"].flags.f_contiguous and not back["f"].flags.c_contiguous
    assert all(np.array_equal(back[name], state[name]) for name in state)


VIEWS = st.lists(
    st.tuples(st.permutations(range(3)), st.tuples(*[st.integers(0, 2)] * 3), st.booleans()),
    min_size=1,
    max_size=4,
)


@given(VIEWS, st.sampled_from([torch.float32, torch.int8, torch.float64, torch.bfloat16]))
@settings(max_examples=60, deadline=None)
def test_any_views_of_one_tensor(tmp_path_factory, views, dtype):
    base = torch.arange(3 * 4 * 5).reshape(3, 4, 5).to(dtype)
    state = {}
    for i, (order, start, every_second) in enumerate(views):
        t = base[start[0] :, start[1] :, start[2] :]
        if every_second:
            t = t[:, ::2]
        state[str(i)] = t.permute(order)
    path = by_save_file(state, tmp_path_factory.mktemp("views"))
    seen = safetensors.torch.load_file(path)
    with safetensors.safe_open(path, "pt") as file:
        tied = file.metadata()
    back = understudy.load_file(path)
    for name, tensor in state.items():
        assert torch.equal(seen[name if name in seen else tied[name]], tensor)
        assert torch.equal(back[name], tensor)
