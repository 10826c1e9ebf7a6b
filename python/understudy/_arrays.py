"""NumPy arrays of the dtypes that the buffer protocol and tensors cannot say, and its generators.

An array's bytes are a part of it, as integers of the size of its elements or with one more
dimension for their bytes; its dtype is told by plain data. Elements that are objects are not taken.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from understudy._forms import Fields, Form, NotTold, part

NoneType = type(None)

_PLAIN = re.compile(r"[<>|=][biufcSUV]\d{1,9}|[<>|=][mM]8(\[(\d{1,9})?[A-Za-z]{1,2}\])?")
_UNSIGNED = {1: "u1", 2: "u2", 4: "u4", 8: "u8"}
_DEEPEST = 32


# Dtypes as plain data.


def _mantissa(dtype: np.dtype[Any]) -> int:
    return int(np.finfo(dtype).nmant)


def _describe(dtype: np.dtype[Any], depth: int = 0) -> Any:
    if dtype.hasobject or dtype.metadata or dtype.isbuiltin == 2 or depth > _DEEPEST:
        raise NotTold
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return {"base": _describe(base, depth + 1), "shape": tuple(map(int, shape))}
    if dtype.names is not None and dtype.fields is not None:
        if any(len(dtype.fields[name]) > 2 for name in dtype.names):
            raise NotTold  # titles
        return {
            "names": dtype.names,
            "formats": [_describe(dtype.fields[name][0], depth + 1) for name in dtype.names],
            "offsets": tuple(int(dtype.fields[name][1]) for name in dtype.names),
            "itemsize": int(dtype.itemsize),
            "aligned": bool(dtype.isalignedstruct),
            "record": dtype.type is np.record,
        }
    if not _PLAIN.fullmatch(dtype.str) or (dtype.kind == "V" and dtype.type is not np.void):
        raise NotTold
    if dtype.char in "gG":  # as the machine has them
        return {"float": dtype.str, "mantissa": _mantissa(dtype)}
    return dtype.str


def _dtype(told: Any, depth: int = 0) -> np.dtype[Any]:
    if depth > _DEEPEST:
        raise ValueError("its dtype is nested too deeply")
    if isinstance(told, str):
        if not _PLAIN.fullmatch(told):
            raise ValueError(f"'{told}' is no NumPy type that Understudy writes")
        return np.dtype(told)
    if not isinstance(told, dict):
        raise ValueError("its dtype is not told")
    if "float" in told:
        made = _dtype(part(told, "float", str))
        if made.kind not in "fc" or _mantissa(made) != told.get("mantissa"):
            raise RuntimeError(f"this machine has no {told['float']} as the one that saved")
        return made
    if "base" in told:
        shape = part(told, "shape", tuple)
        if any(type(n) is not int or n < 0 for n in shape):
            raise ValueError("its dtype has a shape that is none")
        return np.dtype((_dtype(told["base"], depth + 1), shape))
    names, formats = part(told, "names", tuple), part(told, "formats", list)
    offsets, itemsize = part(told, "offsets", tuple), part(told, "itemsize", int)
    if not len(names) == len(formats) == len(offsets):
        raise ValueError("its dtype has other names than formats")
    if any(type(name) is not str for name in names) or any(type(n) is not int for n in offsets):
        raise ValueError("its dtype has names or offsets that are none")
    made_formats = [_dtype(one, depth + 1) for one in formats]
    # NumPy's own look at them overflows.
    ends = [at + one.itemsize for at, one in zip(offsets, made_formats, strict=True)]
    if any(at < 0 for at in offsets) or any(end > itemsize for end in ends):
        raise ValueError("its dtype has a field that lies outside of it")
    fields = {
        "names": list(names),
        "formats": made_formats,
        "offsets": list(offsets),
        "itemsize": itemsize,
        "aligned": part(told, "aligned", bool),
    }
    made = np.dtype(fields)  # type: ignore[call-overload]
    return np.dtype((np.record, made)) if part(told, "record", bool) else made


# Arrays.


class _Bytes:
    """Lends an array's elements as bytes in one more dimension."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        lent = array.__array_interface__
        self.array = array
        self.__array_interface__ = {
            "version": 3,
            "shape": (*array.shape, array.dtype.itemsize),
            "typestr": "|u1",
            "data": lent["data"],
            "strides": (*array.strides, 1),
        }


def _dense(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    dtype = array.dtype
    if dtype.kind in "mM":
        return array.view("i8")
    if dtype.kind in "iuf" and dtype.names is None and dtype.itemsize in _UNSIGNED:
        return array.view(_UNSIGNED[dtype.itemsize])
    return np.asarray(_Bytes(array))


def _take_array(array: Any) -> Fields:
    dtype = _describe(array.dtype)
    if array.dtype.itemsize == 0:
        raise NotTold
    return {"dtype": dtype, "shape": tuple(map(int, array.shape)), "data": _dense(array)}


def _make_array(fields: Fields) -> np.ndarray[Any, Any]:
    dtype, shape = _dtype(fields.get("dtype")), part(fields, "shape", tuple)
    data = part(fields, "data", np.ndarray)
    if dtype.itemsize == 0:
        raise ValueError("its elements have no bytes")
    if data.shape == shape and data.dtype.itemsize == dtype.itemsize:
        return np.asarray(data.view(dtype))
    if data.dtype != np.uint8 or data.shape != (*shape, dtype.itemsize):
        raise ValueError("its data has another shape than its dtype needs")
    if data.size == 0:
        return np.zeros(shape, dtype)
    if data.strides[-1] != 1 and data.shape[-1] != 1:
        raise ValueError("its elements' bytes do not lie side by side")
    return np.asarray(data.view(dtype)[..., 0])


def _assign_array(mine: Any, new: Any) -> None:
    mine[...] = new


def _take_records(array: Any) -> Fields:
    return {
        "dtype": _describe(array.dtype),
        "shape": tuple(map(int, array.shape)),
        "array": array.view(np.ndarray),
    }


def _make_records(fields: Fields) -> Any:
    return part(fields, "array", np.ndarray).view(np.recarray)


def _take_masked(array: Any) -> Fields:
    if array._optinfo or type(array.data) is not np.ndarray:
        raise NotTold
    mask, fill = np.ma.getmask(array), array._fill_value
    return {
        "dtype": array.dtype.str,
        "shape": tuple(map(int, array.shape)),
        "data": array.data,
        "mask": None if mask is np.ma.nomask else mask,
        "fill_value": None if fill is None else np.asarray(fill),
        "is_hard": bool(array.hardmask),
    }


def _make_masked(fields: Fields) -> Any:
    data = part(fields, "data", np.ndarray)
    mask = part(fields, "mask", np.ndarray, NoneType)
    fill = part(fields, "fill_value", np.ndarray, NoneType)
    if mask is not None and (
        mask.shape != data.shape or mask.dtype != np.ma.make_mask_descr(data.dtype)
    ):
        raise ValueError("its mask is of another shape")
    if fill is not None and (fill.shape != () or fill.dtype != data.dtype):
        raise ValueError("its fill value is of another type")
    return np.ma.MaskedArray(
        data,
        mask=np.ma.nomask if mask is None else mask,
        fill_value=None if fill is None else fill[()],
        hard_mask=part(fields, "is_hard", bool),
    )


def _assign_masked(mine: Any, new: Any) -> None:
    mine.soften_mask()
    mine.data[...] = new.data
    if np.ma.getmask(new) is np.ma.nomask and np.ma.getmask(mine) is not np.ma.nomask:
        mine.mask[...] = np.zeros((), mine.mask.dtype)
    else:
        mine.mask = np.ma.getmask(new)
    if new._fill_value is not None:
        mine.fill_value = new._fill_value
    if new.hardmask:
        mine.harden_mask()


def _misfit_masked(mine: Any, new: Any) -> str | None:
    return None if mine.dtype == new.dtype else "its elements have other fields"


def _make_scalar(fields: Fields) -> Any:
    array = part(fields, "array", np.ndarray)
    if array.shape != ():
        raise ValueError("it is no scalar")
    return array[()]


# Generators.


def _take_bits(bits: Any) -> Fields:
    seeds = bits.seed_seq
    return {
        "state": bits.state,
        "seed_seq": seeds if type(seeds) is np.random.SeedSequence else None,
    }


# The arrays of their states, and how far a position in them may go.
_STATES: dict[str, tuple[dict[str, int], int]] = {
    "MT19937": ({"key": 624}, 624),
    "PCG64": ({}, 0),
    "PCG64DXSM": ({}, 0),
    "Philox": ({"counter": 4, "key": 2}, 4),
    "SFC64": ({"state": 4}, 0),
}


def _check_bits(name: str, state: Any) -> Any:
    """NumPy looks at no bound."""
    lengths, most = _STATES[name]
    inner = part(state, "state", dict)
    for key, length in lengths.items():
        if part(inner, key, np.ndarray).shape != (length,):
            raise ValueError(f"its part '{key}' has another length")
    for position in (inner.get("pos", 0), state.get("buffer_pos", 0)):
        if type(position) is not int or not 0 <= position <= most:
            raise ValueError("its position is none")
    if "buffer" in state and part(state, "buffer", np.ndarray).shape != (4,):
        raise ValueError("its buffer has another length")
    return state


def _bits_form(name: str) -> Form:
    def make(fields: Fields) -> Any:
        seeds = part(fields, "seed_seq", np.random.SeedSequence, NoneType)
        state = _check_bits(name, part(fields, "state", dict))
        made = getattr(np.random, name)(0 if seeds is None else seeds)
        made.state = state
        return made

    return Form(f"numpy.random.{name}", _take_bits, make, _assign_bits)


def _assign_bits(mine: Any, new: Any) -> None:
    seeds = new.seed_seq
    if hasattr(mine, "__setstate__") and isinstance(new.__reduce__()[2], tuple):
        mine.__setstate__((new.state, seeds))
    else:
        mine.state = new.state


def _make_generator(fields: Fields) -> np.random.Generator:
    bits = fields.get("bit_generator")
    if not isinstance(bits, np.random.BitGenerator):
        raise ValueError("it has no generator of bits")
    return np.random.Generator(bits)


def _assign_generator(mine: Any, new: Any) -> None:
    _assign_bits(mine.bit_generator, new.bit_generator)


def _make_random_state(fields: Fields) -> np.random.RandomState:
    state = part(fields, "state", dict)
    name = state.get("bit_generator")
    if name not in _STATES:
        raise ValueError(f"'{name}' is no generator of bits")
    made = np.random.RandomState(getattr(np.random, name)(0))
    made.set_state(_check_bits(name, state))
    return made


def _assign_random_state(mine: Any, new: Any) -> None:
    mine.set_state(new.get_state(legacy=False))


_MOST_POOL = 1024
# Words are made of the integers by a time that grows as the square of their length.
_MOST_BITS = 1 << 16


def _is_seed(value: Any) -> bool:
    numbers = value if isinstance(value, list | tuple) else (value,)
    lengths = [n.bit_length() for n in numbers if type(n) is int]
    return sum(lengths) <= _MOST_BITS and len(numbers) <= _MOST_BITS


def _take_seeds(seeds: Any) -> Fields:
    if seeds.pool_size > _MOST_POOL:
        raise NotTold
    if not _is_seed(seeds.entropy) or not _is_seed(seeds.spawn_key):
        raise NotTold
    names = ("entropy", "spawn_key", "pool_size", "n_children_spawned")
    return {name: getattr(seeds, name) for name in names}


def _make_seeds(fields: Fields) -> np.random.SeedSequence:
    pool_size = part(fields, "pool_size", int)
    if not 0 < pool_size <= _MOST_POOL:
        raise ValueError("its pool has a size that none has")
    if not _is_seed(fields.get("entropy")) or not _is_seed(fields.get("spawn_key")):
        raise ValueError(f"it has more than {_MOST_BITS} bits")
    return np.random.SeedSequence(
        fields.get("entropy"),
        spawn_key=part(fields, "spawn_key", tuple),
        pool_size=pool_size,
        n_children_spawned=part(fields, "n_children_spawned", int),
    )


_ARRAY = Form("numpy.ndarray", _take_array, _make_array, _assign_array)
_SCALAR = Form("numpy.scalar", lambda value: {"array": np.asarray(value)}, _make_scalar)
_DTYPE = Form(
    "numpy.dtype",
    lambda value: {"dtype": _describe(value)},
    lambda fields: _dtype(fields.get("dtype")),
)

_FORMS: dict[type, Form] = {
    np.ndarray: _ARRAY,
    np.recarray: Form("numpy.recarray", _take_records, _make_records, _assign_array),
    np.ma.MaskedArray: Form(
        "numpy.ma.MaskedArray",
        _take_masked,
        _make_masked,
        _assign_masked,
        misfit=_misfit_masked,
    ),
    np.void: _SCALAR,
    np.record: _SCALAR,
    np.longdouble: _SCALAR,
    np.clongdouble: _SCALAR,
    np.random.Generator: Form(
        "numpy.random.Generator",
        lambda value: {"bit_generator": value.bit_generator},
        _make_generator,
        _assign_generator,
    ),
    np.random.RandomState: Form(
        "numpy.random.RandomState",
        lambda value: {"state": value.get_state(legacy=False)},
        _make_random_state,
        _assign_random_state,
    ),
    np.random.SeedSequence: Form("numpy.random.SeedSequence", _take_seeds, _make_seeds),
    **{getattr(np.random, name): _bits_form(name) for name in _STATES},
}

BY_NAME = {form.name: form for form in (*_FORMS.values(), _DTYPE)}


def form_of(value: Any) -> Form | None:
    return _DTYPE if isinstance(value, np.dtype) else _FORMS.get(type(value))
