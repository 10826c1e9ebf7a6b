"""The notice before a job is preempted: a signal, some seconds in which to save, then the end."""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import Any, NoReturn

from understudy._core import Checkpointer, Error, _error

_Handler = Callable[[int, FrameType | None], Any] | int | None

_log = logging.getLogger("understudy")


class Preemption:
    """Tells when the job is about to be preempted, and saves in the time that is left.

        with understudy.Preemption(ckpt) as stop:
            while step < steps:
                train_one_step(); step += 1
                if stop.now():
                    stop.save(step, app)
                    stop.exit()

    From ``with`` until its end the signals no longer end the process: the first one that comes
    begins the notice. Handlers that were there before are called too. The handler does no I/O and
    takes no lock. Only the main thread can do this, as Python has it for signals.

    ckpt: a Checkpointer that is open.
    grace: seconds between the signal and the end of the process, as the scheduler has it: 30 for
        Kubernetes and torchrun.
    every: with several ranks, after how many calls of ``now`` they agree.
    signals: what gives notice.
    """

    def __init__(
        self,
        ckpt: Checkpointer,
        *,
        grace: float = 30.0,
        every: int = 10,
        signals: Sequence[int] = (signal.SIGTERM, signal.SIGUSR1),
    ) -> None:
        if not isinstance(ckpt, Checkpointer):
            raise _error("invalid", f"ckpt is {type(ckpt).__name__}, and must be a Checkpointer")
        if not grace > 0:
            raise _error("invalid", f"grace is {grace!r}, and must be seconds, more than 0")
        if not isinstance(every, int) or every < 1:
            raise _error("invalid", f"every is {every!r}, and must be a number of calls, from 1")
        self._ckpt = ckpt
        self._grace = float(grace)
        self._signals = tuple(signals)
        self._before: dict[int, _Handler] = {}
        self._notice: tuple[int, float] | None = None  # the signal, and when it came
        self._every = every
        self._calls = 0
        self._vote = 0  # the last one
        self._is_agreed = False

    def __enter__(self) -> Preemption:
        try:
            for number in self._signals:
                self._before[number] = signal.signal(number, self._take)
        except (ValueError, OSError) as error:  # another thread, or a signal that nobody can take
            self._put_back()
            raise _error("invalid", f"signals cannot be taken here: {error}") from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._put_back()

    def now(self) -> bool:
        """True once a signal has come; with several ranks on all of them at the same call.

        Call it once a step, on all ranks. With several ranks every ``every``-th call exchanges one
        number with the others, and takes up what they said at the exchange before: so it waits for
        nobody who is less than ``every`` steps behind, and for others as long as the
        Checkpointer's ``timeout`` says.
        """
        peers = self._ckpt._peers
        if peers is None or self._is_agreed:
            return self._notice is not None
        self._calls += 1
        if self._calls % self._every:
            return False
        before, self._vote = self._vote, peers.vote(self._notice[0] if self._notice else 0)
        notice = peers.voted(before) if before else 0
        if notice:
            self._is_agreed = True
            if self._notice is None:
                self._notice = notice, time.monotonic()  # it came to another rank
        return self._is_agreed

    @property
    def left(self) -> float:
        """Seconds that are left; ``grace`` where no signal has come."""
        if self._notice is None:
            return self._grace
        return max(0.0, self._notice[1] + self._grace - time.monotonic())

    def save(self, step: int, state: Any, *, metadata: dict[str, Any] | None = None) -> bool:
        """Saves urgently and waits until the step is durable, as long as there is time.

        Goes before saves that wait and drops them, and ``max_write_rate`` does not hold. The save
        that is being written is finished first. False when the time is over before the step is
        durable: then the newest durable step is an older one, which is logged; nothing is begun
        where no time is left. A step that has been resumed or saved last is not saved again, only
        waited for.

        step: its number.
        state: as for `Checkpointer.save`.
        metadata: as for `Checkpointer.save`.
        """
        # What is known on every rank alike: no rank may save where another does not.
        resumed, last = self._ckpt.resumed, self._ckpt._last_save
        if resumed is not None and resumed.step == step:
            return True
        ticket = last[1] if last is not None and last[0] == step else None
        if ticket is None and (self.left > 0 or self._ckpt._peers is not None):
            ticket = self._ckpt.save(step, state, metadata=metadata, urgent=True)
        if ticket is not None:
            try:
                ticket.wait(timeout=self.left)
                return True
            except Error as error:
                if error.code != "timeout" or ticket.done():
                    raise
        _log.warning(
            "step %d is not durable after %g s of notice; the newest durable step is %s",
            step,
            self._grace,
            self._ckpt.latest(),
        )
        return False

    def exit(self) -> NoReturn:
        """Ends the process as the signal would have: with the status 128 + signal."""
        sys.exit(128 + (self._notice[0] if self._notice else signal.SIGTERM))

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self._notice is None:
            self._notice = number, time.monotonic()
        before = self._before.get(number)
        if callable(before):
            before(number, frame)

    def _put_back(self) -> None:
        for number, before in self._before.items():
            # Somebody else's, who has put it in place of ours since, stays.
            if signal.getsignal(number) == self._take:
                signal.signal(number, signal.SIG_DFL if before is None else before)
        self._before = {}
