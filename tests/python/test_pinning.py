"""Pinned memory, with a fake driver: it counts, and fails when it is told to."""

import os
from pathlib import Path

import pytest

import understudy

BUILD = Path(os.environ.get("UNDERSTUDY_BUILD", "build/release"))
FAKE = (Path(__file__).parents[2] / BUILD / "tests" / "libfake_cuda.so").resolve()

# What every program begins with: the package by the fake driver, torch as with CUDA.
PREFACE = f"""
import ctypes, gc, os, pathlib, warnings
os.environ["UNDERSTUDY_CUDA_DRIVER"] = {str(FAKE)!r}
import torch
import understudy
from understudy.torch import StateDictStager
fake = ctypes.CDLL({str(FAKE)!r})
pinned = lambda t: bool(fake.fake_cuda_is_registered(ctypes.c_size_t(t.data_ptr())))
torch.cuda.is_available = lambda: True
warnings.simplefilter("error")
"""


@pytest.fixture
def run_faked(run_python):
    if not FAKE.exists():
        pytest.skip(f"the fake driver {FAKE} was not built")
    return lambda code: run_python(PREFACE + code)


@pytest.mark.parametrize("shared", [False, True])
def test_results_are_pinned_and_unpinned(run_faked, shared):
    run_faked(f"""
stager = StateDictStager(pin_memory=True, share_memory={shared})
assert stager.pin_memory is True and stager.share_memory is {shared}
state = {{"w": torch.randn(3_000_000), "large": torch.randn(10_000_000), "b": torch.ones(100)}}
for _ in range(3):
    staged = stager.stage(state)
    assert all(staged[k].equal(state[k]) and pinned(staged[k]) for k in state)
    assert all(x.is_shared() is {shared} for x in staged.values())
once = fake.fake_cuda_registrations()
assert once == fake.fake_cuda_registered() == (3 if not {shared} else once)  # once for each
del staged
stager.close()
del stager
assert fake.fake_cuda_registered() == 0
assert fake.fake_cuda_late_unregistrations() == 0
""")


@pytest.mark.parametrize("shared", [False, True])
def test_results_without_their_source_stay_pinned(run_faked, shared):
    run_faked(f"""
stager = StateDictStager(pin_memory=True, share_memory={shared})
kept = stager.stage(torch.ones(9_000_000))  # the source is gone
assert kept.eq(1).all() and pinned(kept)
for i in range(5):
    other = stager.stage(torch.full((9_000_000,), float(i)))
    assert pinned(other) and pinned(kept)
assert fake.fake_cuda_registered() <= 3  # and nothing piles up
del kept, other
stager.close()
assert fake.fake_cuda_registered() == 0
assert fake.fake_cuda_late_unregistrations() == 0
""")


def test_small_copies_are_not_pinned(run_faked):
    run_faked("""
stager = StateDictStager(pin_memory=True, pin_memory_min_bytes=1000)
staged = stager.stage([torch.ones(100), torch.ones(1000)])
assert [pinned(x) for x in staged] == [False, True]
""")


@pytest.mark.parametrize("shared", [False, True])
def test_a_failure_names_bytes_and_cause_and_changes_nothing(run_faked, shared):
    run_faked(f"""
stager = StateDictStager(pin_memory=True, share_memory={shared})
first = torch.ones(9_000_000)
staged = stager.stage([first])
first.zero_()
fake.fake_cuda_fail_registrations(2, 0)
try:
    stager.stage([first, torch.ones(10_000_000)])
    raise SystemExit("no error")
except understudy.Error as e:
    assert e.code == "no_space", e.code
    assert "40000000 bytes" in str(e) and "CUDA_ERROR_OUT_OF_MEMORY" in str(e), e
assert staged[0].eq(1).all()
fake.fake_cuda_fail_registrations(0, 0)
second = torch.ones(10_000_000)
assert all(pinned(x) for x in stager.stage([first, second]))
stager.close()
del staged
assert fake.fake_cuda_late_unregistrations() == 0
""")


def test_pinned_images(run_faked, tmp_path):
    run_faked(f"""
state = {{"w": torch.arange(1_000_000)}}
with understudy.Stager(memory="pinned") as stager:
    ticket = stager.stage(state)
    with ticket.wait() as snapshot:
        assert snapshot.state()["w"].equal(state["w"])
    assert ticket.metrics()["memory"].startswith("pinned (CUDA device 0, Fake GPU A), ")
with understudy.Checkpointer({str(tmp_path)!r}, memory="pinned") as ckpt:
    ckpt.save(1, state).wait()
    assert fake.fake_cuda_registered() > 0
    assert ckpt.restore().state["w"].equal(state["w"])
del snapshot, ticket, ckpt, stager
assert fake.fake_cuda_registered() == 0
assert fake.fake_cuda_late_unregistrations() == 0
""")


def test_automatic_memory_starts_nothing(run_faked):
    run_faked("""
ticket = understudy.Stager().stage({"w": torch.ones(3)})
assert "not pinned: this process does not use CUDA" in ticket.metrics()["memory"]
fake.cuInit(0)
context = ctypes.c_void_p()
fake.cuDevicePrimaryCtxRetain(ctypes.byref(context), 1)
ticket = understudy.Stager().stage({"w": torch.ones(3)})
assert "pinned (CUDA device 1, Fake GPU B)" in ticket.metrics()["memory"]
""")


def test_the_end_of_the_process_is_quiet(run_faked):
    done = run_faked("""
stager = StateDictStager(pin_memory=True, share_memory=True)
staged = stager.stage({"w": torch.ones(9_000_000)})
images = understudy.Stager(memory="pinned")
held = images.stage({"w": torch.ones(9_000_000)}).wait()
""")
    assert done.stderr == ""


def test_pinned_without_cuda_says_why(run_python):
    run_python("""
import os
os.environ["UNDERSTUDY_CUDA_DRIVER"] = "/nowhere/libcuda.so.1"
import understudy
for make in (understudy.Stager, lambda memory: understudy.Checkpointer("/tmp", memory=memory)):
    try:
        make(memory="pinned")
        raise SystemExit("no error")
    except understudy.Error as e:
        assert e.code == "unsupported", e.code
        assert "no CUDA driver: /nowhere/libcuda.so.1" in str(e), e
""")


def test_prewarm(tmp_path):
    np = pytest.importorskip("numpy")
    state = {"w": np.ones(1_000_000)}
    with understudy.Stager(images=2, memory="pageable") as stager:
        ticket = stager.prewarm(state)
        made = ticket.wait()
        assert made >= 2 * state["w"].nbytes and ticket.progress() == (made, made)
        assert stager.prewarm(state).wait() == 0
        with stager.stage(state).wait() as snapshot:
            assert (snapshot.state()["w"] == 1).all()
    with understudy.Checkpointer(tmp_path, images=1) as ckpt:
        assert ckpt.prewarm(state).wait() >= state["w"].nbytes
        ckpt.save(1, state).wait()
    assert ckpt.latest() == 1
