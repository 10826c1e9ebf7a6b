"""Generators of torch, and its tensors that are not dense, by the dense ones they are made of."""

from __future__ import annotations

from typing import Any

import torch

from understudy._forms import Fields, Form, NotTold, part

NoneType = type(None)


def _of(tensor: Any) -> Fields:
    """What is said of every tensor."""
    return {
        "shape": tensor.shape,
        "dtype": tensor.dtype,
        "requires_grad": tensor.requires_grad,
        "parameter": isinstance(tensor, torch.nn.Parameter),
    }


def _finished(made: Any, fields: Fields) -> Any:
    if made.dtype != part(fields, "dtype", torch.dtype):
        raise ValueError(f"it is {made.dtype}, and was saved as {fields['dtype']}")
    return as_leaf(made, fields)


def as_leaf(made: Any, fields: Fields) -> Any:
    """`made` with the gradients, or as the parameter, that its fields say."""
    requires_grad = part(fields, "requires_grad", bool)
    if part(fields, "parameter", bool):
        return torch.nn.Parameter(made, requires_grad=requires_grad)
    return made.requires_grad_() if requires_grad else made


def _tensor(fields: Fields, name: str) -> Any:
    value = part(fields, name, torch.Tensor)
    if value.layout is not torch.strided or value.is_quantized:
        raise ValueError(f"its part '{name}' is not dense")
    return value


def _index(fields: Fields, name: str) -> Any:
    """One of indices: not a few that are repeated, which grow to any size."""
    value = _tensor(fields, name)
    if value.dim() > 0 and value.shape[-1] > 1 and value.stride(-1) == 0:
        raise ValueError(f"its part '{name}' repeats one index")
    return value


def _made(make: Any) -> Any:
    """Torch says RuntimeError of parts that do not belong together."""
    try:
        return make()
    except RuntimeError as error:
        raise ValueError(str(error)) from error


# Generators.


def _take_generator(generator: Any) -> Fields:
    return {"device": generator.device.type, "state": generator.get_state()}


def _make_generator(fields: Fields) -> torch.Generator:
    made = torch.Generator(device=part(fields, "device", str))
    state = _tensor(fields, "state")
    _made(lambda: made.set_state(state))
    return made


def _assign_generator(mine: Any, new: Any) -> None:
    mine.set_state(new.get_state())


# Sparse tensors.


def _take_coo(tensor: Any) -> Fields:
    plain = tensor.detach()
    return {
        **_of(tensor),
        "coalesced": plain.is_coalesced(),
        "indices": plain._indices(),
        "values": plain._values(),
    }


def _make_coo(fields: Fields) -> Any:
    shape, is_coalesced = part(fields, "shape", torch.Size), part(fields, "coalesced", bool)
    indices, values = _index(fields, "indices"), _tensor(fields, "values")
    made = _made(
        lambda: torch.sparse_coo_tensor(
            indices, values, shape, is_coalesced=is_coalesced, check_invariants=True
        )
    )
    return _finished(made, fields)


def _assign_data(mine: Any, new: Any) -> None:
    mine.data = new.detach()


_COMPRESSED = {
    torch.sparse_csr: ("crow_indices", "col_indices"),
    torch.sparse_csc: ("ccol_indices", "row_indices"),
    torch.sparse_bsr: ("crow_indices", "col_indices"),
    torch.sparse_bsc: ("ccol_indices", "row_indices"),
}


def _compressed(layout: Any) -> Form:
    names = _COMPRESSED[layout]

    def take(tensor: Any) -> Fields:
        plain = tensor.detach()
        parts = {name: getattr(plain, name)() for name in (*names, "values")}
        return {**_of(tensor), **parts}

    def make(fields: Fields) -> Any:
        shape = part(fields, "shape", torch.Size)
        first, second = (_index(fields, name) for name in names)
        values = _tensor(fields, "values")
        made = _made(
            lambda: torch.sparse_compressed_tensor(
                first, second, values, shape, layout=layout, check_invariants=True
            )
        )
        return _finished(made, fields)

    def assign(mine: Any, new: Any) -> None:
        plain, new = mine.detach(), new.detach()
        plain.resize_as_sparse_(new)
        for name in (*names, "values"):
            getattr(plain, name)().copy_(getattr(new, name)())

    return Form(str(layout), take, make, assign)


# Quantised tensors: their integers, and what they stand for.

_INTEGERS = {torch.qint8: torch.int8, torch.quint8: torch.uint8, torch.qint32: torch.int32}
_PER_TENSOR = (torch.per_tensor_affine, torch.per_tensor_symmetric)


def _take_quantized(tensor: Any) -> Fields:
    plain, storage = tensor.detach(), tensor.untyped_storage()
    if tensor.dtype in _INTEGERS:
        data = torch.empty(0, dtype=_INTEGERS[tensor.dtype])
        data.set_(storage, plain.storage_offset(), plain.shape, plain.stride())
    else:  # several numbers in a byte
        if not plain.is_contiguous() or plain.storage_offset() != 0:
            raise NotTold
        data = torch.empty(0, dtype=torch.uint8).set_(storage)
    fields: Fields = {**_of(tensor), "scheme": str(plain.qscheme()).removeprefix("torch.")}
    if plain.qscheme() in _PER_TENSOR:
        fields |= {"scale": plain.q_scale(), "zero_point": plain.q_zero_point()}
    else:
        fields |= {
            "scales": plain.q_per_channel_scales(),
            "zero_points": plain.q_per_channel_zero_points(),
            "axis": plain.q_per_channel_axis(),
        }
    return {**fields, "data": data}


def _empty_quantized(fields: Fields) -> Any:
    shape, dtype = part(fields, "shape", torch.Size), part(fields, "dtype", torch.dtype)
    if part(fields, "scheme", str).startswith("per_tensor"):
        return torch._empty_affine_quantized(
            shape,
            scale=part(fields, "scale", float),
            zero_point=part(fields, "zero_point", int),
            dtype=dtype,
        )
    axis = part(fields, "axis", int)
    scales, zero_points = _tensor(fields, "scales"), _tensor(fields, "zero_points")
    if not 0 <= axis < len(shape) or not scales.shape == zero_points.shape == (shape[axis],):
        raise ValueError("its scales are not one for each channel")
    return torch._empty_per_channel_affine_quantized(
        shape, scales=scales, zero_points=zero_points, axis=axis, dtype=dtype
    )


def _make_quantized(fields: Fields) -> Any:
    data, dtype = _tensor(fields, "data"), part(fields, "dtype", torch.dtype)
    is_whole = dtype in _INTEGERS
    if data.dtype != _INTEGERS.get(dtype, torch.uint8):
        raise ValueError(f"its data is {data.dtype}")
    if is_whole and data.shape != part(fields, "shape", torch.Size):
        raise ValueError("its data has another shape")
    # First of all: the shape alone could ask for any amount of memory.
    if not is_whole and part(fields, "shape", torch.Size).numel() > 4 * data.numel():
        raise ValueError("its data has another length")
    made = _made(lambda: _empty_quantized(fields))
    storage = data.untyped_storage()
    if is_whole:
        made.set_(storage, data.storage_offset(), data.shape, data.stride())
    else:
        if data.numel() != storage.nbytes() or made.untyped_storage().nbytes() != data.numel():
            raise ValueError("its data has another length")
        made.untyped_storage().copy_(storage)
    return _finished(made, fields)


# Jagged tensors.


def _take_jagged(tensor: Any) -> Fields:
    values, offsets = tensor._values.detach(), tensor._offsets
    return {
        **_of(tensor),
        # One of its sizes is no number: here it is that of all its rows together.
        "shape": (offsets.shape[0] - 1, *values.shape),
        "ragged_dimension": tensor._ragged_idx,
        "values": values,
        "offsets": offsets,
        "lengths": tensor._lengths,
    }


def _check_rows(offsets: Any, lengths: Any, size: int) -> None:
    ends = offsets[1:] if lengths is None else offsets[:-1] + lengths
    is_right = (
        offsets.dim() == 1
        and offsets.dtype in (torch.int32, torch.int64)
        and offsets.shape[0] > 1
        and bool((offsets[1:] >= offsets[:-1]).all())
        and int(offsets[0]) >= 0
        and int(offsets[-1]) <= size
        and bool((ends <= size).all())
    )
    if lengths is not None:
        # Each for itself: a sum may overflow.
        is_right = is_right and bool(((lengths >= 0) & (lengths <= size)).all())
        is_right = is_right and lengths.dtype == offsets.dtype
    if not is_right:
        raise ValueError("its offsets are not those of its values")


def _make_jagged(fields: Fields) -> Any:
    values, offsets = _tensor(fields, "values"), _index(fields, "offsets")
    lengths = None if fields.get("lengths") is None else _index(fields, "lengths")
    dimension = part(fields, "ragged_dimension", int)
    if not 1 <= dimension <= values.dim():
        raise ValueError("its ragged dimension is none")
    if lengths is not None and lengths.shape[0] != offsets.shape[0] - 1:
        raise ValueError("its lengths are not one for each row")
    _check_rows(offsets, lengths, values.shape[dimension - 1])
    made = _made(
        lambda: torch.nested.nested_tensor_from_jagged(
            values, offsets, lengths=lengths, jagged_dim=dimension
        )
    )
    return _finished(made, fields)


def _misfit_jagged(mine: Any, new: Any) -> str | None:
    if mine._ragged_idx != new._ragged_idx:
        return "another of its dimensions is ragged"
    if (mine._lengths is None) != (new._lengths is None):
        return "only one of it and of what was saved has lengths"
    return None


def _assign_jagged(mine: Any, new: Any) -> None:
    with torch.no_grad():
        mine._values.copy_(new._values)
        mine._offsets.copy_(new._offsets)
        if mine._lengths is not None and new._lengths is not None:
            mine._lengths.copy_(new._lengths)
    mine._metadata_cache.clear()  # the shortest and the longest row


_GENERATOR = Form("torch.Generator", _take_generator, _make_generator, _assign_generator)
_QUANTIZED = Form("torch.quantized", _take_quantized, _make_quantized, _assign_data)
_JAGGED = Form("torch.jagged", _take_jagged, _make_jagged, _assign_jagged, misfit=_misfit_jagged)
_SPARSE = {
    torch.sparse_coo: Form("torch.sparse_coo", _take_coo, _make_coo, _assign_data),
    **{layout: _compressed(layout) for layout in _COMPRESSED},
}

BY_NAME = {form.name: form for form in (_GENERATOR, _QUANTIZED, _JAGGED, *_SPARSE.values())}


def _is_jagged(value: Any) -> bool:
    return (
        type(value).__name__ == "NestedTensor"
        and type(value).__module__ == "torch.nested._internal.nested_tensor"
    )


def form_of(value: Any) -> Form | None:
    kind = type(value)
    if kind is torch.Generator:
        return _GENERATOR
    if not isinstance(value, torch.Tensor) or value.device.type != "cpu":
        return None
    if _is_jagged(value):
        return _JAGGED
    if kind is not torch.Tensor and kind is not torch.nn.Parameter:
        return None
    if value.is_quantized:
        return _QUANTIZED
    return _SPARSE.get(value.layout)
