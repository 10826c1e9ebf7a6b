"""ends.py FOLDER: what ends while a rank waits for others: a call, a child, the interpreter."""

import atexit
import gc
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from warm_ranks import WarmRanks

import understudy
from understudy import _peers

TIMEOUT_S = 120.0  # nobody is late here


class Watched(_peers.Peers):
    """Says when somebody waits."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.waits = threading.Event()

    def _gather(self, store: Any, keys: dict[int, str], seconds: float) -> dict[int, bytes]:
        if keys and not store.check(list(keys.values())):
            self.waits.set()
        return super()._gather(store, keys, seconds)


def checkpointer(folder: Path) -> understudy.Checkpointer:
    _peers.Peers = Watched  # type: ignore[misc]
    return understudy.Checkpointer(folder, timeout=TIMEOUT_S)


def state(step: int) -> dict[str, Any]:
    return {"w": torch.arange(100.0) + step, "step": step}


def interrupt_once_waiting(ckpt: understudy.Checkpointer) -> None:
    """Ctrl-C for the main thread, when it waits for others in a call."""
    main = threading.main_thread().ident
    assert main is not None
    ckpt._peers.waits.clear()

    def interrupt() -> None:
        ckpt._peers.waits.wait()
        signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=interrupt).start()


def a_call(folder: Path, rank: int) -> None:
    """Rank 1 comes to the first save only; rank 0 waits for it, and is interrupted."""
    ckpt = checkpointer(folder)
    ckpt.save(1, state(1)).wait()
    if rank == 0:
        for call in (lambda: ckpt.save(2, state(2)), lambda: ckpt.resume(state(0))):
            try:
                interrupt_once_waiting(ckpt)
                call()
                raise AssertionError("nobody was waited for")
            except KeyboardInterrupt:
                pass
    dist.barrier()


class Stop(Exception):
    pass


def require_interrupted(wait: Any) -> None:
    """Signals come as long as it waits. The third one raises: by then the wait has begun."""
    ticks = 0

    def tick(*_: Any) -> None:
        nonlocal ticks
        ticks += 1
        if ticks == 3:
            raise Stop

    signal.signal(signal.SIGALRM, tick)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        wait()
        raise AssertionError("nobody was waited for")
    except Stop:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def a_ticket(folder: Path, rank: int) -> None:
    """Rank 1 comes to the call of the second save, and does not write its shard for long."""
    ckpt = checkpointer(folder)
    ckpt.save(1, state(1)).wait()
    goes_on = threading.Event()
    exchange = ckpt._peers.exchange

    def held(lane: int, *arguments: Any) -> Any:
        if lane == 1 and rank == 1:
            goes_on.wait()
        return exchange(lane, *arguments)

    ckpt._peers.exchange = held
    ticket = ckpt.save(2, state(2))
    if rank == 0:
        for wait in (ticket.wait, ckpt.wait, ckpt.close):
            require_interrupted(wait)
    dist.barrier()
    goes_on.set()  # as if nothing had been
    ticket.wait()
    ckpt.save(3, state(3)).wait()
    ckpt.close()
    assert ckpt.steps() == [1, 2, 3]


def closed(call: Any) -> None:
    try:
        call()
    except understudy.Error as error:
        assert error.code == "closed", error
        return
    raise AssertionError("it was not refused")


def a_child(folder: Path, rank: int) -> None:
    """A forked child of a rank can do nothing, and its end does nothing to the rank's saves."""
    ckpt = checkpointer(folder)
    ticket = ckpt.save(1, state(1))
    with understudy.Preemption(ckpt, every=1) as stop:
        assert not stop.now()
        for finishes in (False, True):
            pid = os.fork()
            if pid == 0:
                closed(lambda: ckpt.save(2, state(2)))
                closed(lambda: ckpt.resume(state(0)))
                closed(lambda: ckpt.restore())
                closed(ticket.wait)
                closed(stop.now)
                ckpt.close()
                if finishes:  # as far as a child can that has none of torch's threads
                    atexit._run_exitfuncs()
                    del ckpt, ticket, stop
                    gc.collect()
                os._exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        assert not stop.now()
    ticket.wait()
    ckpt.save(2, state(2)).wait()
    found = state(0)
    assert ckpt.resume(found) == 2 and torch.equal(found["w"], state(2)["w"])
    ckpt.close()


def a_vote(folder: Path, rank: int) -> None:
    """Rank 1 does not ask for preemption: it is waited for as long as the Checkpointer says."""
    ckpt = checkpointer(folder)
    assert ckpt._peers._timeout == TIMEOUT_S
    ckpt._peers._timeout = 0.1
    if rank == 0:
        with understudy.Preemption(ckpt, every=1) as stop:
            assert not stop.now()
            try:
                stop.now()
                raise AssertionError("rank 1 was not missed")
            except understudy.Error as error:
                assert error.code == "timeout" and "only 1 of 2 ranks" in str(error), error
    dist.barrier()
    ckpt.close()


def the_interpreter(folder: Path, rank: int) -> None:
    """A daemon thread waits for rank 1, which does not come, when the interpreter ends."""
    ckpt = checkpointer(folder)
    ckpt.save(1, state(1)).wait()
    dist.barrier()
    if rank == 0:
        ckpt._peers.waits.clear()
        threading.Thread(target=lambda: ckpt.save(2, state(2)), daemon=True).start()
        ckpt._peers.waits.wait()
    keep.append(ckpt)  # until the very end


keep: list[Any] = []


def main() -> None:
    folder = Path(sys.argv[1])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell may have turned off
    warm = WarmRanks()
    for check in (a_call, a_ticket, a_vote, a_child, the_interpreter):

        def body(rank: int, alarm: int, check: Any = check) -> int:
            check(folder / check.__name__, rank)
            return 0

        finishes = check is the_interpreter
        endings = warm.run(2, body, finishes=finishes)
        assert endings == [0, 0], (check.__name__, endings)
        print(f"passed {check.__name__}", flush=True)


if __name__ == "__main__":
    main()
