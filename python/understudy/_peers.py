"""The other ranks of a run, reached over the key-value store of ``torch.distributed``.

A message is a value under a key of its own, made of lane, number and rank: one that comes late or
early is never taken for another. Nobody waits in the store, and no collective of the trainer's is
used: each operation is short, and is repeated until the deadline. So Ctrl-C works, and an end of
this process is noticed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import sys
import time
from typing import Any

from understudy._core import __version__, _error

# What a rank waits for the others when they make a Checkpointer. Whoever makes one on rank 0 alone
# shall not wait for ten minutes to be told so.
_JOIN_S = 60.0
# Rank 0 may be the host of the store, and leaves last. Whoever has not left by then has ended.
_LEAVE_S = 10.0
# Between two looks: short in a call, which others make at the same time; longer in the background.
_FIRST_PAUSE_S = 0.0001
_LONGEST_PAUSE_S = 0.01

# Votes are counted in one number: below this those who have voted, above it those with a notice.
_NOTICED = 1 << 32

_ALL, _FIRST, _NONE = range(3)  # Peers::Want
_LANES = 2
# Before each message: for each lane the number below which its rank asks for nothing more.
_HEAD = struct.Struct(f"<{_LANES}Q")

# Checkpointers made by this process, by the ranks that made them.
_made: dict[tuple[int, ...], int] = {}


class Peers:
    """What ``understudy::Peers`` is over. One thread a lane."""

    def __init__(self, store: Any, rank: int, count: int, timeout: float) -> None:
        self.rank = rank
        self.count = count
        self._timeout = timeout
        self._process = os.getpid()
        self._is_ended = False
        self._votes = 0
        # A client for each thread, where torch has that: the trainer may wait in its own.
        clone = getattr(store, "clone", None)
        self._keep = store
        self._stores = [clone() if clone else store for _ in range(_LANES)]
        self._next = [0] * _LANES
        self._given: list[list[int]] = [[] for _ in range(_LANES)]
        self._ended_below = [[0] * count for _ in range(_LANES)]

    def exchange(
        self, lane: int, number: int, want: int, seconds: float, mine: bytes
    ) -> list[bytes | None]:
        """What each rank gave under this lane and number; None for those who did not."""
        store = self._stores[lane]
        self._next[lane] = number
        store.set(f"{lane}/{number}/{self.rank}", _HEAD.pack(*self._next) + mine)
        self._given[lane].append(number)
        wanted = {_ALL: range(self.count), _FIRST: range(1), _NONE: range(0)}[want]
        keys = {rank: f"{lane}/{number}/{rank}" for rank in wanted if rank != self.rank}
        found = self._gather(store, keys, seconds)
        answers: list[bytes | None] = [None] * self.count
        for rank, message in found.items():
            for of_lane, below in enumerate(_HEAD.unpack_from(message)):
                past = self._ended_below[of_lane]
                past[rank] = max(past[rank], below)
            answers[rank] = message[_HEAD.size :]
        answers[self.rank] = mine
        self._next[lane] = number + 1
        self._forget(lane)
        return answers

    def join(self, seconds: float) -> None:
        """Waits until all ranks are there."""
        own = f"{__version__}".encode()
        self._stores[0].set(f"join/{self.rank}", own)
        keys = {rank: f"join/{rank}" for rank in range(self.count)}
        found = self._gather(self._stores[0], keys, seconds)
        missing = [rank for rank in keys if rank not in found]
        if missing:
            raise _error(
                "timeout",
                f"{_names(missing)} made no Checkpointer within {seconds:g} s; all ranks of the "
                "process group make one together, in the same order. Where one process saves by "
                "itself, it passes group=False",
            )
        for rank, version in found.items():
            if version != own:
                raise _error(
                    "invalid",
                    f"rank {rank} has version {version.decode(errors='replace')} of Understudy, "
                    f"and rank {self.rank} has {__version__}",
                )

    def vote(self, notice: int) -> int:
        """Tells the others of a notice, a number from 1, or of none, 0. Returns the number of the
        vote. For the thread of the user's calls, as `voted`."""
        if os.getpid() != self._process:  # the connection is the parent's
            raise _error("closed", "preemption cannot be asked for in a forked child")
        store = self._stores[0]
        self._votes += 1
        if notice:
            store.set("notice", str(notice))
        store.add(f"votes/{self._votes}", 1 + (_NOTICED if notice else 0))
        return self._votes

    def voted(self, number: int) -> int:
        """A notice that any rank had when it gave its vote of this number, or 0: the same on all.
        Waits for those that have not voted."""
        store = self._stores[0]
        deadline = time.monotonic() + self._timeout
        pause = _FIRST_PAUSE_S
        while (votes := store.add(f"votes/{number}", 0)) % _NOTICED < self.count:
            if time.monotonic() > deadline:
                raise _error(
                    "timeout",
                    f"only {votes % _NOTICED} of {self.count} ranks have asked for preemption "
                    f"within {self._timeout:g} s; all ranks call now() as often",
                )
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        if self.rank == 0 and number > 2:
            # Whoever has given this vote has counted those of the number two before.
            with contextlib.suppress(RuntimeError):
                store.delete_key(f"votes/{number - 2}")
        return int(store.get("notice")) if votes >= _NOTICED else 0

    def leave(self, waits: bool) -> None:
        """Tells that nothing is asked for any more; rank 0 waits for the others a while."""
        try:
            store = self._stores[0]
            store.set(f"left/{self.rank}", "")
            if waits and self.rank == 0:
                keys = {rank: f"left/{rank}" for rank in range(self.count)}
                self._gather(store, keys, _LEAVE_S)
        except RuntimeError:
            pass  # the store has ended before us: nobody is left to be told
        self.end()

    def end(self) -> None:
        """Has those who wait come back, without what they wait for."""
        self._is_ended = True

    def _gather(self, store: Any, keys: dict[int, str], seconds: float) -> dict[int, bytes]:
        deadline = time.monotonic() + seconds
        pause = _FIRST_PAUSE_S
        while keys and not store.check(list(keys.values())):
            left = deadline - time.monotonic()
            if left <= 0 or self._is_ended:
                keys = {rank: key for rank, key in keys.items() if store.check([key])}
                break
            time.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        return {rank: store.get(key) for rank, key in keys.items()}

    def _forget(self, lane: int) -> None:
        """Removes what nobody will ask this rank for."""
        past = [n for rank, n in enumerate(self._ended_below[lane]) if rank != self.rank]
        below = min(past, default=0)
        while self._given[lane] and self._given[lane][0] < below:
            number = self._given[lane].pop(0)
            with contextlib.suppress(RuntimeError):  # stores that cannot forget are for tests
                self._stores[lane].delete_key(f"{lane}/{number}/{self.rank}")


def join(group: Any, timeout: float) -> Peers | None:
    """The other ranks of a Checkpointer's `group`; None where this process is alone."""
    if not timeout > 0:
        raise _error("invalid", f"timeout is {timeout!r}, and must be seconds, more than 0")
    if group is False:
        return None
    dist = sys.modules.get("torch.distributed")
    is_running = dist is not None and dist.is_available() and dist.is_initialized()
    if group is None and not is_running:
        return None
    # What new_group gives to those that it leaves out.
    outside = dist.GroupMember.NON_GROUP_MEMBER if dist is not None and is_running else None
    if group is not None and group is outside:
        raise _error("invalid", "this process is no member of the group")
    if group is not None and not isinstance(group, getattr(dist, "ProcessGroup", ())):
        raise _error(
            "invalid", f"group is {group!r}, and must be a ProcessGroup of torch, None or False"
        )
    assert dist is not None
    count, rank = dist.get_world_size(group), dist.get_rank(group)
    if count == 1:
        return None
    ranks = tuple(dist.get_process_group_ranks(group))
    number = _made[ranks] = _made.get(ranks, 0) + 1
    name = hashlib.sha256(repr(ranks).encode()).hexdigest()[:16]
    store = dist.PrefixStore(f"understudy/{name}/{number}", _store_of(dist))
    peers = Peers(store, rank, count, timeout)
    peers.join(min(_JOIN_S, timeout))
    return peers


def _store_of(dist: Any) -> Any:
    """The store by which the ranks have found each other. Torch has no public name for it."""
    store = getattr(dist.distributed_c10d, "_get_default_store", lambda: None)()
    if store is None or not hasattr(store, "check"):
        torch = sys.modules["torch"]
        raise _error(
            "unsupported",
            f"torch {torch.__version__} gives no store in which ranks could leave messages; "
            "group=False makes a Checkpointer of this process alone",
        )
    return store


def _names(ranks: list[int]) -> str:
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    return "ranks " + ", ".join(map(str, ranks[:-1])) + f" and {ranks[-1]}"
