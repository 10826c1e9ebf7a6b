"""The two stagers, ours and the original, and objects for them to copy."""

import faulthandler
import gc
import os
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint import _state_dict_stager as original

import understudy.torch
from understudy._core import _use_exchange_api, _use_peek

STAGERS = {
    "ours": understudy.torch.StateDictStager,
    "original": original.StateDictStager,
    "asking": understudy.torch.StateDictStager,  # without looking into tensors
    "fallback": understudy.torch.StateDictStager,  # nor with DLPack's exchange table
}


@pytest.fixture(name="Stager")
def stager_class(request):
    # The switch works only once torch has been found, which making a stager does.
    made = STAGERS[request.param]
    made().close()
    _use_exchange_api(request.param != "fallback")
    _use_peek(request.param not in ("asking", "fallback"))
    yield made
    _use_exchange_api(True)
    _use_peek(True)


def _parameters(*marked: Any) -> Any:
    return pytest.mark.parametrize("Stager", marked, indirect=True)


# What both do. "everywhere" runs ours in each of its ways to know a tensor.
both = _parameters("ours", "original")
everywhere = _parameters("ours", "asking", "fallback", "original")
only_ours = _parameters("ours", "asking", "fallback")


def unlike_original(fault: str, raises: Any = None) -> Any:
    """What ours does; the original is run as well, and must fail, which is `fault`."""
    options = {"reason": fault, "strict": True} | ({"raises": raises} if raises else {})
    control = pytest.param("original", marks=pytest.mark.xfail(**options))
    return _parameters("ours", "asking", "fallback", control)


@pytest.fixture
def limit():
    """A test that hangs ends the run, and the traceback names it."""
    faulthandler.dump_traceback_later(300, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def same_storage(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def resident_nbytes() -> int:
    gc.collect()
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Holder:
    """Copied by what reduce gives for every class."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Boom(Exception):
    pass


class Raises:
    def __reduce__(self):
        raise Boom


class Plain(torch.Tensor):
    """A subclass that only adds a name."""


class Slotted(torch.Tensor):
    __slots__ = ("below", "other")


class SlottedMore(Slotted):
    __slots__ = ("above",)


class Pair(torch.Tensor):
    """A wrapper that says of what it is made."""

    @staticmethod
    def __new__(cls, a: torch.Tensor, b: torch.Tensor) -> "Pair":
        return torch.Tensor._make_wrapper_subclass(cls, a.size(), dtype=a.dtype)

    def __init__(self, a: torch.Tensor, b: torch.Tensor) -> None:
        self.a, self.b = a, b

    def __tensor_flatten__(self) -> Any:
        return ["a", "b"], None

    @classmethod
    def __tensor_unflatten__(cls, inner: Any, context: Any, size: Any, stride: Any) -> "Pair":
        return cls(inner["a"], inner["b"])

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.detach.default:
            return cls(args[0].a, args[0].b)
        if func is torch.ops.aten.new_empty.default:
            return torch.empty(args[1], dtype=args[0].dtype)
        raise NotImplementedError(f"{func} of a Pair")


class Opaque(torch.Tensor):
    """A wrapper that says nothing: its data is in `inner`, and it is not known where."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "Opaque":
        return torch.Tensor._make_wrapper_subclass(cls, inner.size(), dtype=inner.dtype)

    def __init__(self, inner: torch.Tensor) -> None:
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def unwrap(x: Any) -> Any:
            return x.inner if isinstance(x, Opaque) else x

        result = func(*map(unwrap, args), **(kwargs or {}))
        return cls(result) if isinstance(result, torch.Tensor) else result
