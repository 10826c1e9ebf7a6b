"""save_file and load_file: names, metadata, parts, other people's tools, bad places, bad files."""

import os
import subprocess

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from same import assert_same

import understudy


@pytest.fixture
def path(tmp_path):
    return tmp_path / "f.safetensors"


def test_safetensors_reads_ours(path):
    state = {
        "w": torch.randn(3, 4),
        "b": torch.randn(4).bfloat16(),
        "n": {"i": torch.arange(5), "f8": torch.randn(4).to(torch.float8_e4m3fn)},
        "flag": torch.tensor([True, False]),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "lr": 0.1,
    }
    understudy.save_file(state, path, metadata={"who": "me"})
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        assert metadata["format"] == "pt" and metadata["who"] == "me"
    theirs = safetensors.torch.load_file(path)
    for name, tensor in {
        **{k: v for k, v in state.items() if isinstance(v, torch.Tensor)},
        "n.i": state["n"]["i"],
        "n.f8": state["n"]["f8"],
    }.items():
        assert_same(theirs[name], tensor, name)


def test_a_model_gives_exactly_the_tensors_of_its_state_dict(path):
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.LayerNorm(3))
    understudy.save_file(model, path)
    theirs = safetensors.torch.load_file(path)
    assert set(theirs) == set(model.state_dict())
    for name, tensor in model.state_dict().items():
        assert_same(theirs[name], tensor)


def test_we_read_theirs(path):
    state = {"a.b": torch.randn(2, 3), "c": torch.arange(3), "e": torch.zeros(0)}
    safetensors.torch.save_file(state, path, metadata={"format": "pt"})
    for mmap in (False, True):
        loaded = understudy.load_file(path, mmap=mmap)
        assert sorted(loaded) == sorted(state)
        assert_same({k: loaded[k] for k in state}, state)
        loaded["a.b"][0, 0] = 5  # private memory
    assert_same(safetensors.torch.load_file(path)["a.b"], state["a.b"])


def test_we_read_theirs_of_numpy(path):
    safetensors.numpy.save_file({"a": np.arange(6.0).reshape(2, 3)}, path)
    assert torch.equal(understudy.load_file(path)["a"], torch.arange(6.0).double().view(2, 3))


def test_colliding_and_reserved_names(path):
    state = {
        "a.b": torch.tensor([1.0]),
        "a": {"b": torch.tensor([2.0])},
        "__metadata__": torch.tensor([3.0]),
        "understudy": torch.tensor([4.0]),
        "": torch.tensor([5.0]),
        "1": torch.tensor([6.0]),
        1: torch.tensor([7.0]),
        (1, 2): torch.tensor([8.0]),
        "x\n\"'\\": torch.tensor([9.0]),
        "\ud800": torch.tensor([10.0]),
        "": torch.tensor([5.0]),  # noqa: F601
        "ключ": torch.tensor([11.0]),
    }
    understudy.save_file(state, path)
    assert_same(understudy.load_file(path), state)
    theirs = safetensors.torch.load_file(path)
    assert sorted(float(t) for t in theirs.values() if t.dtype == torch.float32) == list(
        range(1, 12)
    )


def test_names_take_parts(path):
    state = {
        "model": {"w": torch.ones(2), "layers": [torch.zeros(1), 3]},
        "model2": torch.ones(3),
        "optimizer": {"lr": 0.1, "m": torch.ones(1)},
    }
    understudy.save_file(state, path)
    assert_same(understudy.load_file(path, names="model"), {"model": state["model"]})
    assert_same(
        understudy.load_file(path, names=["model.w", "optimizer.lr"]),
        {"model": {"w": state["model"]["w"]}, "optimizer": {"lr": 0.1}},
    )
    with pytest.raises(understudy.Error, match="'mode'") as e:
        understudy.load_file(path, names=["model", "mode"])
    assert e.value.code == "not_found"


@pytest.mark.parametrize("names", [[], [1], ["a", None]])
def test_names_that_are_none(names, path):
    understudy.save_file({"a": 1}, path)
    with pytest.raises(understudy.Error, match="names") as e:
        understudy.load_file(path, names=names)
    assert e.value.code == "invalid"


def test_loaded_tensors_are_private_and_ordinary(path):
    understudy.save_file({"t": torch.ones(1000), "n": np.ones(3)}, path)
    data = path.read_bytes()
    for mmap in (False, True):
        loaded = understudy.load_file(path, mmap=mmap)
        loaded["t"].mul_(3).requires_grad_()
        loaded["t"].sum().backward()
        loaded["n"] += 1
        assert path.read_bytes() == data
        assert_same(understudy.load_file(path)["t"], torch.ones(1000))


def test_a_mapping_outlives_the_file(path):
    understudy.save_file({"t": torch.arange(100_000)}, path)
    tensor = understudy.load_file(path, mmap=True)["t"]
    understudy.save_file({"t": torch.zeros(1)}, path)
    path.unlink()
    assert torch.equal(tensor, torch.arange(100_000))


def test_a_file_is_replaced_whole_or_not_at_all(path):
    understudy.save_file({"t": torch.ones(4)}, path)
    with pytest.raises(understudy.Error):
        understudy.save_file({"t": torch.zeros(4), "o": object()}, path)
    assert_same(understudy.load_file(path), {"t": torch.ones(4)})
    assert os.listdir(path.parent) == [path.name], "nothing is left beside it"


@pytest.mark.parametrize("metadata", [{"a": 1}, {1: "a"}, [("a", "b")], "text"])
def test_metadata_is_text_to_text(metadata, path):
    with pytest.raises(understudy.Error, match="metadata") as e:
        understudy.save_file({}, path, metadata=metadata)
    assert e.value.code == "invalid"


def test_reserved_metadata_is_refused(path):
    understudy.save_file({"a": torch.ones(1)}, path)
    with safetensors.safe_open(path, framework="pt") as file:
        reserved = [k for k in file.metadata() if k.startswith("understudy")]
    assert reserved
    for key in reserved:
        with pytest.raises(understudy.Error):
            understudy.save_file({}, path, metadata={key: "x"})


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for bad in ("file/f", "missing/f"):
        with pytest.raises(understudy.Error, match=bad.split("/")[0]) as e:
            understudy.save_file({"a": torch.ones(1)}, tmp_path / bad)
        assert e.value.code in ("io", "not_found")
    with pytest.raises(understudy.Error):
        understudy.save_file({"a": 1}, tmp_path)
    with pytest.raises(understudy.Error):
        understudy.Checkpointer(tmp_path / "file" / "run")


def test_a_read_only_file_system(tmp_path):
    mounted = tmp_path / "ro"
    mounted.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro", "none", mounted], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        with pytest.raises(understudy.Error, match=r"[Rr]ead-only") as e:
            understudy.save_file({"a": 1}, mounted / "f")
        assert e.value.code == "io"
        with pytest.raises(understudy.Error):
            understudy.Checkpointer(mounted / "run").save(1, {"a": 1})
    finally:
        subprocess.run(["umount", mounted], check=True)


def test_missing_files(tmp_path):
    with pytest.raises(understudy.Error, match="nowhere") as e:
        understudy.load_file(tmp_path / "nowhere")
    assert e.value.code == "not_found"


def test_flipped_bits_are_found(path):
    """One bit of every byte, and of every 50th byte of padding; the C++ tests flip them all."""
    understudy.save_file({"w": torch.arange(3), "k": [1, "text", None]}, path)
    good = path.read_bytes()
    for position, byte in enumerate(good):
        if byte == ord(" ") and position % 50:
            continue
        bad = bytearray(good)
        bad[position] ^= 1 << position % 8
        path.write_bytes(bad)
        with pytest.raises(understudy.Error) as e:
            understudy.load_file(path)
        assert e.value.code in ("corrupt", "unsupported"), position
        assert str(path) in str(e.value)


@pytest.mark.parametrize(
    "change", [lambda d: d[:-1], lambda d: d + b"x", lambda d: d[:7], lambda d: b""]
)
def test_other_lengths_are_found(change, path):
    understudy.save_file({"w": torch.arange(3)}, path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(understudy.Error) as e:
        understudy.load_file(path)
    assert e.value.code == "corrupt"


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("hostile") / "f"
    understudy.save_file({"w": torch.arange(30), "d": {"a": (1, 2.5), 3: {4}}}, path)
    return path, path.read_bytes()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.data())
def test_hostile_bytes_never_crash(whole_file, noise, data):
    path, good = whole_file
    at = data.draw(st.integers(0, len(good)))
    bad = good[:at] + noise + good[at + data.draw(st.integers(0, 64)) :]
    path.write_bytes(bad)
    for verify in (True, False):
        try:
            loaded = understudy.load_file(path, verify=verify)
        except understudy.Error:
            continue
        if verify:
            assert bad == good, "what is loaded with its checksums is what was written"
        del loaded


HEADERS = [
    b"[]", b"{}x", b'{"a":1}', b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}',
    b'{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}',
    b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}',
    b'{"a":{"dtype":"XX","shape":[1],"data_offsets":[0,4]}}',
    b'{"__metadata__":{"a":1}}', b'{"__metadata__":[]}', b"{" * 100_000, b"\xff\xfe{}",
    b'{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"a":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}',
]  # fmt: skip


@pytest.mark.parametrize("header", HEADERS, ids=range(len(HEADERS)))
def test_hostile_headers_are_refused(header, path):
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(understudy.Error) as e:
        understudy.load_file(path)
    assert e.value.code in ("corrupt", "unsupported")
