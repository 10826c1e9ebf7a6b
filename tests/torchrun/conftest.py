"""Programs under torchrun. Each runs many checks, because importing torch takes seconds."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import understudy

PACKAGE_ROOT = str(Path(understudy.__file__).parent.parent)
LIMIT_S = 240  # a launch takes seconds; one that hangs ends here, and not with the suite


def run_on_ranks(ranks: int, program: Path, *arguments: object) -> tuple[int, str]:
    """The status and the output of `ranks` processes that run a program."""
    paths = [PACKAGE_ROOT, *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run"),
            *("--standalone", "--nproc-per-node", str(ranks)),
            *(str(program), *map(str, arguments)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        output += f"\n{program} hung for {LIMIT_S} s and was killed"
    return process.returncode, output
