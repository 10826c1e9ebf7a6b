"""The roofs of this machine: builds and runs `roofs.cpp`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from suite.machine import cores
from suite.measure import Contestant, Figure

# The roofs that take turns, by what the program calls them.
HUGE_COPY = "streaming copy into huge pages, all cores"
COPIES = {
    "memcpy, all cores": "copy",
    "streaming copy, all cores": "streaming_copy",
    HUGE_COPY: "streaming_copy_huge",
}

_SOURCE = Path(__file__).resolve().parent.parent


class Roofs:
    def __init__(self, build: Path, folder: Path) -> None:
        self._folder = folder
        self.program = build / "roofs"
        for command in (
            [
                "cmake",
                "-S",
                str(_SOURCE),
                "-B",
                str(build),
                "-DCMAKE_BUILD_TYPE=Release",
            ],
            ["cmake", "--build", str(build)],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise SystemExit(f"the roofs could not be built:\n{done.stdout}{done.stderr}")

    def copy(self, nbytes: int, repetitions: int) -> list[Figure]:
        n = cores()
        times = self._run("copy", nbytes, repetitions)
        return [
            Figure(f"memcpy, {n} threads", times["copy"], "roof"),
            Figure(f"streaming copy, {n} threads", times["streaming_copy"], "roof"),
        ]

    @contextmanager
    def copier(self, nbytes: int) -> Iterator[list[tuple[str, Contestant]]]:
        """Copies of warm memory by a process of their own, to take turns with."""
        program = [str(self.program), "serve", str(nbytes), "1", str(cores())]
        with subprocess.Popen(
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        ) as process:
            requests, answers = process.stdin, process.stdout
            assert requests and answers

            def asking(what: str) -> Contestant:
                def ask() -> float:
                    print(what, file=requests, flush=True)
                    return float(answers.readline())

                return ask

            yield [(name, asking(what)) for name, what in COPIES.items()]
            requests.close()

    def touch(self, nbytes: int, repetitions: int) -> list[Figure]:
        """A copy into memory that nobody has touched."""
        n = cores()
        times = self._run("touch", nbytes, repetitions)
        return [
            Figure(f"memcpy into fresh pages, {n} threads", times["small_pages"], "roof"),
            Figure(f"memcpy into fresh huge pages, {n} threads", times["huge_pages"], "roof"),
        ]

    def hash(self, nbytes: int, repetitions: int) -> list[Figure]:
        times = self._run("hash", nbytes, repetitions)
        return [Figure(f"XXH3, {cores()} threads", times["hash"], "roof")]

    def write_once(self, nbytes: int, *, hashed: bool = False) -> float:
        """Seconds of one file, for those who take turns with it."""
        what = "hashed_write" if hashed else "direct_write"
        return self._run(what, nbytes, 1)[what][0]

    def cold_and_cached_read(self, nbytes: int, repetitions: int) -> tuple[Figure, Figure]:
        times = self._run("read", nbytes, repetitions)
        return (
            Figure("direct read, depth 8", times["direct_read"], "roof"),
            Figure(f"cached read, {cores()} threads", times["cached_read"], "roof"),
        )

    def _run(self, what: str, nbytes: int, repetitions: int) -> dict[str, list[float]]:
        # One more, which finds everything cold and is not counted.
        arguments = [
            what,
            str(nbytes),
            str(repetitions + 1),
            str(cores()),
            str(self._folder),
        ]
        output = subprocess.run(
            [str(self.program), *arguments], capture_output=True, text=True, check=True
        ).stdout
        lists = {name: value for name, value in json.loads(output).items() if name != "nbytes"}
        return {name: times[1:] for name, times in lists.items() if isinstance(times, list)}
