"""``python -m understudy``: the command line, of this interpreter's own installation."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

PROGRAM = "understudy"


def candidates() -> Iterator[Path]:
    """Where the program may lie, the likeliest first."""
    try:
        installed = metadata.distribution(PROGRAM)
    except metadata.PackageNotFoundError:  # run from a build folder
        installed = None
    here = Path(__file__).resolve().parent
    # Wherever the package was installed to (a user's folder, a --target); another
    # installation than the one that is imported has another program.
    if installed and Path(str(installed.locate_file(PROGRAM))).resolve() == here:
        files = installed.files or []
        yield from (Path(str(file.locate())) for file in files if file.name == PROGRAM)
    if found := shutil.which(PROGRAM):
        yield Path(found)
    yield Path(sysconfig.get_path("scripts")) / PROGRAM


def doctor(program: Path, arguments: list[str]) -> int:
    """What the program says, and what it cannot know: how this Python's torch is asked."""
    command = [str(program), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    said = done.stdout
    if done.returncode == 0 and not {"-h", "--help"} & {*arguments}:
        from understudy._core import _how_tensors_are_known

        how = _how_tensors_are_known()
        if "--json" in arguments:
            said = json.dumps({**json.loads(said), "torch_tensors": how}) + "\n"
        else:
            said += f"\nwhat a tensor of torch is, is found out {how}\n"
    print(said, end="")
    return done.returncode


def main() -> int:
    for program in candidates():
        if program.is_file() and os.access(program, os.X_OK):
            if sys.argv[1:2] == ["doctor"]:
                return doctor(program, sys.argv[1:])
            os.execv(program, [PROGRAM, *sys.argv[1:]])
    print("understudy: error: the program understudy is not installed", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
