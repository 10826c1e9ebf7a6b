"""Staging of the tensors that are not plain: by what their classes offer.

Plain tensors never come here. What comes is a subclass, a wrapper, sparse, quantised, a lazy view,
or lies where only torch can reach it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NoReturn, cast

import torch

from understudy._core import Error, _error

_COMPRESSED = {
    torch.sparse_csr: ("crow_indices", "col_indices"),
    torch.sparse_bsr: ("crow_indices", "col_indices"),
    torch.sparse_csc: ("ccol_indices", "row_indices"),
    torch.sparse_bsc: ("ccol_indices", "row_indices"),
}
# Of the types whose elements share bytes; torch gives them an `element_size` of one byte.
_ELEMENTS_PER_BYTE = {torch.quint4x2: 2, torch.quint2x4: 4}


class Parts:
    """How the parts of a tensor are staged; given by the walk."""

    def __init__(
        self,
        stage: Callable[[Any], Any],
        stage_storage: Callable[[torch.UntypedStorage], torch.UntypedStorage],
        settle: Callable[[], None],
        place: str,
    ) -> None:
        self.stage = stage
        self.stage_storage = stage_storage
        self.settle = settle  # fills what has been handed out, for code that may look
        self.place = place

    def tensor(self, x: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.stage(x))


def stage_tensor(
    x: torch.Tensor,
    stage: Callable[[Any], Any],
    stage_storage: Callable[[torch.UntypedStorage], torch.UntypedStorage],
    settle: Callable[[], None],
    place: str,
) -> torch.Tensor:
    """The staged tensor for `x`. Raises Error (unsupported) that says `place`."""
    parts = Parts(stage, stage_storage, settle, place)
    try:
        return _stage(x, parts)
    except (Error, RecursionError, MemoryError):
        raise
    except (RuntimeError, NotImplementedError, TypeError, AttributeError) as cause:
        _refuse(x, place, f"torch says: {cause}", cause)


def _stage(x: torch.Tensor, parts: Parts) -> torch.Tensor:
    if is_wrapper(x):
        return _stage_wrapper(x, parts)
    if _is_sharded(x):
        return _stage_sharded(x, parts)
    if hasattr(x, "materialize") and torch.nn.parameter.is_lazy(x):
        _refuse(x, parts.place, "it is an uninitialised parameter of a lazy module")
    if x.is_nested:
        _refuse(x, parts.place, "it is a nested tensor")
    if x.is_meta:
        _refuse(x, parts.place, "it is on the device 'meta', which has no values")
    if torch._C._functorch.is_functorch_wrapped_tensor(x) or torch._is_functional_tensor(x):
        _refuse(x, parts.place, "it is inside a transformation of functions")
    if x.layout is torch.sparse_coo:
        return torch.sparse_coo_tensor(
            parts.stage(x._indices()),
            parts.stage(x._values()),
            x.size(),
            is_coalesced=x.is_coalesced(),
            check_invariants=False,
        )
    if x.layout in _COMPRESSED:
        compressed, plain = (getattr(x, name)() for name in _COMPRESSED[x.layout])
        return torch.sparse_compressed_tensor(
            parts.stage(compressed),
            parts.stage(plain),
            parts.stage(x.values()),
            x.size(),
            layout=x.layout,
            check_invariants=False,
        )
    if x.layout is not torch.strided:
        _refuse(x, parts.place, f"it is of layout {x.layout}")
    if x.is_conj() or x.is_neg():
        # Others read bytes and not bits: the values themselves, in memory of their own.
        return parts.tensor(x.detach().resolve_conj().resolve_neg())
    if x._is_zerotensor():
        return parts.tensor(x.detach().clone())
    return _stage_strided(x, parts)


def _stage_strided(x: torch.Tensor, parts: Parts) -> torch.Tensor:
    storage = x.untyped_storage()
    needed = 0
    if x.numel() > 0:
        last = sum((n - 1) * stride for n, stride in zip(x.size(), x.stride(), strict=True))
        per_byte = _ELEMENTS_PER_BYTE.get(x.dtype, 1)
        count = -(-int(x.storage_offset() + last + 1) // per_byte)
        needed = count * x.element_size()
    if storage.nbytes() < needed:
        reason = f"its storage was resized to {storage.nbytes()} of {needed} bytes"
        _refuse(x, parts.place, reason)
    if needed > 0 and storage.data_ptr() == 0:
        _refuse(x, parts.place, "it has no memory of its own")
    staged = parts.stage_storage(storage)
    y = _empty_like(x)
    with torch._C.DisableTorchFunctionSubclass():
        return y.set_(staged, x.storage_offset(), x.size(), x.stride())


def _empty_like(x: torch.Tensor) -> torch.Tensor:
    """An empty tensor on the CPU of the type that an operation on `x` gives."""
    if not x.is_quantized:
        return x.new_empty([0], device="cpu")
    if x.qscheme() is torch.per_tensor_affine:
        return torch._empty_affine_quantized(
            [0], scale=x.q_scale(), zero_point=x.q_zero_point(), dtype=x.dtype
        )
    if x.qscheme() in (torch.per_channel_affine, torch.per_channel_affine_float_qparams):
        axis = x.q_per_channel_axis()
        return torch._empty_per_channel_affine_quantized(
            x.size(),
            scales=x.q_per_channel_scales().cpu().clone(),
            zero_points=x.q_per_channel_zero_points().cpu().clone(),
            axis=axis,
            dtype=x.dtype,
        )
    raise NotImplementedError(f"quantised by the scheme {x.qscheme()}")


def is_wrapper(x: torch.Tensor) -> bool:
    """Whether its class says of what it is made: DTensor, jagged tensors, tensors of torchao."""
    return hasattr(x, "__tensor_flatten__") and hasattr(type(x), "__tensor_unflatten__")


def is_made_of_parts(x: torch.Tensor) -> bool:
    """Whether `stage_tensor` lets its class make the result, attributes and all."""
    return is_wrapper(x) or _is_sharded(x)


def _stage_wrapper(x: Any, parts: Parts) -> torch.Tensor:
    names, context = x.__tensor_flatten__()
    inner = {name: parts.stage(getattr(x, name)) for name in names}
    if not type(x).__module__.startswith("torch."):
        parts.settle()

    def make(inner: dict[str, Any]) -> Any:
        return type(x).__tensor_unflatten__(inner, context, x.size(), x.stride())

    y = make(inner)
    if y.storage_offset() != 0:
        # It has no bytes but the offset of a part, by which torch takes it for a tensor that has:
        # pickling it reads from nowhere. So it is made over parts without one.
        first = {name: _without_offset(part) for name, part in inner.items()}
        y = make(first)
        for name, part in inner.items():
            if first[name] is not part and getattr(y, name) is first[name]:
                setattr(y, name, part)
    return cast(torch.Tensor, y.detach() if y.requires_grad else y)


def _without_offset(part: Any) -> Any:
    """For a class that only keeps its parts: the same form, over the beginning of the storage."""
    if type(part) is not torch.Tensor or part.storage_offset() == 0:
        return part
    form = torch.empty(0, dtype=part.dtype)
    return form.set_(part.untyped_storage(), 0, part.size(), part.stride())


def _is_sharded(x: torch.Tensor) -> bool:
    return any(c.__name__ == "ShardedTensorBase" for c in type(x).__mro__)


def _stage_sharded(x: Any, parts: Parts) -> torch.Tensor:
    from torch.distributed._shard.sharded_tensor import api, shard

    shards = [shard.Shard(parts.stage(s.tensor), s.metadata) for s in x.local_shards()]
    return api.ShardedTensor._init_from_local_shards_and_global_metadata(
        shards,
        sharded_tensor_metadata=x.metadata(),
        process_group=x._process_group,
        sharding_spec=x.sharding_spec(),
    )


@lru_cache(maxsize=1024)
def slots_of(cls: type) -> tuple[str, ...]:
    """The names of all slots of a class and its bases, as attributes."""
    names: list[str] = []
    for base in cls.__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            if name in ("__dict__", "__weakref__"):
                continue
            is_private = name.startswith("__") and not name.endswith("__")
            names.append(f"_{base.__name__.lstrip('_')}{name}" if is_private else name)
    return tuple(names)


def wait_for_trainer(device: torch.device) -> None:
    """Makes the current stream of `device` wait for what the trainer has put on the default one:
    a stager's own stream would otherwise copy what is not computed yet."""
    module = getattr(torch, device.type, None)
    if module is None or not hasattr(module, "default_stream"):
        return
    current, default = module.current_stream(device), module.default_stream(device)
    if current != default:
        current.wait_stream(default)


def _refuse(x: Any, place: str, what: str, cause: Exception | None = None) -> NoReturn:
    name = f"{type(x).__module__}.{type(x).__qualname__}"
    text = f"the tensor {place} ({name}) cannot be staged: {what}"
    raise _error("unsupported", text) from cause
