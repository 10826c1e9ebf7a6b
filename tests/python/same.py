"""Comparing states strictly: types, order, and every bit of tensors and floats."""

import collections
import struct
import types
from typing import Any

import numpy as np
import torch


def dense(tensor: torch.Tensor) -> torch.Tensor:
    """A flat copy. Not contiguous(): that keeps odd strides of single elements."""
    flat = tensor.detach().resolve_conj().resolve_neg().reshape(-1)
    return torch.empty(flat.shape, dtype=flat.dtype).copy_(flat)


def bits(tensor: torch.Tensor) -> bytes:
    return bytes(dense(tensor).view(torch.uint8).numpy().tobytes())


def assert_same(a: Any, b: Any, path: str = "state") -> None:
    if isinstance(a, tuple) and hasattr(a, "_fields"):
        assert type(a).__name__ == type(b).__name__ and a._fields == b._fields, path
        a, b = tuple(a), tuple(b)
    assert type(a) is type(b), f"{path}: {type(a)} became {type(b)}"
    if isinstance(a, torch.Tensor):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), path
        assert bits(a) == bits(b), f"{path}: other bits"
        if isinstance(a, torch.nn.Parameter):
            assert a.requires_grad == b.requires_grad, path
    elif isinstance(a, np.ndarray):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), path
        assert a.tobytes() == b.tobytes(), f"{path}: other bits"
        assert b.flags.writeable, path
    elif isinstance(a, np.generic):
        assert (a.dtype, a.tobytes()) == (b.dtype, b.tobytes()), path
    elif isinstance(a, float):
        assert struct.pack("<d", a) == struct.pack("<d", b), path
    elif isinstance(a, complex):
        assert_same((a.real, a.imag), (b.real, b.imag), path)
    elif isinstance(a, dict):
        assert_same(list(a), list(b), f"keys of {path}")
        for key, other in zip(a, b, strict=True):
            assert_same(a[key], b[other], f"{path}.{key}")
        if isinstance(a, collections.defaultdict):
            assert a.default_factory is b.default_factory, path
        if isinstance(a, collections.OrderedDict):
            assert_same(a.__dict__, b.__dict__, f"attributes of {path}")
    elif isinstance(a, (set, frozenset)):
        assert a == b, path
        assert sorted(map(repr, a)) == sorted(map(repr, b)), path
    elif isinstance(a, (list, tuple, collections.deque)):
        assert len(a) == len(b), f"{path}: {len(a)} items became {len(b)}"
        assert getattr(a, "maxlen", None) == getattr(b, "maxlen", None), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{path}.{i}")
    elif isinstance(a, types.SimpleNamespace):
        assert_same(vars(a), vars(b), path)
    else:
        assert a == b, f"{path}: {a!r} became {b!r}"
