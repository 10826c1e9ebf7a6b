"""Results in shared memory, and those of other processes; tensors of several processes."""

import gc
from multiprocessing.reduction import ForkingPickler

import pytest
import torch
import torch.multiprocessing
from same import assert_same
from staging import (
    both,
    descriptors,
    everywhere,
    only_ours,
    same_storage,
    stager_class,  # noqa: F401
)


def answer(questions, answers):
    """The other process: keeps what comes and says what it sees."""
    kept = []
    while (question := questions.get()) is not None:
        if question != "again":
            kept.append(question)
        answers.put([{k: v.tolist() for k, v in state.items()} for state in kept])


class Reader:
    def __init__(self):
        context = torch.multiprocessing.get_context("spawn")
        self.questions, self.answers = context.SimpleQueue(), context.SimpleQueue()
        self.process = context.Process(target=answer, args=(self.questions, self.answers))
        self.process.start()

    def see(self, question="again"):
        self.questions.put(question)
        return self.answers.get()

    def close(self):
        self.questions.put(None)
        self.process.join(60)
        assert self.process.exitcode == 0


@pytest.fixture(scope="module")
def make_reader():
    made = []

    def make():
        made.append(Reader())
        return made[-1]

    yield make
    for reader in made:
        reader.close()


@both
def test_another_process_reads_what_is_staged(Stager, make_reader):  # rule 10
    reader = make_reader()
    stager, t = Stager(share_memory=True), torch.arange(4.0)
    big = torch.ones(9 << 20) if Stager.__module__.startswith("understudy") else torch.ones(9)
    state = {"t": t, "part": t[2:], "big": big[:2], "u": torch.tensor(7), "rows": t.view(2, 2).t()}
    staged = stager.stage(state)
    assert all(y.is_shared() for y in staged.values())
    expected = {k: v.tolist() for k, v in state.items()}
    assert reader.see(staged) == [expected]
    t.add_(1)
    big.add_(1)
    again = stager.stage(state)
    assert again["t"].data_ptr() == staged["t"].data_ptr()
    assert reader.see() == [{k: v.tolist() for k, v in state.items()}]
    again["t"][0] = 50  # both ways
    assert reader.see()[0]["t"][0] == 50


@both
def test_what_another_process_holds_is_not_used_again(Stager, make_reader):
    """It keeps what it was sent, though nothing here refers to it any more."""
    reader, stager = make_reader(), Stager(share_memory=True)
    for n in range(4):
        source = torch.full((1000,), float(n))
        seen = reader.see({"t": stager.stage(source)})
        del source
        gc.collect()
        assert [state["t"][0] for state in seen] == [float(i) for i in range(n + 1)]
    stager.stage([torch.full((1000,), 9.0) for _ in range(4)])
    assert [state["t"][0] for state in reader.see()] == [0, 1, 2, 3]


@everywhere
def test_share_memory_between_two_calls(Stager):
    stager, x = Stager(), torch.ones(5000)
    first = stager.stage({"x": x, "part": x[9:]})
    first["x"].share_memory_()
    x.fill_(2)
    second = stager.stage({"x": x, "part": x[9:], "new": x[3:]})
    assert first["x"].eq(2).all() and first["part"].eq(2).all() and first["x"].is_shared()
    assert all(y.eq(2).all() and same_storage(y, first["x"]) for y in second.values())
    del first, second
    gc.collect()
    x.fill_(3)
    assert stager.stage(x).eq(3).all()


@everywhere
def test_share_memory_and_a_failure(Stager):
    stager, x = Stager(), torch.ones(5000)
    first = stager.stage(x)
    first.share_memory_()

    class Fails:
        def __deepcopy__(self, memo):
            raise ValueError

    for n in (2, 3):
        x.fill_(n)
        assert stager.stage(x).eq(n).all() and first.eq(n).all()
    if not Stager.__module__.startswith("torch."):
        x.fill_(4)
        with pytest.raises(ValueError):
            stager.stage([x, Fails()])
        assert first.eq(3).all()


@everywhere
@pytest.mark.parametrize("share_memory", [False, True])
def test_sent_by_the_names_of_files(Stager, share_memory):
    """With this strategy torch moves a storage into a file of its own when it sends it."""
    before = torch.multiprocessing.get_sharing_strategy()
    torch.multiprocessing.set_sharing_strategy("file_system")
    try:
        stager, x = Stager(share_memory=share_memory), torch.ones(1000)
        first = stager.stage(x)
        ForkingPickler.dumps(first)
        x.fill_(2)
        second = stager.stage(x)
        assert first.is_shared() and second.eq(2).all()
        assert first.eq(2).all() and same_storage(first, second)
    finally:
        torch.multiprocessing.set_sharing_strategy(before)


@everywhere
def test_the_storage_of_a_result(Stager):
    stager, x = Stager(), torch.arange(8, dtype=torch.uint8)
    y, part = stager.stage([x, x[2:]])
    storage = y.untyped_storage()
    assert storage.nbytes() == 8 and list(storage) == list(range(8)) and not storage.is_shared()
    assert part.untyped_storage() is storage and part.storage_offset() == 2
    x.add_(1)
    stager.stage(x)
    assert list(storage) == list(range(1, 9)) and list(storage.clone()) == list(storage)
    again = torch.empty(0, dtype=torch.uint8).set_(storage)
    stager.close()
    del y, part, storage
    gc.collect()
    assert again.tolist() == list(range(1, 9))


@only_ours
def test_small_shared_storages_keep_to_themselves(Stager):
    stager, sources = Stager(share_memory=True), [torch.full((n,), float(n)) for n in range(1, 200)]
    staged = stager.stage(sources)
    for y in staged[::2]:
        y.fill_(-1)
    for n, y in enumerate(staged, 1):
        assert y.eq(-1 if n % 2 else n).all() and y.is_shared()
    sources[4].resize_(400).fill_(6)
    again = stager.stage(sources)
    assert again[4].eq(6).all() and len(again[4]) == 400
    assert all(y.eq(n).all() for n, y in enumerate(again, 1) if n != 5)
    wide = [torch.full((3,), 1 + 2j, dtype=torch.complex128), torch.tensor(True), torch.ones(1)]
    assert_same(wide, stager.stage(wide))


@both
def test_shared_results_give_their_descriptors_back(Stager):
    before = descriptors()
    stager, sources = Stager(share_memory=True), [torch.ones(n) for n in (5, 70_000)]
    staged = stager.stage(sources)
    ForkingPickler.dumps(staged)
    stager.close()
    del staged, sources, stager
    assert descriptors() <= before + 3  # those that the pickle sent are torch's


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    import torch.distributed as dist

    file = tmp_path_factory.mktemp("group") / "store"
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=0, world_size=1)
    yield dist.device_mesh.init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@both
def test_distributed_tensors(Stager, mesh):  # rule 9
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

    full = torch.arange(12.0).view(3, 4)
    x = distribute_tensor(full, mesh, [Shard(0)])
    state = {
        "x": x, "local": x.to_local(), "tied": x,
        "r": distribute_tensor(torch.ones(2), mesh, [Replicate()]).requires_grad_(),
        "p": torch.nn.Parameter(distribute_tensor(torch.ones(2), mesh, [Shard(0)])),
    }  # fmt: skip
    stager = Stager()
    staged = stager.stage(state)
    y = staged["x"]
    assert type(y) is DTensor and y is staged["tied"]
    assert y.size() == x.size() and y.stride() == x.stride() and y.dtype == x.dtype
    assert y._spec == x._spec and y.placements == x.placements and y.device_mesh == mesh
    assert type(y._local_tensor) is torch.Tensor and y._local_tensor.device.type == "cpu"
    assert same_storage(y._local_tensor, staged["local"])
    assert not any(t.requires_grad for t in staged.values())
    assert staged["p"].to_local().tolist() == [1, 1] == staged["r"].to_local().tolist()
    x.to_local().add_(1)
    assert y.to_local().tolist() == torch.arange(12.0).view(3, 4).tolist()
    again = stager.stage(state)["x"]
    assert again.to_local().data_ptr() == y.to_local().data_ptr()
    assert y.full_tensor().tolist() == x.full_tensor().tolist()
