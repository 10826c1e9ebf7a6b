"""killed.py FOLDER: ranks are killed in saves again and again, one or all, in one folder.

At each exchange of a save one rank, or all, end by SIGKILL: before they give their message, after
it was given, or some time after they have got the others', while the next exchange is held up. So
each kill is inside of a save, and for most it is known whether that save's step may be there. The
next run resumes, finds the newest complete step whole, to the bit, and goes on.
"""

import itertools
import mmap
import os
import random
import signal
import struct
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # which DTensors import: once, and not in each rank
import torch.distributed as dist
import torch.distributed.tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard
from warm_ranks import WarmRanks

import understudy
from understudy import _peers

MOST_RANKS = 3
SAVES = 3  # of one run
ROWS, COLUMNS = 7, 33  # uneven on two ranks and on three
TIMEOUT_S = 120.0  # longer than any rank is late: those who are dead are told of

DONE, FAILED = 0, 3

CALLS, PHASES = ("call", "outlines"), ("begin", "files", "outcome")
# In the call of a save, and in the background. What comes after the last one is no save any more.
MOMENTS = [
    *itertools.product((*CALLS, *PHASES[:2]), ("before", "given", "after")),
    *itertools.product(PHASES[2:], ("before", "given")),
]


@dataclass
class Kill:
    victim: int
    exchange: str
    moment: str
    save: int
    takes_all: bool
    delay: float


class Board:
    """What all processes see: for each rank its process and the newest step that it knows to be
    durable, and of the last kill its step and whether that is there."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 4096)

    def __getitem__(self, place: int) -> int:
        return struct.unpack_from("<q", self._memory, 8 * place)[0]

    def __setitem__(self, place: int, number: int) -> None:
        struct.pack_into("<q", self._memory, 8 * place, number)

    PROCESS, DURABLE, STEP, IS_THERE = 0, MOST_RANKS, 2 * MOST_RANKS, 2 * MOST_RANKS + 1


board = Board()
NOT_THERE, THERE, UNKNOWN = range(3)


def expected(rank: int, exchange: str, moment: str) -> int:
    """Whether the step of a save in which this rank is killed then can be complete."""
    if exchange == "outcome":
        return THERE if rank == 0 else UNKNOWN  # rank 0 has renamed the folder, and says so
    has_said_all = exchange == "files" and (moment == "after" or (moment == "given" and rank > 0))
    return UNKNOWN if has_said_all else NOT_THERE


class Victim:
    """Ends a rank at one exchange, and maybe all the others with it."""

    def __init__(self, kill: Kill, rank: int, ranks: int) -> None:
        self.kill, self.rank, self.ranks = kill, rank, ranks
        self.first_step = 0
        self.call: int | None = None  # the save whose call this rank is in
        self.calls = 0  # exchanges in it
        self.is_dying = False

    def end(self) -> None:
        board[Board.STEP] = self.first_step + self.kill.save
        board[Board.IS_THERE] = expected(self.rank, self.kill.exchange, self.kill.moment)
        for rank in range(self.ranks):
            if self.kill.takes_all and rank != self.rank:
                os.kill(board[Board.PROCESS + rank], signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    def end_later(self) -> None:
        time.sleep(self.kill.delay)
        self.end()

    def is_at(self, lane: int, number: int) -> bool:
        if lane == 1:
            save, place = number // len(PHASES) - 1, PHASES[number % len(PHASES)]
        elif self.call is not None:
            save, place = self.call, CALLS[self.calls]
            self.calls += 1
        else:
            return False
        return (save, place) == (self.kill.save, self.kill.exchange)


class Watched(_peers.Peers):
    victim: Victim | None = None
    alarm = -1

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        threading.Thread(target=self.wait_for_alarm, daemon=True).start()

    def wait_for_alarm(self) -> None:
        os.read(self.alarm, 1)
        self.end()  # somebody has ended who will never answer

    def exchange(self, lane: int, number: int, want: int, seconds: float, mine: bytes) -> Any:
        victim = self.victim
        if victim is None:
            return super().exchange(lane, number, want, seconds, mine)
        if victim.is_dying:
            threading.Event().wait()  # for the end
        moment = victim.kill.moment if victim.is_at(lane, number) else ""
        if moment == "before":
            victim.end()
        if moment == "given":
            super().exchange(lane, number, 2, seconds, mine)
            victim.end()
        answers = super().exchange(lane, number, want, seconds, mine)
        if moment == "after":
            victim.is_dying = True
            threading.Thread(target=victim.end_later, daemon=True).start()
        return answers


def whole(step: int) -> torch.Tensor:
    return torch.arange(float(ROWS * COLUMNS)).reshape(ROWS, COLUMNS) + 10_000 * step


class Training:
    """A tensor that is cut, one that all have, scalars, and what is each rank's own."""

    def __init__(self, rank: int, ranks: int) -> None:
        self.rank, self.ranks = rank, ranks
        mesh = init_device_mesh("cpu", (ranks,))
        self.rows = torch.zeros_like(self.part_of(whole(0)))
        shape, stride = (ROWS, COLUMNS), (COLUMNS, 1)
        tensor = DTensor.from_local(
            self.rows, mesh, [Shard(0)], run_check=False, shape=shape, stride=stride
        )
        self.copy = torch.zeros(301, dtype=torch.int64)
        self.loader = {"at": -1, "of": rank}
        self.state: dict[str, Any] = {
            "model": {"rows": tensor, "copy": self.copy},
            "loader": understudy.per_rank(self.loader),
            "step": 0,
            "loss": 0.0,
        }

    def part_of(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.chunk(self.ranks)[self.rank]

    def step_to(self, step: int) -> None:
        self.rows.copy_(self.part_of(whole(step)))
        self.copy.copy_(torch.arange(301) + step)
        self.loader["at"] = 100 * step
        self.state["step"], self.state["loss"] = step, step / 7

    def require(self, step: int, has_own: bool) -> None:
        assert self.state["step"] == step and self.state["loss"] == step / 7, self.state
        assert torch.equal(self.rows, self.part_of(whole(step))), step
        assert torch.equal(self.copy, torch.arange(301) + step), step
        at = 100 * step if has_own else -1
        assert self.loader == {"at": at, "of": self.rank}, self.loader


def train(folder: Path, rank: int, ranks: int, victim: Victim | None) -> int:
    durable = max(board[Board.DURABLE + r] for r in range(MOST_RANKS))
    board[Board.PROCESS + rank] = os.getpid()
    training = Training(rank, ranks)
    ckpt = understudy.Checkpointer(folder, keep=2, timeout=TIMEOUT_S)
    step = ckpt.resume(training.state, strict=False) or 0
    assert step >= durable, f"step {step} is older than {durable}"
    if board[Board.IS_THERE] == THERE:
        assert step == board[Board.STEP], f"step {board[Board.STEP]} is lost, {step} is there"
    if board[Board.IS_THERE] == NOT_THERE:
        assert step < board[Board.STEP], f"step {step} cannot be there"
    if step > 0:
        training.require(step, has_own="loader" not in ckpt.resumed.missing)
    dist.barrier()  # all have looked at the board
    if victim is not None:
        victim.first_step = step + 1
    for save in range(SAVES):
        step += 1
        training.step_to(step)
        if victim is not None:
            victim.call, victim.calls = save, 0
        ticket = ckpt.save(step, training.state)
        if victim is not None:
            victim.call = None
        if save != 1:  # one is still being written when the next one is called
            ticket.wait()
            board[Board.DURABLE + rank] = step
    ckpt.close()
    return DONE


def run(warm: WarmRanks, folder: Path, ranks: int, kill: Kill | None = None) -> list[int]:
    def body(rank: int, alarm: int) -> int:
        is_victim = kill is not None and kill.victim == rank
        victim = Victim(kill, rank, ranks) if kill is not None and is_victim else None
        Watched.alarm, Watched.victim = alarm, victim
        _peers.Peers = Watched  # type: ignore[misc]
        try:
            return train(folder, rank, ranks, victim)
        except understudy.Error as error:
            if error.code not in ("timeout", "io"):
                raise
            return FAILED  # another one is missed

    return warm.run(ranks, body)


def require_whole(folder: Path) -> None:
    steps = sorted(path for path in folder.iterdir() if path.name != ".understudy.lock")
    assert [path.name[:5] for path in steps] == ["step-"] * 2, steps
    for path in steps:
        assert ".tmp" not in path.name, steps
        state = understudy.load_file(path)
        step = state["step"]
        assert path.name == f"step-{step}" and state["loss"] == step / 7
        assert torch.equal(state["model"]["rows"], whole(step))
        assert torch.equal(state["model"]["copy"], torch.arange(301) + step)
        assert state["loader"] == {r: {"at": 100 * step, "of": r} for r in range(MOST_RANKS)}


def main() -> None:
    folder = Path(sys.argv[1])
    choose = random.Random(7)
    warm = WarmRanks()
    board[Board.IS_THERE] = UNKNOWN
    assert run(warm, folder, MOST_RANKS) == [DONE] * MOST_RANKS
    assert board[Board.DURABLE] == SAVES
    plans = list(itertools.product(MOMENTS, (True, False), (True, False)))
    choose.shuffle(plans)
    for (exchange, moment), is_first, takes_all in plans:
        ranks = choose.randint(2, MOST_RANKS)
        save = 0 if exchange == "outlines" else choose.randrange(SAVES)  # only then they are new
        victim = 0 if is_first else choose.randrange(1, ranks)
        kill = Kill(victim, exchange, moment, save, takes_all, choose.uniform(0, 0.005))
        endings = run(warm, folder, ranks, kill)
        assert endings[victim] == -signal.SIGKILL, (kill, endings)
        allowed = {-signal.SIGKILL} if takes_all else {DONE, FAILED}
        others = endings[:victim] + endings[victim + 1 :]
        assert set(others) <= allowed, (kill, endings)
    assert run(warm, folder, MOST_RANKS) == [DONE] * MOST_RANKS
    require_whole(folder)
    groups = sum(takes_all for _, _, takes_all in plans)
    print(f"killed {len(plans) - groups} ranks and {groups} groups", flush=True)


if __name__ == "__main__":
    main()
