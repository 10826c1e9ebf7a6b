"""Programs under torchrun. Each launch runs many checks, because importing torch takes seconds."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import understudy

PACKAGE_ROOT = str(Path(understudy.__file__).parent.parent)
LIMIT_S = 240  # a launch takes seconds; one that hangs ends here, and not with the suite


def run_program(program: Path, *arguments: object, launcher: Sequence[str] = ()) -> tuple[int, str]:
    """The status and the output of a program that has `fakes` beside it."""
    own = [PACKAGE_ROOT, str(Path(__file__).parent), os.environ.get("PYTHONPATH")]
    process = subprocess.Popen(
        [sys.executable, *launcher, str(program), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, own)),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        },
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        output += f"\n{program} hung for {LIMIT_S} s and was killed"
    return process.returncode, output


def run_on_ranks(ranks: int, program: Path, *arguments: object) -> tuple[int, str]:
    """The same of `ranks` processes under torchrun."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    return run_program(program, *arguments, launcher=torchrun)


class Launches:
    """A program that is launched several times, in order: on so many ranks, with the checks of
    these names. Each launch runs once, before the first check of it is asked for; it prints
    `passed NAME` for each check. `look` sees the names, the status and the output of each."""

    def __init__(
        self,
        program: Path,
        launches: Sequence[tuple[int, list[str]]],
        folder: Path,
        look: Callable[[list[str], int, str], None] = lambda names, status, output: None,
    ) -> None:
        self._program = program
        self._launches = launches
        self._folder = folder
        self._look = look
        self._results: list[tuple[set[str], str]] = []

    def result(self, launch: int) -> tuple[set[str], str]:
        """The checks of that launch that have passed, and its output."""
        while len(self._results) <= launch:
            ranks, names = self._launches[len(self._results)]
            status, output = run_on_ranks(ranks, self._program, self._folder, *names)
            self._look(names, status, output)
            self._results.append((set(re.findall(r"^passed (\w+)$", output, re.M)), output))
        return self._results[launch]
