"""The interpreter ends while daemon threads are in calls of ours."""

import pytest

# Each is called again and again by a daemon thread of its own when the main thread ends.
CALLS = {
    "files": [
        'understudy.save_file(state, folder / "f.safetensors")',
        'understudy.load_file(folder / "loaded.safetensors")',
    ],
    "saves": [
        "ckpt.save(next(steps), state)",
        "ckpt.wait(); ckpt.steps(); ckpt.directory",
        "ticket.wait(); ticket.wait_captured()",
    ],
    "restores": ["ckpt.restore()", "other.resume(target)"],
    "captures": [
        "stager.stage(state).wait().close()",
        "overlapped.stage(state).wait().close()",
        "snapshot.state()",
        "understudy.Stager().prewarm(state).wait()",
    ],
    "blocked": ["held.append(images.stage(state).wait())"],
    "drop-ins": [
        "understudy.torch.StateDictStager().stage(state)",
        "dropin.stage({'o': Slow()})",
        "dcp.stage(state)",
    ],
}

PROGRAM = """
import itertools, pathlib, sys, threading, time
import torch, understudy, understudy.torch, understudy.dcp

class Slow:  # gives the GIL away in the middle of our calls
    def __init__(self): self.x = 1
    def __deepcopy__(self, memo): time.sleep(0.0001); return self
    def state_dict(self): time.sleep(0.0001); return {"x": 1}
    def load_state_dict(self, state): time.sleep(0.0001)

folder = pathlib.Path(sys.argv[1])
state = {"t": torch.ones(2_000_000), "objects": [Slow(), Slow()]}
understudy.save_file({"t": state["t"]}, folder / "loaded.safetensors")
other = understudy.Checkpointer(folder / "other")
other.save(0, {"t": state["t"]}).wait()
target = {"t": torch.ones(2_000_000)}  # torch's own calls end the process when they are cut off
ckpt = understudy.Checkpointer(folder / "run", keep=2)
ticket = ckpt.save(0, state)
ticket.wait()
steps, held = itertools.count(1), []
stager, images = understudy.Stager(), understudy.Stager(images=2)
dropin, dcp = understudy.torch.StateDictStager(), understudy.dcp.AsyncStager()
try:
    overlapped = understudy.Stager(capture="overlapped")
except understudy.Error:
    overlapped = stager
snapshot = overlapped.stage({"t": state["t"]}).wait()

def repeat(call):
    begun = 0
    while True:
        begun += 1
        if begun == 3:  # and no image is left for the one that keeps them
            ready.release()
        try:
            eval(call)
        except understudy.Error as error:
            if error.code != "closed": raise

calls, ready = eval(sys.argv[2]), threading.Semaphore(0)
for call in calls:
    code = compile(call.replace("; ", ", "), call, "eval")
    threading.Thread(target=repeat, args=(code,), daemon=True).start()
for call in calls:
    ready.acquire()
"""


@pytest.mark.parametrize("name", CALLS)
def test_daemon_threads_in_calls_do_not_end_the_process(name, run_python, tmp_path):
    done = run_python(PROGRAM, tmp_path, CALLS[name])
    assert done.stderr == ""


LATE = """
import atexit, itertools, pathlib, sys, threading
done = {}  # calls that each thread has made

def wait_for_more():  # runs after understudy's own, which holds threads back for a while
    before = dict(done)
    while any(done[name] < before[name] + 3 for name in before):
        more.wait(0.01)
        more.clear()

more, begun = threading.Event(), threading.Semaphore(0)
atexit.register(wait_for_more)
import numpy, understudy

folder = pathlib.Path(sys.argv[1])
state = {"a": numpy.ones(100_000), "b": [numpy.ones(3), "text"]}
understudy.save_file(state, folder / "loaded.safetensors")
stager = understudy.Stager()

def repeat(name, call):
    for done[name] in itertools.count(1):
        if done[name] == 3: begun.release()
        more.set()
        call()

calls = {
    "save": lambda: understudy.save_file(state, folder / "saved.safetensors"),
    "load": lambda: understudy.load_file(folder / "loaded.safetensors"),
    "stage": lambda: stager.stage(state).wait().close(),
}
for call in calls.items():
    threading.Thread(target=repeat, args=call, daemon=True).start()
for call in calls:
    begun.acquire()
"""


def test_threads_that_go_on_until_the_very_end_do_not_end_the_process(run_python, tmp_path):
    """A handler that runs later than ours may take longer than threads are held back."""
    done = run_python(LATE, tmp_path)
    assert done.stderr == ""


def test_a_daemon_thread_that_stays_in_its_own_code_is_left_there(run_python):
    """It is waited for, but not for ever."""
    run_python(
        """
        import threading, understudy
        inside = threading.Event()
        class Stuck:
            def state_dict(self):
                inside.set()
                threading.Event().wait()
            def load_state_dict(self, state): pass
        def loop():
            understudy.Stager().stage(Stuck())
        threading.Thread(target=loop, daemon=True).start()
        inside.wait()
        """
    )


SUBINTERPRETER = """
import sys, textwrap, understudy
try:
    import _interpreters as interpreters  # Python 3.13
except ImportError:
    import _xxsubinterpreters as interpreters
MAIN_FIRST
code = textwrap.dedent('''
    try:
        import understudy
    except ImportError as error:
        assert "main interpreter" in str(error), error
    else:
        raise AssertionError("it was imported")
''')
for _ in range(3):
    one = interpreters.create()
    problem = interpreters.run_string(one, code)
    assert problem is None, problem
    interpreters.destroy(one)
import understudy
assert understudy.Stager().stage({"a": [1, 2.5]}).wait().state() == {"a": [1, 2.5]}
try:
    understudy.Stager(images=0)
except understudy.Error as error:
    assert error.code == "invalid"
"""


@pytest.mark.parametrize("is_main_first", [True, False])
def test_a_subinterpreter_is_refused_and_harms_nobody(is_main_first, run_python):
    pytest.importorskip("_interpreters" if _has_interpreters() else "_xxsubinterpreters")
    program = SUBINTERPRETER.replace("MAIN_FIRST", "import understudy" if is_main_first else "")
    if not is_main_first:
        program = program.replace("import sys, textwrap, understudy", "import sys, textwrap", 1)
    run_python(program)


def _has_interpreters() -> bool:
    import importlib.util

    return importlib.util.find_spec("_interpreters") is not None
