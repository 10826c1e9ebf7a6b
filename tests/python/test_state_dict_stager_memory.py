"""Where the bytes are, and when they are given back."""

import gc
import mmap
import warnings
import weakref

import pytest
import torch
from staging import (
    STAGERS,
    Holder,
    descriptors,
    everywhere,
    only_ours,
    resident_nbytes,
    same_storage,
    stager_class,  # noqa: F401
    unlike_original,
)

MIB = 1 << 20
each_memory = pytest.mark.parametrize("share_memory", [False, True])


def held(stager):
    return stager._stager.nbytes


@everywhere
@each_memory
def test_the_source_may_change_afterwards(Stager, share_memory):
    x = torch.ones(1000)
    y = Stager(share_memory=share_memory).stage({"x": x, "view": x[5:]})
    x.zero_()
    assert y["x"].sum() == 1000 and y["view"].sum() == 995
    y["x"].fill_(3)
    assert x.sum() == 0 and y["view"].sum() == 3 * 995


@everywhere
@each_memory
def test_results_outlive_everything(Stager, share_memory):
    stager, x = Stager(share_memory=share_memory), torch.ones(1000)
    gone = weakref.ref(stager)
    y = stager.stage([x, x[3:]])
    del stager, x
    gc.collect()
    assert gone() is None
    noise = [torch.full((1000,), 7.0) for _ in range(50)]
    assert y[0].sum() == 1000 and y[1].sum() == 997 and len(noise) == 50


@everywhere
def test_nothing_keeps_sources_or_results(Stager):
    stager, x = Stager(), torch.ones(1000)
    holder = Holder(x=x, me=None)
    holder.me = holder
    y = stager.stage({"x": x, "holder": holder})
    sources = [weakref.ref(o) for o in (x, holder, x.untyped_storage())]
    results = [weakref.ref(o) for o in (y["x"], y["holder"])]
    del y
    gc.collect()
    assert [r() for r in results] == [None] * 2
    del x, holder
    gc.collect()
    assert [r() for r in sources] == [None] * 3


@only_ours
@each_memory
def test_close_gives_all_back(Stager, share_memory):
    stager, x, gone = Stager(share_memory=share_memory), torch.ones(MIB), torch.ones(MIB)
    small = [torch.ones(n) for n in range(1, 50)]
    before = descriptors()
    y = stager.stage([x, gone, small])
    del gone
    assert held(stager) >= 8 * MIB
    stager.close()
    assert y[0].eq(1).all() and y[1].eq(1).all()
    del y
    assert held(stager) == 0
    assert descriptors() <= before
    stager.stage([x, small])
    stager.close()
    assert held(stager) == 0 and descriptors() <= before


@only_ours
@each_memory
def test_what_no_source_and_no_result_needs_goes(Stager, share_memory):
    stager = Stager(share_memory=share_memory)
    stager.stage([torch.ones(n) for n in (1000, MIB, 3 * MIB)])
    for _ in range(3):
        stager.stage([])
    assert held(stager) == 0


def test_sources_that_are_new_each_time_do_not_crash(run_python):
    run_python("""
        import torch
        from understudy.torch import StateDictStager

        for share_memory in (False, True):
            stager = StateDictStager(share_memory=share_memory)
            for n in range(500):
                new = [torch.full((size,), float(n)) for size in (3, 2000, 300_000)]
                more = [[torch.full((5, n % 5 + 1), float(n))] for _ in range(n % 11)]
                state = [new, more]
                del new, more
                staged = stager.stage(state)
                assert all(y.eq(n).all() for y in staged[0])
                assert all(y[0].eq(n).all() for y in staged[1])
                del state
    """)


@only_ours
@each_memory
def test_a_storage_that_grows_in_its_place(Stager, share_memory):
    for _ in range(10):
        stager, x = Stager(share_memory=share_memory), torch.ones(100)
        stager.stage([x, torch.ones(100)])
        address, storage = x.data_ptr(), x.untyped_storage()
        storage.resize_(0)
        storage.resize_(408)
        if x.data_ptr() == address:
            break
    else:
        pytest.skip("the allocator gave another address each time")
    longer = torch.empty(0).set_(storage).fill_(2)
    staged = stager.stage([x, longer, longer[50:]])
    assert [len(y) for y in staged] == [100, 102, 52] and all(y.eq(2).all() for y in staged)
    assert stager.stage([longer])[0].eq(2).all()


@only_ours
@each_memory
@pytest.mark.parametrize("kept", [0, 1, 3])
def test_sources_that_are_new_each_time(Stager, share_memory, kept):
    stager, results, sizes = Stager(share_memory=share_memory), [], (10, 1000, MIB)
    most, step = 0, 4 * sum(sizes) + 2 * MIB * share_memory
    addresses = set()
    for n in range(30):
        y = stager.stage([torch.full((size,), float(n)) for size in sizes])
        addresses.add(y[2].data_ptr())
        results = ([*results, y])[-kept:] if kept else []
        del y
        for i, result in enumerate(results):
            assert all(t.eq(n - len(results) + 1 + i).all() for t in result)
        most = max(most, held(stager))
    assert most <= (kept + 2) * step
    if not share_memory:
        assert len(addresses) <= kept + 2  # the same buffers again


def test_the_original_makes_new_buffers_for_new_sources():
    stager, addresses, results = STAGERS["original"](), set(), []
    for n in range(5):
        x = torch.full((1000,), float(n))
        results.append(stager.stage(x))
        stored = len(stager._cached_storage_mapping)
        del x
        assert stored == 1 and len(stager._cached_storage_mapping) == 0
        addresses.add(results[-1].data_ptr())
    assert len(addresses) == 5


@only_ours
@each_memory
@pytest.mark.parametrize("part", ["view", "attribute", "storage", "numpy", "list"])
def test_a_result_that_lives_is_not_overwritten(Stager, share_memory, part):
    stager = Stager(share_memory=share_memory)

    def keep(n):
        y = stager.stage(torch.full((5000,), float(n)))
        if part == "view":
            return y[7:]
        if part == "attribute":
            return Holder(y=y).y.view(50, 100)
        if part == "storage":
            return y.untyped_storage()
        return y.numpy() if part == "numpy" else [y.detach()]

    def value(result):
        if isinstance(result, torch.UntypedStorage):
            result = torch.empty(0).set_(result)[-5000:]
        return float((result[0] if isinstance(result, list) else result).reshape(-1)[9])

    results = [keep(n) for n in range(20)]
    gc.collect()
    if part == "storage" and share_memory:
        results = []  # a segment, and where in it the tensor lies is not known
    assert [value(r) for r in results] == [float(n) for n in range(len(results))]


@unlike_original("one descriptor a storage", AssertionError)
def test_descriptors_of_many_shared_tensors(Stager):
    stager, before = Stager(share_memory=True), descriptors()
    sources = [torch.full((n % 50 + 1,), float(n)) for n in range(12_000)]
    for _ in range(2):
        staged = stager.stage(sources)
        assert all(y.is_shared() for y in staged[::500])
        assert all(y[0] == n for n, y in enumerate(staged) if n % 97 == 0)
        assert descriptors() - before < 300


@only_ours
def test_a_thousand_calls(Stager):
    """Memory and descriptors stay where they were, whatever comes and goes."""
    stager, steady = Stager(share_memory=True), [torch.ones(n) for n in (1, 500, 30_000)]
    for n in range(1000):
        new = torch.full((40_000,), float(n))
        steady[1].fill_(n)
        y = stager.stage(
            {"steady": steady, "new": new, "n": [n, (new[1:],)], "o": Holder(t=steady[0])}
        )
        assert y["new"][-1] == n and y["steady"][1][0] == n
        if n % 100 == 99:
            stager.stage([torch.ones(n)])
        if n == 200:
            resident, files, objects = resident_nbytes(), descriptors(), len(gc.get_objects())
    assert resident_nbytes() - resident < 8 * MIB
    assert descriptors() - files <= 2 and len(gc.get_objects()) - objects < 200


@only_ours
def test_failed_calls_keep_nothing(Stager):
    class Fails:
        def __deepcopy__(self, memo):
            raise ValueError

    stager, x = Stager(), torch.ones(MIB)
    stager.stage(x)
    for n in range(100):
        with pytest.raises(ValueError):
            stager.stage([x, torch.ones(MIB + n), Fails()])
    for _ in range(3):
        stager.stage(x)
    assert held(stager) == 4 * MIB
    resident = resident_nbytes()
    for n in range(100):
        with pytest.raises(ValueError):
            stager.stage([x, torch.ones(MIB + n), Fails()])
    assert resident_nbytes() - resident < 40 * MIB  # of 800


@only_ours
def test_views_that_are_new_each_time(Stager):
    stager, x = Stager(), torch.arange(1000.0)
    for n in range(300):
        views = stager.stage([x[n % 100 + i :] for i in range(30)])
        assert all(y[0] == n % 100 + i for i, y in enumerate(views))
        if n == 10:
            objects = len(gc.get_objects())
    assert len(gc.get_objects()) - objects < 500
    assert held(stager) == 4000


@everywhere
def test_a_result_s_tensor_may_be_changed_in_shape(Stager):
    stager, x = Stager(), torch.arange(6.0)
    first = stager.stage(x)
    first.resize_(3)
    first.t_() if first.dim() == 2 else first.unsqueeze_(0)
    first.note = 1
    second = stager.stage(x)
    assert second.size() == (6,) and not hasattr(second, "note") and same_storage(first, second)
    second.set_(torch.ones(2))
    x.add_(1)
    assert stager.stage(x).tolist() == [1, 2, 3, 4, 5, 6] and first.tolist() == [[1, 2, 3]]


@everywhere
def test_storages_of_others(Stager, tmp_path):
    """Memory that torch did not make: mapped files, arrays, and a storage that moved."""
    path = tmp_path / "f"
    path.write_bytes(bytes(range(64)))
    with path.open("r+b") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        with warnings.catch_warnings(action="ignore"):  # of memory that must not be written
            x = torch.frombuffer(mapped, dtype=torch.uint8, offset=8)
        y = Stager().stage({"x": x, "y": x[4:]})
        assert y["x"].tolist() == list(range(8, 64)) and y["y"].tolist() == list(range(12, 64))
        del x
        gc.collect()
    stager, moved = Stager(), torch.ones(5000)
    first = stager.stage([moved, moved[1:]])
    moved.share_memory_()
    moved.fill_(2)
    second = stager.stage([moved, moved[1:]])
    assert second[0].eq(2).all() and second[1].eq(2).all() and same_storage(*second)
    assert same_storage(first[0], second[0])
    moved.data = torch.full((5000,), 3.0)
    assert stager.stage([moved])[0].eq(3).all() and first[0].eq(2).all()
