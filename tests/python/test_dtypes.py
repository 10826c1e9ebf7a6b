"""Every element type comes back bit for bit."""

import warnings

import numpy as np
import pytest
import torch
from same import assert_same, bits

import understudy

NARROW = [f"{sign}int{n}" for n in range(1, 8) for sign in ("", "u")]
QUANTISED = {"qint8", "quint8", "qint32", "quint4x2", "quint2x4"}
NAMES = sorted(
    {str(v).removeprefix("torch.") for v in vars(torch).values() if isinstance(v, torch.dtype)}
    - QUANTISED
)


def random_tensor(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """All bit patterns, NaN payloads and denormals included."""
    dtype = getattr(torch, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # complex32 is experimental, torch says
        size = torch.empty(0, dtype=dtype).element_size()
        count = int(np.prod(shape))
        raw = torch.randint(0, 256, (count * size,), dtype=torch.uint8)
        if dtype == torch.bool:
            raw &= 1
        empty = torch.empty(0, dtype=dtype)
        return empty.set_(raw.untyped_storage(), 0, shape)


def raw_bytes(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.untyped_storage()[: tensor.numel() * tensor.element_size()])


@pytest.mark.parametrize("exchange", [True, False], ids=["dlpack", "attributes"])
@pytest.mark.parametrize("name", NAMES)
def test_torch_dtype_bit_for_bit(name, exchange, tmp_path):
    tensor = random_tensor(name, (3, 5))
    understudy._core._use_exchange_api(exchange)
    try:
        understudy.save_file({"t": tensor}, tmp_path / "f")
        loaded = understudy.load_file(tmp_path / "f")["t"]
    finally:
        understudy._core._use_exchange_api(True)
    assert loaded.dtype == tensor.dtype
    assert loaded.shape == tensor.shape
    assert raw_bytes(loaded) == raw_bytes(tensor)


@pytest.mark.parametrize("name", NAMES)
def test_torch_dtype_through_a_snapshot(name):
    tensor = random_tensor(name, (2, 3))
    with understudy.Stager() as stager, stager.stage([tensor]).wait() as snapshot:
        (staged,) = snapshot.state()
        assert (staged.dtype, staged.shape) == (tensor.dtype, tensor.shape)
        assert raw_bytes(staged) == raw_bytes(tensor)


def test_all_types_are_covered():
    assert {"float8_e8m0fnu", "complex32", "bits1x8", "float4_e2m1fn_x2", *NARROW} <= set(NAMES)


@pytest.mark.parametrize("name", sorted(QUANTISED))
def test_quantised_dtypes_are_values_too(name, round_trip):
    assert round_trip({"d": getattr(torch, name)}) == {"d": getattr(torch, name)}


def test_nan_payloads(round_trip):
    patterns = torch.tensor(
        [0x7FC00001, 0x7F800001, -0x00400001, 0x7FFFFFFF, -0x80000000], dtype=torch.int32
    )
    loaded = round_trip({"t": patterns.view(torch.float32)})["t"]
    assert torch.equal(loaded.view(torch.int32), patterns)


@pytest.mark.parametrize(
    "dtype",
    ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "c16"],
)
def test_numpy_dtype_bit_for_bit(dtype, round_trip):
    raw = np.random.default_rng(0).integers(0, 256, 16 * 12, dtype=np.uint8)
    array = (raw & 1).astype(bool) if dtype == "?" else raw.view(dtype)
    array = array[:12].reshape(3, 4)
    assert_same(round_trip({"a": array})["a"], array)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1, 1, 1)])
@pytest.mark.parametrize("make", [torch.ones, np.ones], ids=["torch", "numpy"])
def test_empty_and_zero_dimensional(make, shape, round_trip):
    state = {"t": make(shape)}
    assert_same(round_trip(state), state)


def test_python_floats_bit_for_bit(round_trip):
    import struct

    patterns = [0x7FF8000000000001, 0x7FF0000000000001, 0xFFF8000000000002, 0x8000000000000000, 1]
    values = [struct.unpack("<d", struct.pack("<Q", p))[0] for p in patterns]
    loaded = round_trip({"f": values, "c": complex(values[0], -0.0)})
    assert [struct.pack("<d", v) for v in loaded["f"]] == [struct.pack("<Q", p) for p in patterns]
    assert struct.pack("<dd", loaded["c"].real, loaded["c"].imag) == struct.pack(
        "<dd", values[0], -0.0
    )


def test_lazy_bits_are_resolved(round_trip):
    z = torch.randn(4, 3, dtype=torch.complex64)
    state = {
        "conj": z.conj(),
        "imag": z.conj().imag,
        "both": torch._neg_view(z.conj()),
        "real": torch._neg_view(torch.arange(4.0)),
        "plain": z,
    }
    assert state["conj"].is_conj() and state["imag"].is_neg()
    loaded = round_trip(state)
    for name, tensor in state.items():
        assert not loaded[name].is_conj() and not loaded[name].is_neg()
        assert bits(loaded[name]) == bits(tensor), name
