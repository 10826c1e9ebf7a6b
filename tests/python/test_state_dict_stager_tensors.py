"""Tensors that are not plain: other layouts, lazy bits, quantised, subclasses, wrappers."""

import warnings

import pytest
import torch
from same import assert_same, bits
from staging import (
    STAGERS,
    Opaque,
    Plain,
    both,
    everywhere,
    only_ours,
    same_storage,
    stager_class,  # noqa: F401
    unlike_original,
)
from torch._subclasses import FakeTensorMode

import understudy

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")

QUANTISED = {torch.quint8, torch.qint8, torch.qint32, torch.quint4x2, torch.quint2x4}
DTYPES = sorted(
    {d for d in vars(torch).values() if isinstance(d, torch.dtype)} - QUANTISED, key=str
)


def filled(dtype, n):
    """`n` items of any dtype with bits that are not all alike."""
    size = torch.empty(0, dtype=dtype).element_size()
    raw = torch.arange(n * size, dtype=torch.int64).to(torch.uint8)
    raw = raw % 2 if dtype is torch.bool else raw * 37 + 1
    return torch.empty(0, dtype=dtype).set_(raw.untyped_storage(), 0, (n,), (1,))


def raw(t):
    return bytes(t.untyped_storage())


@everywhere
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_bit_for_bit(Stager, dtype):  # rule 8
    stager, x = Stager(), filled(dtype, 7)
    part = torch.empty(0, dtype=dtype).set_(x.untyped_storage(), 3, (2, 2), (2, 1))
    nothing = torch.empty(2, 0, dtype=dtype)
    for _ in range(2):
        y, y_part, y_nothing = stager.stage([x, part, nothing])
        assert (y.dtype, y.size(), y_part.dtype, y_nothing.dtype) == (dtype, (7,), dtype, dtype)
        assert raw(y) == raw(x) and same_storage(y_part, y) and y_nothing.size() == (2, 0)
        assert (y_part.storage_offset(), y_part.stride()) == (3, (2, 1))
        x.untyped_storage()[0] ^= 1


@both
def test_bits_of_odd_floats(Stager):  # rule 8
    x = torch.tensor([0x7FA00001, 0x80000000, 0xFFC12345, 1], dtype=torch.uint32).view(
        torch.float32
    )
    assert bits(Stager().stage(x)) == bits(x)


@unlike_original("lazy bits are dropped: wrong values", AssertionError)
def test_lazy_bits_are_resolved(Stager):
    base = torch.complex(torch.arange(4.0), torch.arange(1.0, 5.0))
    state = {
        "conj": base.conj(), "part": base.conj()[1:], "imag": base.conj().imag,
        "t": base.view(2, 2).mH, "neg": torch._neg_view(torch.arange(3.0)),
        "grad": base.clone().requires_grad_().conj(),
    }  # fmt: skip
    staged = Stager().stage(state)
    for name, x in state.items():
        assert staged[name].tolist() == x.tolist(), name
        assert not staged[name].is_conj() and not staged[name].is_neg()
        assert not same_storage(staged[name], base), name


@only_ours
@pytest.mark.parametrize("lazy", [torch._neg_view, torch.conj, lambda t: t.conj().imag])
def test_a_lazy_view_in_the_place_of_a_plain_one(Stager, lazy):
    stager = Stager()
    t = torch.arange(1.0, 5.0)
    t = t if lazy is torch._neg_view else torch.complex(t, t)
    for _ in range(5):
        plain = t.detach() if lazy(t).dtype is t.dtype else t.imag
        stager.stage([plain])
        del plain  # the next tensor may get its address, and lies over the same bytes
        assert stager.stage([lazy(t)])[0].tolist() == lazy(t).tolist()


def sparse(layout, dense=None):
    dense = torch.tensor([[0.0, 1.0, 0, 0], [2.0, 0, 0, 3.0]]) if dense is None else dense
    if layout is torch.sparse_coo:
        return dense.to_sparse()
    block = (2, 2) if layout in (torch.sparse_bsr, torch.sparse_bsc) else None
    return dense.to_sparse(layout=layout, blocksize=block)


def parts_of(x):
    if x.layout is torch.sparse_coo:
        return x._indices(), x._values()
    if x.layout in (torch.sparse_csr, torch.sparse_bsr):
        return x.crow_indices(), x.col_indices(), x.values()
    return x.ccol_indices(), x.row_indices(), x.values()


LAYOUTS = [torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc]


@unlike_original("sparse tensors have no storage to copy")
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("share_memory", [False, True])
def test_sparse_tensors(Stager, layout, share_memory):
    stager, x = Stager(share_memory=share_memory), sparse(layout)
    x.note = ["a"]
    state = {"x": x, "again": [x], "none": sparse(layout, torch.zeros(2, 4))}
    for _ in range(2):
        staged = stager.stage(state)
        y = staged["x"]
        assert y.layout is layout and y.size() == x.size() and y is staged["again"][0]
        assert y.to_dense().tolist() == x.to_dense().tolist()
        assert staged["none"].to_dense().tolist() == [[0] * 4] * 2
        assert y.note == ["a"] and y.note is not x.note
        for a, b in zip(parts_of(x), parts_of(y), strict=True):
            assert not same_storage(a, b) and b.is_shared() == share_memory
        x.values().mul_(2) if layout is not torch.sparse_coo else x._values().mul_(2)


@unlike_original("sparse tensors have no storage to copy")
def test_sparse_tensors_keep_what_is_not_coalesced(Stager):
    indices = torch.tensor([[0, 0, 1]])
    values = torch.ones(3, 2)
    state = [torch.sparse_coo_tensor(indices, values, (3, 2)), values]
    state.append(state[0].coalesce())
    hybrid, plain, coalesced = Stager().stage(state)
    assert not hybrid.is_coalesced() and coalesced.is_coalesced()
    assert hybrid._values().tolist() == plain.tolist()
    assert hybrid.to_dense().tolist() == [[2, 2], [1, 1], [0, 0]]
    assert same_storage(hybrid._values(), plain) == same_storage(state[0]._values(), values)


def quantised(kind):
    x = torch.tensor([[0.1, -0.2, 0.3], [1.0, 2.0, -3.0]])
    if kind == "tensor":
        return torch.quantize_per_tensor(x, 0.1, 3, torch.qint8)
    scales, zeros = torch.tensor([0.1, 0.2]), torch.tensor([1, 2])
    if kind == "channel":
        return torch.quantize_per_channel(x, scales, zeros, 0, torch.qint8)
    return torch.quantize_per_channel(x, scales, zeros.float(), 0, torch.quint8)


@unlike_original("quantised tensors fail, or come back with other numbers")
@pytest.mark.parametrize("kind", ["tensor", "channel", "float channel"])
def test_quantised_tensors(Stager, kind):
    stager, x = Stager(), quantised(kind)
    for _ in range(2):
        staged = stager.stage({"x": x, "again": [x]})
        y = staged["x"]
        assert y is staged["again"][0] and not same_storage(x, y)
        assert (y.dtype, y.qscheme(), y.size(), y.stride()) == (
            x.dtype, x.qscheme(), x.size(), x.stride()
        )  # fmt: skip
        assert y.int_repr().tolist() == x.int_repr().tolist()
        assert y.dequantize().tolist() == x.dequantize().tolist()


def fake():
    with FakeTensorMode():
        return torch.ones(3)


REFUSED = {
    "meta": lambda: torch.ones(3, device="meta"),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "fake": fake,
    "opaque": lambda: Opaque(torch.ones(3)),
    "lazy module": lambda: torch.nn.LazyLinear(3).weight,
    "freed": lambda: _freed(),
    "mkldnn": lambda: torch.ones(3).to_mkldnn(),
}


def _freed():
    x = torch.ones(3)
    x.untyped_storage().resize_(0)
    return x


@only_ours
@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_staged_is_named(Stager, kind):
    stager, t = Stager(), torch.ones(3)
    before = stager.stage(t)
    t.fill_(2)
    for state, path in [
        ({"a": {"b": [t, REFUSED[kind]()]}}, "'a.b.1'"),
        (REFUSED[kind](), "at the top"),
    ]:
        with pytest.raises(understudy.Error, match="cannot be staged") as caught:
            stager.stage(state)
        assert path in str(caught.value) and caught.value.code == "unsupported"
    assert before.tolist() == [1, 1, 1]  # refused before anything was copied
    assert stager.stage(t).tolist() == [2, 2, 2]


@pytest.mark.parametrize("kind", REFUSED)
def test_the_original_names_nothing(kind):
    try:
        staged = STAGERS["original"]().stage({"a": {"b": [0, REFUSED[kind]()]}})
    except Exception as error:
        assert "a.b" not in str(error)
    else:  # or worse: it gives something that is not the source's values
        y = staged["a"]["b"][1]
        assert kind in ("lazy module", "freed", "meta", "fake", "opaque", "mkldnn"), y


@only_ours
def test_inside_a_transformation_of_functions(Stager):
    stager = Stager()

    def inside(x):
        with pytest.raises(understudy.Error, match=r"'a\.0'"):
            stager.stage({"a": [x]})
        return x.sum()

    torch.func.vmap(inside)(torch.ones(2, 3))
    torch.func.grad(inside)(torch.ones(3))


@everywhere
@pytest.mark.parametrize("place", ["with", "default", "inference", "dtype"])
def test_what_torch_is_set_to_does_not_matter(Stager, place):
    stager = Stager()
    state = {
        "x": torch.arange(3.0),
        "none": torch.empty(0),
        "sub": torch.ones(2).as_subclass(Plain),
    }
    if place == "with":
        with torch.device("meta"):
            staged = stager.stage(state)
    elif place == "default":
        torch.set_default_device("meta")
        try:
            staged = stager.stage(state)
        finally:
            torch.set_default_device(None)
    elif place == "inference":
        with torch.inference_mode():
            stager.stage(state)
        staged = stager.stage(state)
        assert not any(y.is_inference() for y in staged.values())
        staged["x"].add_(0)
    else:
        torch.set_default_dtype(torch.float64)
        try:
            staged = stager.stage(state)
        finally:
            torch.set_default_dtype(torch.float32)
    assert_same(state, staged)


@only_ours
def test_tensors_without_elements_or_values(Stager):
    zero = torch._efficientzerotensor(3)
    staged = Stager().stage({"zero": zero, "empty": torch.empty(0, 3).to_sparse()})
    assert staged["zero"].tolist() == [0, 0, 0]
    assert staged["empty"].size() == (0, 3)


def test_no_warning_is_made():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        STAGERS["ours"]().stage([torch.ones(2), torch.ones(2).as_subclass(Plain)])
