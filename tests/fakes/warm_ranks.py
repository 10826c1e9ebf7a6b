"""Ranks that are forked from one process, which has imported torch already: a run of two or three
takes a fraction of a second. That process has one thread, so what is forked is sound; the store in
which the ranks meet is served by a process of its own.
"""

import os
import sys
import traceback
from collections.abc import Callable

import torch.distributed as dist

_HOST = "127.0.0.1"
_FAILED = 125  # the status of a rank whose body raises


class WarmRanks:
    def __init__(self) -> None:
        threads = os.listdir("/proc/self/task")
        assert len(threads) == 1, f"{len(threads)} threads: {self} must fork before there are any"
        self._runs = 0
        port, say = os.pipe()
        is_needed = os.pipe()
        if os.fork() == 0:
            os.close(is_needed[1])
            store = dist.TCPStore(_HOST, 0, is_master=True, wait_for_workers=False)
            os.write(say, str(store.port).encode())
            os.read(is_needed[0], 1)  # until the other process has ended
            os._exit(0)
        os.close(is_needed[0])
        self._port = int(os.read(port, 16))

    def run(self, count: int, body: Callable[[int, int], int], finishes: bool = False) -> list[int]:
        """Runs `body(rank, alarm)` in a process for each rank, with a process group of all. Returns
        how each has ended: its status, or minus its signal. `alarm` is a descriptor that comes to
        its end as soon as one has ended in another way than with 0. `finishes`: the interpreter of
        each comes to its end, too."""
        self._runs += 1
        alarm, is_well = os.pipe()
        sys.stdout.flush()
        pids = []
        for rank in range(count):
            pid = os.fork()
            if pid == 0:
                os.close(is_well)
                status = self._be(rank, count, body, alarm)
                if finishes:
                    sys.exit(status)
                sys.stdout.flush()
                os._exit(status)
            pids.append(pid)
        os.close(alarm)
        endings: dict[int, int] = {}
        while len(endings) < count:
            pid, status = os.wait()
            if pid not in pids:
                raise AssertionError(f"the server has ended with {status}")
            endings[pid] = os.waitstatus_to_exitcode(status)
            if endings[pid] != 0 and is_well >= 0:
                os.close(is_well)
                is_well = -1
        if is_well >= 0:
            os.close(is_well)
        return [endings[pid] for pid in pids]

    def _be(self, rank: int, count: int, body: Callable[[int, int], int], alarm: int) -> int:
        try:
            server = dist.TCPStore(_HOST, self._port, is_master=False)
            store = dist.PrefixStore(str(self._runs), server)
            dist.init_process_group("gloo", store=store, rank=rank, world_size=count)
            return body(rank, alarm)
        except (Exception, KeyboardInterrupt):
            print(f"rank {rank} failed:\n{traceback.format_exc()}", flush=True)
            return _FAILED
