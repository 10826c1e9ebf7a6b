"""One of each kind of value that its fields tell whole: (name, make, kind).

`make(n)` gives the n-th of its kind, all of one size; `kind` is how `understudy show` names it.
"""

import array
import dataclasses
import datetime
import decimal
import enum
import fractions
import ipaddress
import random
import re
import time
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch.testing._internal.two_tensor import TwoTensor

UTC = datetime.timezone.utc


class Case(NamedTuple):
    name: str
    make: Callable[[int], Any]
    kind: str


class Color(enum.Enum):
    RED = 1
    BLUE = 2
    GREEN = "g"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 7


class Access(enum.Flag):
    READ = 1
    WRITE = 2
    RUN = 4


@dataclasses.dataclass
class Settings:
    lr: float = 0.1
    names: list[str] = dataclasses.field(default_factory=list)
    color: Color = Color.RED
    w: Any = None
    inner: Any = None


@dataclasses.dataclass(frozen=True)
class Frozen:
    a: int
    b: Any


@dataclasses.dataclass(slots=True)
class Slots:
    a: int
    b: Any


class Scaled(torch.Tensor):
    """As torchao has them: integers and a scale, and what it is made of is told."""

    @staticmethod
    def __new__(cls, data, scale, block):
        shape, dtype = data.shape, scale.dtype
        return torch.Tensor._make_wrapper_subclass(cls, shape, dtype=dtype)

    def __init__(self, data, scale, block):
        self.data_part, self.scale, self.block = data, scale, block

    def __tensor_flatten__(self):
        return ["data_part", "scale"], {"block": self.block, "color": Color.RED}

    @classmethod
    def __tensor_unflatten__(cls, parts, context, shape, stride):
        assert context["color"] is Color.RED
        return cls(parts["data_part"], parts["scale"], context["block"])

    def dequantize(self):
        return self.data_part * self.scale

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.copy_.default and type(args[1]) is Scaled:
            args[0].data_part.copy_(args[1].data_part)
            args[0].scale.copy_(args[1].scale)
            return args[0]
        if func in (torch.ops.aten.detach.default, torch.ops.aten.alias.default):
            return Scaled(args[0].data_part, args[0].scale, args[0].block)
        raise NotImplementedError(func)


def scaled(n):
    return Scaled(torch.arange(6, dtype=torch.int8).reshape(2, 3) + n, torch.ones(1) * n, (1, 3))


def generator(n):
    made = torch.Generator().manual_seed(n)
    torch.rand(3, generator=made)
    return made


def numpy_generator(bits):
    def make(n):
        made = np.random.Generator(bits(n))
        made.random(3)
        made.integers(5, dtype=np.uint8)
        return made

    return make


def python_generator(n):
    made = random.Random(n)
    made.gauss(0, 1)
    return made


def structured(n):
    dtype = np.dtype([("id", "i4"), ("pos", "f8", (2,)), ("tag", "U3"), ("in", [("x", ">u2")])])
    made = np.zeros(3, dtype)
    made["id"], made["pos"], made["tag"], made["in"]["x"] = n, n / 2, f"a{n % 10}", n
    return made


def masked(n):
    made = np.ma.masked_array([1.0, 2.0, n], mask=[False, True, n % 2 == 0])
    made.fill_value = -1.0
    return made


def sparse(n):
    indices = torch.tensor([[0, 1, 1], [2, 0, 2]])
    made = torch.sparse_coo_tensor(indices, torch.tensor([1.0, 2.0, n]), (2, 3))
    return made.coalesce() if n % 2 else made


def uncoalesced(n):
    indices = torch.tensor([[0, 0], [1, 1]])
    return torch.sparse_coo_tensor(indices, torch.tensor([1.0, n]), (2, 3), is_coalesced=False)


def blocks(n):
    made = torch.zeros(4, 4)
    made[0, 0], made[3, 2] = n + 1, 2
    return made


def quantised(n):
    return torch.quantize_per_tensor(torch.arange(6.0).reshape(2, 3) + n, 0.5, 3, torch.quint8)


def per_channel(n):
    scales, zeros = torch.tensor([0.1, 0.2 + n]), torch.tensor([1, n])
    return torch.quantize_per_channel(torch.randn(2, 3), scales, zeros, 0, torch.qint8)


def half_bytes(n):
    scales, zeros = torch.tensor([0.1, 0.2 + n]), torch.tensor([1.0, n])
    return torch.quantize_per_channel(
        torch.arange(8.0).view(2, 4), scales, zeros, 0, torch.quint4x2
    )


def jagged(n):
    return torch.nested.nested_tensor_from_jagged(
        torch.arange(10.0).reshape(5, 2) + n, torch.tensor([0, 2 + n % 2, 5])
    )


def settings(n):
    return Settings(n / 2, [str(n)], Color.BLUE, torch.full((2,), float(n)), Frozen(n, sparse(n)))


STANDARD = [
    Case("datetime", lambda n: datetime.datetime(2026, 1, 2, 3, 4, 5, n), "datetime.datetime"),
    Case(
        "datetime of a zone",
        lambda n: datetime.datetime(2026, 10, 25, 2, n, fold=1, tzinfo=zoneinfo.ZoneInfo("UTC")),
        "datetime.datetime",
    ),
    Case("aware datetime", lambda n: datetime.datetime(2026, 1, 2, n, tzinfo=UTC), "datetime"),
    Case("date", lambda n: datetime.date(2026, 1, 1 + n), "datetime.date"),
    Case("time", lambda n: datetime.time(1, 2, n, tzinfo=UTC), "datetime.time"),
    Case("timedelta", lambda n: datetime.timedelta(-n, 3, 4), "datetime.timedelta"),
    Case(
        "timezone",
        lambda n: datetime.timezone(datetime.timedelta(hours=n), "here"),
        "datetime.timezone",
    ),
    Case("zone", lambda n: zoneinfo.ZoneInfo(("UTC", "GMT")[n % 2]), "zoneinfo.ZoneInfo"),
    Case("decimal", lambda n: decimal.Decimal(f"-{n}.50E+7"), "decimal.Decimal"),
    Case("fraction", lambda n: fractions.Fraction(n, 7), "fractions.Fraction"),
    Case("uuid", lambda n: uuid.UUID(int=n), "uuid.UUID"),
    Case("address", lambda n: ipaddress.ip_address(f"10.0.0.{n}"), "ipaddress.IPv4Address"),
    Case("address 6", lambda n: ipaddress.ip_address(f"fe80::{n}%eth0"), "ipaddress.IPv6Address"),
    Case("network", lambda n: ipaddress.ip_network(f"10.{n}.0.0/16"), "ipaddress.IPv4Network"),
    Case("network 6", lambda n: ipaddress.ip_network(f"fe8{n}::/16"), "ipaddress.IPv6Network"),
    Case("interface", lambda n: ipaddress.ip_interface(f"10.{n}.0.1/8"), "IPv4Interface"),
    Case("interface 6", lambda n: ipaddress.ip_interface(f"::{n}/8"), "IPv6Interface"),
    Case("pattern", lambda n: re.compile(f"a{n}", re.IGNORECASE), "re.Pattern"),
    Case("struct_time", lambda n: time.gmtime(n), "time.struct_time"),
    Case("array", lambda n: array.array("i", [1, 2, n]), "array.array"),
    Case("array of text", lambda n: array.array("u", f"a{n}"), "array.array"),
    Case("random", python_generator, "random.Random"),
]

ARRAYS = [
    Case("dates", lambda n: np.array(["2026-01-02", f"000{n}"], "M8[D]"), "numpy.ndarray"),
    Case("durations", lambda n: np.array([[n, 2]], "m8[ms]"), "numpy.ndarray"),
    Case("big-endian", lambda n: np.arange(n, n + 6, dtype=">f4").reshape(2, 3), "numpy.ndarray"),
    Case("big-endian complex", lambda n: np.array([1j, n], ">c16"), "numpy.ndarray"),
    Case("text", lambda n: np.array(["abc", f"ö{n}"], "U4"), "numpy.ndarray"),
    Case("byte strings", lambda n: np.array([b"abc", b"%d" % n], "S3"), "numpy.ndarray"),
    Case("void", lambda n: np.array([b"abc", b"%d" % n], "V3"), "numpy.ndarray"),
    Case("long doubles", lambda n: np.array([1, n], np.longdouble) / 3, "numpy.ndarray"),
    Case("structured", structured, "numpy.ndarray"),
    Case("structured, transposed", lambda n: np.stack([structured(n)] * 2).T, "numpy.ndarray"),
    Case("no dimensions", lambda n: np.array(f"200{n}", "M8[Y]"), "numpy.ndarray"),
    Case("empty", lambda n: np.zeros((0, 3), "U2"), "numpy.ndarray"),
    Case("records", lambda n: structured(n).view(np.recarray), "numpy.recarray"),
    Case("masked", masked, "numpy.ma.MaskedArray"),
    Case("masked dates", lambda n: np.ma.masked_array(["2026", f"000{n}"], [0, 1], "M8[Y]"), "ma"),
    Case("no mask", lambda n: np.ma.masked_array([1, n]), "numpy.ma.MaskedArray"),
    Case("a record", lambda n: structured(n)[0], "numpy.scalar"),
    Case("a long double", lambda n: np.longdouble(n) / 3, "numpy.scalar"),
    Case("a dtype", lambda n: structured(n).dtype, "numpy.dtype"),
    *(
        Case(f"generator {bits.__name__}", numpy_generator(bits), "numpy.random.Generator")
        for bits in (
            np.random.PCG64,
            np.random.PCG64DXSM,
            np.random.MT19937,
            np.random.Philox,
            np.random.SFC64,
        )
    ),
    Case("bit generator", lambda n: np.random.Philox(n), "numpy.random.Philox"),
    Case("random state", lambda n: np.random.RandomState(n), "numpy.random.RandomState"),
    Case("seeds", lambda n: np.random.SeedSequence(n).spawn(1)[0], "numpy.random.SeedSequence"),
]

TENSORS = [
    Case("generator", generator, "torch.Generator"),
    Case("sparse", sparse, "torch.sparse_coo"),
    Case("sparse, not coalesced", uncoalesced, "torch.sparse_coo"),
    Case("sparse and dense", lambda n: blocks(n).to_sparse(1), "torch.sparse_coo"),
    Case("csr", lambda n: blocks(n).to_sparse_csr(), "torch.sparse_csr"),
    Case("csc", lambda n: blocks(n).to_sparse_csc(), "torch.sparse_csc"),
    Case("bsr", lambda n: blocks(n).to_sparse_bsr((2, 2)), "torch.sparse_bsr"),
    Case("bsc", lambda n: blocks(n).to_sparse_bsc((2, 2)), "torch.sparse_bsc"),
    Case("sparse parameter", lambda n: torch.nn.Parameter(sparse(n)), "torch.sparse_coo"),
    Case("quantised", quantised, "torch.quantized"),
    Case("quantised, transposed", lambda n: quantised(n).t(), "torch.quantized"),
    Case("per channel", per_channel, "torch.quantized"),
    Case("half bytes", half_bytes, "torch.quantized"),
    Case("jagged", jagged, "torch.jagged"),
]

CLASSES = [
    Case("enum", lambda n: list(Color)[n % 3], "enum many_values.Color"),
    Case("int enum", lambda n: list(Level)[n % 2], "enum many_values.Level"),
    Case("flags", lambda n: Access(n % 8), "enum many_values.Access"),
    Case("dataclass", settings, "dataclass many_values.Settings"),
    Case("frozen dataclass", lambda n: Frozen(n, torch.ones(2) * n), "many_values.Frozen"),
    Case("dataclass with slots", lambda n: Slots(n, [generator(n)]), "many_values.Slots"),
    Case("subclass", scaled, "tensor_subclass many_values.Scaled"),
    Case(
        "subclass in a subclass",
        lambda n: TwoTensor(
            TwoTensor(torch.ones(2) * n, torch.ones(2)), TwoTensor(torch.ones(2), torch.ones(2))
        ),
        "tensor_subclass",
    ),
    Case("enum in a list", lambda n: [list(Color)[n % 3], {"c": Color.RED}], "enum"),
]

BY_THEMSELVES = [*STANDARD, *ARRAYS, *TENSORS]
ALL = [*BY_THEMSELVES, *CLASSES]


def cases(chosen: list[Case]) -> pytest.MarkDecorator:
    """The test has an argument `case`."""
    return pytest.mark.parametrize("case", chosen, ids=[case.name for case in chosen])


def is_same(a: Any, b: Any) -> bool:
    """Strictly: the type, and all that can be seen of the value."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return _is_same_tensor(a, b)
    if isinstance(a, torch.Generator):
        return a.device == b.device and torch.equal(a.get_state(), b.get_state())
    if isinstance(a, np.random.Generator):
        return is_same(a.bit_generator, b.bit_generator)
    if isinstance(a, np.random.BitGenerator):
        return is_same(a.state, b.state) and is_same(a.seed_seq, b.seed_seq)
    if isinstance(a, np.random.RandomState):
        return is_same(a.get_state(legacy=False), b.get_state(legacy=False))
    if isinstance(a, np.random.SeedSequence):
        return is_same(a.state, b.state)
    if isinstance(a, random.Random):
        return a.getstate() == b.getstate()
    if isinstance(a, np.ma.MaskedArray):
        mine, yours = np.ma.getmask(a), np.ma.getmask(b)
        return (
            is_same(np.asarray(a.data), np.asarray(b.data))
            and (mine is yours or is_same(np.asarray(mine), np.asarray(yours)))
            and is_same(np.asarray(a.fill_value), np.asarray(b.fill_value))
        )
    if isinstance(a, (np.ndarray, np.generic)) and a.dtype.char == "g":
        return a.dtype == b.dtype and bool(np.array_equal(a, b))  # it has bytes of padding
    if isinstance(a, (np.ndarray, np.generic)):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if dataclasses.is_dataclass(a):
        return all(is_same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if isinstance(a, dict):
        return list(a) == list(b) and all(is_same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(is_same, a, b))
    if isinstance(a, (datetime.datetime, datetime.time)):
        return a.isoformat() == b.isoformat() and a.fold == b.fold and a.tzinfo == b.tzinfo
    if isinstance(a, decimal.Decimal):
        return str(a) == str(b)
    return bool(a == b)


def _is_same_tensor(a: Any, b: Any) -> bool:
    if (a.dtype, a.layout, a.requires_grad) != (b.dtype, b.layout, b.requires_grad):
        return False
    if hasattr(a, "__tensor_flatten__"):
        (names, context), (others, other) = a.__tensor_flatten__(), b.__tensor_flatten__()
        names = [name for name in names if not name.startswith(("_min", "_max"))]
        return (
            context == other
            and set(names) <= set(others)
            and all(is_same(getattr(a, name), getattr(b, name)) for name in names)
        )
    if a.shape != b.shape:
        return False
    a, b = a.detach(), b.detach()
    if a.is_quantized:
        return torch.equal(a, b) and a.qscheme() == b.qscheme()
    if a.layout is torch.sparse_coo:
        return (
            a.is_coalesced() == b.is_coalesced()
            and torch.equal(a._indices(), b._indices())
            and torch.equal(a._values(), b._values())
        )
    if a.layout is not torch.strided:
        return torch.equal(a.to_dense(), b.to_dense())
    return torch.equal(a, b)
