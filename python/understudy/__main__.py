"""``python -m understudy``: the command line, of this interpreter's own installation."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

PROGRAM = "understudy"


def candidates() -> Iterator[Path]:
    """Where the program may lie, the likeliest first."""
    try:
        files = metadata.files("understudy") or []
    except metadata.PackageNotFoundError:  # run from a build folder
        files = []
    # Wherever the package was installed to (a user's folder, a --target).
    yield from (Path(str(file.locate())) for file in files if file.name == PROGRAM)
    yield Path(sysconfig.get_path("scripts")) / PROGRAM
    if found := shutil.which(PROGRAM):
        yield Path(found)


def main() -> int:
    for program in candidates():
        if program.is_file() and os.access(program, os.X_OK):
            os.execv(program, [PROGRAM, *sys.argv[1:]])
    print("understudy: error: the program understudy is not installed", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
