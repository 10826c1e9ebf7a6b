"""A training process whose one save takes as long as asked: slow_saver FOLDER SECONDS [and end]"""

import json
import sys
import time
from pathlib import Path

folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
print(json.dumps({"event": "step", "step": 1}), flush=True)
time.sleep(0.2)  # the parent must have heard of the step before it sees the save
temporary = folder / "step-1.tmp-fake"
temporary.mkdir()
(temporary / "shard").write_bytes(b"x")
time.sleep(seconds)
temporary.rename(folder / "step-1")
if sys.argv[3:] != ["and", "end"]:
    time.sleep(600)  # until it is killed
