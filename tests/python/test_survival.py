"""A run whose newest captured state outlives the process: survive=, source=, when_no_room=."""

import signal
import tempfile
from pathlib import Path

import pytest
import torch

import understudy
from understudy import Checkpointer, Error


def is_in_memory(folder: str) -> bool:
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return any(at == folder and kind == "tmpfs" for _, at, kind, *_ in mounts)


pytestmark = pytest.mark.skipif(not is_in_memory("/dev/shm"), reason="/dev/shm is no tmpfs")

# Ends by force once the state is sealed.
KILLED = """
import os, signal, sys, time
import torch, understudy

run, memory, step, capture = sys.argv[1:]
model = torch.nn.Linear(300, 300)
torch.nn.init.constant_(model.weight, float(step))
app = {"model": model, "log": [1, 2, 3]}
ckpt = understudy.Checkpointer(run, survive=memory, capture=capture)
if int(step) > 10:
    assert ckpt.resume(app) is not None
    torch.nn.init.constant_(model.weight, float(step))
ticket = ckpt.save(int(step), app, metadata={"loss": 0.5})
while not ticket.metrics()["survival"]:
    time.sleep(0.001)
assert ticket.metrics()["survival"] == "sealed", ticket.metrics()
assert ticket.metrics()["sealed_s"] > 0
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def memory():
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture
def killed(run_python, tmp_path, memory):
    """A process saves a step and ends by SIGKILL; with `forget`, before it got to the disk."""

    def run(step=10, capture="auto", forget=False):
        folder = tmp_path / "run"
        run_python(KILLED, folder, memory, step, capture, status=-signal.SIGKILL)
        if forget and (folder / f"step-{step}").exists():
            (folder / f"step-{step}").rename(tmp_path / f"forgotten-{step}")
        return folder

    return run


def app_at(value):
    model = torch.nn.Linear(300, 300)
    torch.nn.init.constant_(model.weight, value)
    return {"model": model, "log": [1, 2, 3]}


def is_at(app, value):
    return bool((app["model"].weight == value).all()) and app["log"] == [1, 2, 3]


@pytest.mark.parametrize("capture", ["auto", "blocking"])
def test_a_killed_run_goes_on_from_memory(killed, memory, capture):
    run = killed(capture=capture, forget=True)
    app = app_at(0.0)
    with Checkpointer(run, survive=memory) as ckpt:
        assert ckpt.resume(app) == 10
        assert is_at(app, 10.0)
        assert ckpt.resumed.source == "memory"
        assert ckpt.resumed.skipped == []
        assert ckpt.wait()
        assert ckpt.steps() == [10]
    assert list(memory.iterdir()) == []
    again = Checkpointer(run).restore()
    assert again.source == "disk"
    assert again.metadata == {"loss": 0.5}


def test_kills_in_a_row(killed, memory):
    for step in (10, 11, 12):
        run = killed(step, forget=True)
    app = app_at(0.0)
    with Checkpointer(run, survive=memory) as ckpt:
        assert ckpt.resume(app, source="memory") == 12
        assert is_at(app, 12.0)


def test_sources(killed, memory, tmp_path):
    run = tmp_path / "run"
    with Checkpointer(run) as ckpt:
        ckpt.save(5, app_at(5.0))
    killed(forget=True)
    app = app_at(0.0)
    with Checkpointer(run, survive=memory) as ckpt:
        assert ckpt.resume(app, source="disk") == 5
        assert ckpt.resumed.source == "disk"
        assert ckpt.restore(source="disk").step == 5
        found = ckpt.restore()
        assert (found.step, found.source) == (10, "memory")
        assert (found.state["model"]["weight"] == 10.0).all()
        assert ckpt.resume(app, source="memory") == 10
    with Checkpointer(run, survive=memory) as ckpt:
        with pytest.raises(Error) as e:
            ckpt.resume(app, source="memory")
        assert e.value.code == "not_found"
        assert ckpt.resume(app) == 10


def test_damage_in_memory_is_reported_and_the_disk_serves(killed, memory, tmp_path):
    run = tmp_path / "run"
    with Checkpointer(run) as ckpt:
        ckpt.save(5, app_at(5.0))
    killed(forget=True)
    (shard,) = memory.glob("*/*/step-10/shard-*")
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    app = app_at(0.0)
    with Checkpointer(run, survive=memory) as ckpt:
        assert ckpt.resume(app) == 5
        assert is_at(app, 5.0)
        assert ckpt.resumed.source == "disk"
        ((step, reason),) = ckpt.resumed.skipped
        assert step == 10
        assert "damaged" in reason
    assert list(memory.iterdir()) == []


def test_the_end_of_the_interpreter_leaves_nothing(run_python, tmp_path, memory):
    run_python(
        """
        import sys, torch, understudy
        ckpt = understudy.Checkpointer(sys.argv[1], survive=sys.argv[2])
        ckpt.save(1, {"w": torch.ones(100_000)})  # and nobody closes it
        """,
        tmp_path / "run",
        memory,
    )
    assert list(memory.iterdir()) == []
    assert Checkpointer(tmp_path / "run").steps() == [1]


def test_where_there_is_no_room(tmp_path):
    # No folder in memory: an error, or on request images that end with the process.
    nowhere = tmp_path / "nowhere"
    with Checkpointer(tmp_path / "run", survive=nowhere) as ckpt, pytest.raises(Error):
        ckpt.save(1, {"w": torch.ones(10)})
    with Checkpointer(tmp_path / "run", survive=nowhere, when_no_room="go_on") as ckpt:
        ticket = ckpt.save(1, {"w": torch.ones(10)})
        ticket.wait()
        assert "does not survive" in ticket.metrics()["memory"]
        assert str(nowhere) in ticket.metrics()["survival"]
        assert ckpt.resume({"w": torch.ones(10)}) == 1
        assert ckpt.resumed.source == "disk"


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"survive": True, "images": 1}, "images=2"),
        ({"survive": ""}, "survive is ''"),
        ({"when_no_room": "perhaps"}, "'error', 'go_on'"),
    ],
)
def test_options_that_make_no_sense(tmp_path, options, match):
    with pytest.raises(Error, match=match):
        Checkpointer(tmp_path, **options)


def test_the_usual_folder(tmp_path):
    with Checkpointer(tmp_path, survive=True) as ckpt:
        ticket = ckpt.save(1, {"w": torch.ones(1000)})
        ticket.wait()
        assert ticket.metrics()["survival"] == "sealed"
        assert "survives" in ticket.metrics()["memory"]
    assert understudy.Checkpointer(tmp_path).steps() == [1]
