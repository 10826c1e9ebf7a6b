"""The rules that StateDictStager keeps, with the original as the control. Those of objects that
say how they are copied are in test_state_dict_stager_protocol.py."""

import collections
import copy
import inspect

import pytest
import torch
from same import assert_same
from staging import (
    STAGERS,
    Holder,
    both,
    everywhere,
    same_storage,
    stager_class,  # noqa: F401
    unlike_original,
)


def test_the_signatures_are_those_of_the_original():
    for name in ("__init__", "stage", "deepcopy_with_tensor_offload", "close"):
        ours, theirs = (inspect.signature(getattr(STAGERS[s], name)) for s in ("ours", "original"))
        # Behind PyTorch's own: the last argument of torch_checkpointing's class.
        own = [p for p in ours.parameters.values() if p.name != "use_non_blocking_copy"]
        assert [(p.name, p.kind, p.default) for p in own] == [
            (p.name, p.kind, p.default) for p in theirs.parameters.values()
        ]
    for stager in (STAGERS["ours"](), STAGERS["original"]()):
        assert (stager.pin_memory, stager.share_memory) == (False, False)
        assert stager.pin_memory_min_bytes == 5


@everywhere
def test_recursive_structures(Stager):  # rule 5
    items, table, holder, t = [], {}, Holder(), torch.ones(2)
    pair = (items, table)
    items += [items, pair, t]
    table.update(me=table, pair=pair)
    holder.me, t.me = holder, t
    staged = Stager().stage([items, table, pair, holder, t])
    assert staged[0][0] is staged[0] and staged[0][1] is staged[2] and staged[0][2] is staged[4]
    assert staged[1]["me"] is staged[1] and staged[1]["pair"] is staged[2]
    assert staged[2][0] is staged[0] and staged[2][1] is staged[1]
    assert staged[3].me is staged[3] and staged[4].me is staged[4]


@everywhere
def test_what_is_there_twice_is_copied_once(Stager):  # rule 5
    t, shared, od = torch.ones(2), [1], collections.OrderedDict(a=1)
    od._metadata = {}
    state = [t, t, shared, shared, (shared,), od.__dict__, od, od.__dict__]
    staged, model = Stager().stage(state), copy.deepcopy(state)
    for i, a in enumerate(model):
        for j, b in enumerate(model):
            assert (a is b) == (staged[i] is staged[j]), (i, j)


@both
def test_temporary_objects_live_as_long_as_the_call(Stager):  # rule 5
    class Maker:
        def __reduce__(self):
            return Holder, (), {"t": torch.full((100,), 3.0), "items": [object()]}

    staged = Stager().stage([Maker() for _ in range(200)])
    assert all(h.t.tolist() == [3.0] * 100 for h in staged)
    assert len({id(h.t) for h in staged}) == len({h.t.data_ptr() for h in staged}) == 200


@everywhere
def test_views_keep_place_and_sharing(Stager):  # rule 6
    base = torch.arange(24.0)
    state = {
        "base": base, "part": base[3:9], "rows": base.view(4, 6)[1:, ::2], "t": base.view(4, 6).t(),
        "wide": base[:1].expand(7), "one": base[5], "none": base[4:4],
        "bytes": base.view(torch.uint8), "overlap": base.as_strided((5, 3), (1, 2), 2),
        "apart": torch.ones(2),
    }  # fmt: skip
    staged = Stager().stage(state)
    for name, x in state.items():
        y = staged[name]
        assert (y.size(), y.stride(), y.dtype) == (x.size(), x.stride(), x.dtype), name
        assert y.storage_offset() == x.storage_offset() and not same_storage(x, y), name
        assert y.untyped_storage().nbytes() == x.untyped_storage().nbytes(), name
        assert same_storage(y, staged["base"]) == (name != "apart"), name
    assert_same(state, staged)
    base.zero_()
    assert staged["base"].sum() == 276
    staged["base"][3] = -1
    assert staged["part"][0] == -1 and staged["t"][3, 0] == -1


@everywhere
def test_the_buffer_of_a_storage_is_used_again(Stager):  # rule 7
    stager, x = Stager(), torch.zeros(1000)
    first = stager.stage({"x": x, "half": x[:500]})
    x.fill_(1)
    second = stager.stage({"x": x, "other": x[500:]})
    assert second["x"].data_ptr() == first["x"].data_ptr()
    assert first["x"].sum() == 1000 and first["half"].sum() == 500 and second["other"].sum() == 500


@unlike_original("a storage that was resized raises an assertion", AssertionError)
def test_a_resized_storage_gets_a_new_buffer(Stager):  # rule 7
    stager, x = Stager(), torch.ones(8)
    first = stager.stage(x)
    x.resize_(20).fill_(2)
    second = stager.stage(x)
    assert second.tolist() == [2] * 20 and first.tolist() == [1] * 8
    x.resize_(3).untyped_storage().resize_(12)
    assert stager.stage(x).tolist() == [2] * 3 and second.tolist() == [2] * 20


@everywhere
@pytest.mark.parametrize("share_memory", [False, True])
def test_empty_tensors_keep_their_shape(Stager, share_memory):  # rule 8
    base = torch.ones(6)
    state = [torch.tensor(5.0), torch.empty(0), torch.empty(2, 0, 3), base[6:], base[2:2], base]
    staged = Stager(share_memory=share_memory).stage(state)
    assert_same(state, staged)
    assert [y.stride() for y in staged] == [x.stride() for x in state]
    assert same_storage(staged[3], staged[5]) and same_storage(staged[4], staged[5])
    if share_memory:
        assert all(y.is_shared() for y in staged)


@everywhere
def test_nothing_of_autograd_is_copied(Stager):  # rule 11
    seen = []

    class Asks:
        def __deepcopy__(self, memo):
            seen.append(torch.is_grad_enabled())
            return self

    parameter = torch.nn.Parameter(torch.ones(3))
    middle = (parameter * 2).requires_grad_()
    middle.sum().backward()
    staged = Stager().stage([parameter, middle, Asks(), parameter.grad])
    for y in staged[:2]:
        assert type(y) is torch.Tensor and not y.requires_grad
        assert y.grad_fn is None and y.grad is None and y.is_leaf
    assert seen == [False] and torch.is_grad_enabled()
    staged[0].add_(1)


@both
def test_pinning_without_cuda_is_off(Stager, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.warns(UserWarning, match="pin_memory") as caught:
        stager = Stager(pin_memory=True, pin_memory_min_bytes=9)
    assert caught[0].filename == __file__
    assert stager.pin_memory is False and stager.pin_memory_min_bytes == 9
    assert not stager.stage(torch.ones(3)).is_pinned()
