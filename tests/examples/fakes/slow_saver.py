"""A training process with one save, which ends when it has been seen: slow_saver FOLDER WHEN

WHEN is "seen", "never" (it is killed before), or "at-once" (nobody looks, and the process ends).
The test tells what it has heard and seen by files of these names in the folder.
"""

import json
import sys
import time
from pathlib import Path

folder, when = Path(sys.argv[1]), sys.argv[2]


def wait_for(name: str) -> None:
    while not (folder / name).exists():
        time.sleep(0.001)


print(json.dumps({"event": "step", "step": 1}), flush=True)
if when != "at-once":
    wait_for("heard")
temporary = folder / "step-1.tmp-fake"
temporary.mkdir()
(temporary / "shard").write_bytes(b"x")
if when != "at-once":
    wait_for("seen" if when == "seen" else "never")
temporary.rename(folder / "step-1")
if when != "at-once":
    wait_for("never")  # until it is killed
