"""Random states, with aliases, come back equal by every way."""

import collections

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from same import assert_same, bits, dense

import understudy

DTYPES = [
    torch.float32, torch.float64, torch.bfloat16, torch.int8, torch.int64, torch.uint16,
    torch.bool, torch.complex64, torch.float8_e5m2,
]  # fmt: skip

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(),
    st.text(st.characters(codec=None), max_size=3),
    st.binary(),
    st.binary().map(bytearray),
    st.floats(width=32).map(np.float32),
    st.sampled_from([torch.float16, torch.device("cpu"), ..., slice(1, 2), range(3)]),
)
keys = st.one_of(
    st.text(max_size=4),
    st.integers(),
    st.booleans(),
    st.none(),
    st.binary(max_size=3),
    st.tuples(st.integers(), st.text(max_size=2)),
)


@st.composite
def views(draw, pool):
    """A tensor over one of a few storages, so that many overlap."""
    storage = draw(st.sampled_from(pool))
    dtype = draw(st.sampled_from(DTYPES))
    size = torch.empty(0, dtype=dtype).element_size()
    room = storage.numel() // size
    offset = draw(st.integers(0, room - 1))
    shape, strides, reach = [], [], 0
    for _ in range(draw(st.integers(0, 3))):
        stride = draw(st.integers(0, 9))
        most = 4 if stride == 0 else min(4, (room - 1 - offset - reach) // stride + 1)
        n = draw(st.integers(0, most))
        shape.append(n)
        strides.append(stride)
        reach += max(n - 1, 0) * stride
    return torch.empty(0, dtype=dtype).set_(storage.untyped_storage(), offset, shape, strides)


def make_pool():
    return [torch.randint(0, 2, (n,), dtype=torch.uint8) for n in (64, 200, 1000)]


@st.composite
def states(draw):
    pool = make_pool()
    leaves = st.one_of(
        scalars,
        views(pool),
        st.integers(0, 20).map(lambda n: pool[2].numpy()[n :: n + 1]),
        st.integers(1, 20).map(lambda n: pool[2].numpy()[::-n]),
    )

    def containers(children):
        return st.one_of(
            st.lists(children, max_size=4),
            st.lists(children, max_size=4).map(tuple),
            st.dictionaries(keys, children, max_size=4),
            st.dictionaries(keys, children, max_size=3).map(collections.OrderedDict),
            st.lists(children, max_size=3).map(lambda x: collections.deque(x, maxlen=5)),
            st.frozensets(keys, max_size=3),
        )

    return draw(st.recursive(leaves, containers, max_leaves=20))


def tensors_of(state):
    if isinstance(state, torch.Tensor):
        yield state.detach()
    elif isinstance(state, np.ndarray):
        yield state
    elif isinstance(state, dict):
        for child in state.values():
            yield from tensors_of(child)
    elif isinstance(state, (list, tuple, collections.deque)):
        for child in state:
            yield from tensors_of(child)


def flip(tensor) -> None:
    """Changes bits of every element, through the view."""
    if isinstance(tensor, np.ndarray):
        tensor ^= 1
        return
    changed = dense(tensor)
    raw = changed.view(torch.uint8)
    raw ^= 1
    # Element by element: torch refuses copies into overlapping views.
    for i, index in enumerate(np.ndindex(*tensor.shape)):
        tensor[index] = changed[i]


def assert_aliases_alike(a, b) -> None:
    """After the same writes through each view, all views show the same bits."""
    pairs = list(zip(tensors_of(a), tensors_of(b), strict=True))
    for x, y in pairs[:6]:
        flip(x)
        flip(y)
        for p, q in pairs:
            if isinstance(p, np.ndarray):
                assert p.tobytes() == q.tobytes()
            else:
                assert bits(p) == bits(q)


@settings(max_examples=200, deadline=None)
@given(states())
def test_through_a_file(tmp_path_factory, state):
    path = tmp_path_factory.getbasetemp() / "property"
    understudy.save_file(state, path)
    loaded = understudy.load_file(path)
    assert_same(loaded, state)
    assert_aliases_alike(state, loaded)


STAGER = understudy.Stager()


@settings(max_examples=150, deadline=None)
@given(states())
def test_through_a_snapshot(state):
    with STAGER.stage(state).wait() as snapshot:
        assert_same(snapshot.state(), state)
        loaded = snapshot.state()
        assert_aliases_alike(state, loaded)


@settings(max_examples=40, deadline=None)
@given(states(), states())
def test_through_a_checkpointer(tmp_path_factory, first, second):
    directory = tmp_path_factory.mktemp("property")
    with understudy.Checkpointer(directory) as ckpt:
        ckpt.save(1, {"s": first})
        ckpt.save(2, {"s": second})
        ckpt.wait()
        assert_same(ckpt.restore(1).state, {"s": first})
        assert_same(ckpt.restore(2).state, {"s": second})
