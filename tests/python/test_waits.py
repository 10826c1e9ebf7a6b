"""Whatever waits for somebody else is awake for signals, and for garbage that holds it up."""

import pytest

# Ticks come for as long as a call waits; the handler raises on the third, so that the call has
# begun by then. Ends the program when it hangs.
PREAMBLE = """
import gc, signal, sys, threading
import torch, understudy
from understudy import Checkpointer, Error, Stager

class Stop(Exception): pass
signal.alarm(120)

class Ticks:
    def __init__(self, act):
        self.act, self.count = act, 0
    def __call__(self, *_):
        self.count += 1
        if self.count == 3:
            self.act()
    def __enter__(self):
        signal.signal(signal.SIGVTALRM, self)
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.tick)
        self.thread.start()
    def tick(self):
        main = threading.main_thread().ident
        while not self.over.wait(0.02):
            signal.pthread_kill(main, signal.SIGVTALRM)
    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        signal.signal(signal.SIGVTALRM, signal.SIG_IGN)

def stop():
    raise Stop

def interrupted(call):
    try:
        with Ticks(stop):
            call()
    except Stop:
        return
    raise AssertionError("was not interrupted")

def numbers(n=1):
    return {"n": n, "t": torch.full((1000,), float(n))}

def check(state, n):
    assert state["n"] == n and state["t"].eq(n).all()
"""


@pytest.mark.parametrize("captures_before", [0, 2])
def test_a_stage_that_waits_for_an_image(run_python, captures_before):
    run_python(
        PREAMBLE
        + """
state = numbers()
with Stager(images=1) as stager:
    for _ in range(int(sys.argv[1])):
        stager.stage(state).wait().close()
    held = stager.stage(numbers(7)).wait()
    interrupted(lambda: stager.stage(state))
    check(held.state(), 7)
    held.close()
    for n in (2, 3):
        state["n"] = n
        state["t"].fill_(n)
        with stager.stage(state).wait() as snapshot:
            check(snapshot.state(), n)
""",
        captures_before,
    )


def test_a_handler_that_stages_while_its_thread_waits(run_python):
    """As those that save when the job is about to be stopped."""
    run_python(
        PREAMBLE
        + """
with Stager(images=1) as stager:
    held = stager.stage(numbers(1)).wait()
    def act():
        held.close()
        with stager.stage(numbers(5)).wait() as inner:
            check(inner.state(), 5)
    with Ticks(act):
        ticket = stager.stage(numbers(2))
    with ticket.wait() as outer:
        check(outer.state(), 2)
"""
    )


def test_a_save_that_waits_for_an_image(run_python, tmp_path):
    run_python(
        PREAMBLE
        + """
# The slowest rate: both images are being written for a long time.
run = Checkpointer(sys.argv[1], images=1, max_write_rate=1 << 20)
large = {"t": torch.zeros(4 << 20)}
run.save(1, large)
interrupted(lambda: run.save(2, numbers(2)))
interrupted(run.wait)
interrupted(run.close)
run.wait()
run.save(2, numbers(3)).wait()
assert run.steps() == [1, 2]
check(run.restore(2).state, 3)
run.close()
""",
        tmp_path,
    )


CYCLES = {
    "an object that refers to itself": """
def leave():
    class Box: pass
    box = Box()
    box.me, box.snapshot = box, stager.stage(numbers()).wait()
leave()
""",
    "an exception that was kept": """
def leave():
    snapshot = stager.stage(numbers()).wait()
    try:
        raise ValueError
    except ValueError as e:
        kept = e
leave()
""",
    "tensors of a snapshot": """
def leave():
    cycle = []
    cycle.append((cycle, stager.stage(numbers()).wait().state()))
leave()
""",
}


@pytest.mark.parametrize("is_collecting", [True, False])
@pytest.mark.parametrize("cycle", CYCLES)
def test_images_that_only_garbage_holds(run_python, cycle, is_collecting):
    run_python(
        PREAMBLE
        + f"gc.{'enable' if is_collecting else 'disable'}()\nstager = Stager(images=1)\n"
        + CYCLES[cycle]
        + f"""
with stager.stage(numbers(2)).wait() as snapshot:
    check(snapshot.state(), 2)
assert gc.isenabled() == {is_collecting}
"""
    )


def test_a_call_that_waits_for_another_threads(run_python):
    run_python(
        PREAMBLE
        + """
import understudy.torch
inside, go_on = threading.Event(), threading.Event()
class Slow:
    def __deepcopy__(self, memo):
        inside.set()
        assert go_on.wait(100)
        return self
stager = understudy.torch.StateDictStager()
other = threading.Thread(target=lambda: stager.stage({"s": Slow()}))
other.start()
assert inside.wait(100)
interrupted(lambda: stager.stage(numbers()))
go_on.set()
other.join()
check(stager.stage(numbers(4)), 4)
"""
    )
