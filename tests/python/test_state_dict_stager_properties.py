"""Random states with aliases: values, types, order and storages as in the state, and what is the
same object as what, as in a copy by the original. (copy.deepcopy itself forgets the attributes of
parameters and refuses subclasses.)"""

import collections
import types

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from same import assert_same, bits
from staging import STAGERS, Holder, Plain, only_ours, stager_class  # noqa: F401
from test_properties import make_pool, scalars, views

Pair = collections.namedtuple("Pair", "a b")
keys = st.one_of(st.text(max_size=3), st.integers(), st.tuples(st.integers(), st.text(max_size=2)))
NODES = (
    torch.Tensor, list, tuple, dict, collections.deque, Holder, np.ndarray, types.SimpleNamespace,
)  # fmt: skip
WAYS = [
    lambda t: t,
    lambda t: t.t() if t.dim() == 2 else t.unsqueeze(0),
    lambda t: t.expand(2, *t.shape),
    lambda t: t.reshape(-1)[1:],
    lambda t: torch.nn.Parameter(t, requires_grad=False),
    lambda t: t.detach(),
    lambda t: t.as_subclass(Plain),
]


@st.composite
def states(draw):
    """Leaves and containers of which many are there more than once."""
    made = []

    def once_more(strategy):
        def choose(x):
            made.append(x)
            return x

        return st.one_of(
            strategy.map(choose),
            st.integers(0, 99).map(lambda i: made[i % len(made)] if made else i),
        )

    pool = make_pool()
    tensor = st.tuples(views(pool), st.sampled_from(WAYS)).map(lambda p: p[1](p[0]))
    leaves = once_more(st.one_of(tensor, tensor, scalars, st.frozensets(keys, max_size=3)))

    def containers(children):
        some = st.lists(children, max_size=4)
        table = st.dictionaries(keys, children, max_size=3)
        return once_more(
            st.one_of(
                some, some.map(tuple), table, table.map(collections.OrderedDict),
                table.map(lambda d: collections.defaultdict(list, d)), some.map(collections.deque),
                table.map(lambda d: types.SimpleNamespace(**{str(k): v for k, v in d.items()})),
                table.map(lambda d: Holder(**{str(k): v for k, v in d.items()})),
                st.tuples(children, children).map(lambda p: Pair(*p)),
                st.tuples(tensor, children).map(lambda p: setattr(p[0], "more", p[1]) or p[0]),
            )
        )  # fmt: skip

    state = [draw(st.recursive(leaves, containers, max_leaves=20)), *made]
    if draw(st.booleans()):
        lists = [x for x in made if type(x) is list]
        if lists:
            lists[0].append(lists[-1])
    return state


def nodes(x, seen, found):
    """All objects below `x` that have an identity, each once, in order; all visits, too."""
    if isinstance(x, NODES):
        found.append(x)
        if id(x) in seen:
            return
        seen.add(id(x))
    if isinstance(x, dict):
        for key, value in x.items():
            nodes(key, seen, found)
            nodes(value, seen, found)
    elif isinstance(x, (list, tuple, collections.deque)):
        for child in x:
            nodes(child, seen, found)
    if hasattr(x, "__dict__") and not isinstance(x, type):
        nodes(vars(x), seen, found)


def numbered(items):
    first = {}
    return [first.setdefault(item, len(first)) for item in items]


def by_original(state):
    return STAGERS["original"]().stage(state)


def assert_copied(state, model, result):
    """`result` is to `state` what `model`, a copy by the original, is."""
    visits = []
    for x in (state, model, result):
        visits.append([])
        nodes(x, set(), visits[-1])
    sources, models, results = visits
    assert [type(x) for x in models] == [type(x) for x in results]
    assert numbered(map(id, models)) == numbered(map(id, results))
    assert [a is b for a, b in zip(sources, models, strict=True)] == [
        a is b for a, b in zip(sources, results, strict=True)
    ]
    tensors = [(s, r) for s, r in zip(sources, results, strict=True) if isinstance(s, torch.Tensor)]
    owners = [[t.untyped_storage()._cdata for t in column] for column in zip(*tensors, strict=True)]
    if owners:
        assert numbered(owners[0]) == numbered(owners[1])
        assert not set(owners[0]) & set(owners[1])
    for s, r in tensors:
        assert (s.dtype, s.size(), s.stride()) == (r.dtype, r.size(), r.stride())
        assert s.storage_offset() == r.storage_offset() and bits(s) == bits(r)
        assert bytes(s.untyped_storage()) == bytes(r.untyped_storage())
    for m, r in zip(models, results, strict=True):
        if type(m) is tuple or isinstance(m, (list, dict, collections.deque)):
            assert len(m) == len(r)
    plain = [[x for x in found if isinstance(x, dict)] for found in (models, results)]
    for m, r in zip(*plain, strict=True):
        assert_same(
            [k for k in m if not isinstance(k, tuple)], [k for k in r if not isinstance(k, tuple)]
        )


@only_ours
def test_the_same_as_a_deep_copy(Stager):
    @settings(max_examples=80, deadline=None)
    @given(states(), st.booleans())
    def check(state, with_memo):
        stager = Stager()
        model = by_original(state)
        for _ in range(2):
            result = stager.deepcopy_with_tensor_offload(state, {} if with_memo else None)
            assert_copied(state, model, result)

    check()


@only_ours
def test_again_after_changes(Stager):
    @settings(max_examples=60, deadline=None)
    @given(states(), st.data())
    def check(state, data):
        stager = Stager()
        earlier = stager.stage(state)
        found = []
        nodes(state, set(), found)
        for x in found:
            if isinstance(x, torch.Tensor) and x.untyped_storage().nbytes():
                storage = x.untyped_storage()
                storage[data.draw(st.integers(0, 99)) % storage.nbytes()] ^= 1
            elif type(x) is list and x and data.draw(st.booleans()):
                x[:] = [*x[1:], x[0], torch.ones(2)][-5:]
            elif type(x) is dict and x and data.draw(st.booleans()):
                x.pop(next(iter(x)))
        result = stager.stage(state)
        assert_copied(state, by_original(state), result)
        del earlier, found
        assert_copied(state, by_original(state), stager.stage(state))

    check()


@only_ours
def test_shared_results_have_the_same_values(Stager):
    @settings(max_examples=50, deadline=None)
    @given(states())
    def check(state):
        stager = Stager(share_memory=True)
        for _ in range(2):
            found = [], []
            for x, place in zip((state, stager.stage(state)), found, strict=True):
                nodes(x, set(), place)
            for s, r in zip(*found, strict=True):
                if isinstance(s, torch.Tensor):
                    assert (s.dtype, s.size(), s.stride()) == (r.dtype, r.size(), r.stride())
                    assert bits(s) == bits(r) and (r.is_shared() or r.numel() == 0)
            for s in found[0]:
                if isinstance(s, torch.Tensor) and s.untyped_storage().nbytes():
                    s.untyped_storage()[0] ^= 1

    check()
