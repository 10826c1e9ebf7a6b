"""Stage, save and restore, beside peers and the roofs of this machine.

    python bench/run.py [--gib 1] [--repetitions N] [--folder DIR] [--json OUT] [--quick] [NAME...]

Names are what --list prints, or their beginnings: stage.steady, save.durable.large.

Peers run in this process, in turns with ours, on the same bytes and with the
same durability. Never fails because something was slow.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import warnings
from pathlib import Path

from suite import (
    benches,
    dcp_ranks,
    drop_in,
    machine,
    ranks,
    report,
    restore,
    save,
    stage,
    survive,
    training,
)
from suite.benches import Settings
from suite.measure import Target
from suite.roofs import Roofs

_BUILD = Path(__file__).resolve().parent.parent / "build"
_SAVE_LARGE = "save, durable, large tensors"
_FIRST = "save, loop stopped by the first"
_TARGETS = [
    Target("stage large tensors, steady", stage.OURS, stage.PEER, 1.3),
    Target("stage large tensors, steady", stage.OURS, stage.ROOF, 0.95),
    Target("stage large tensors, first", stage.OURS, stage.PEER, 2.5),
    Target("stage small tensors, steady", stage.OURS, stage.PEER, 30.0),
    Target("stage module.state_dict(), steady", stage.OURS, stage.PEER, 20.0),
    Target("drop-in large tensors, steady", drop_in.OURS, drop_in.PEER, 1.3),
    Target("drop-in small tensors, steady", drop_in.OURS, drop_in.PEER, 15.0),
    Target("drop-in large tensors, first", drop_in.OURS, drop_in.PEER, 2.5),
    Target("drop-in large tensors, first shared", drop_in.OURS_SHARED, drop_in.PEER_SHARED, 3.0),
    Target("stage large tensors, loop stopped", stage.OVERLAPPED, stage.PEER, 3.5),
    Target("stage large tensors, loop stopped", stage.OVERLAPPED_HUGE, stage.PEER, 50.0),
    Target("training, time added by a checkpoint", training.OURS, training.DCP, 4.0),
    Target(ranks.SAVE, ranks.OURS_SAVE, ranks.DCP_SAVE, 1.5),
    Target(ranks.SAVE, ranks.OURS_SAVE, ranks.ROOF, 0.8),
    Target(ranks.STOPPED, ranks.OURS_CALL, ranks.DCP_CALL, 3.0),
    Target(ranks.LOAD, ranks.OURS_LOAD, ranks.DCP_LOAD, 1.0),
    Target(dcp_ranks.SAVE, dcp_ranks.OURS, dcp_ranks.PEER, 1.5),
    Target(dcp_ranks.SAVE, dcp_ranks.OURS, dcp_ranks.ROOF, 0.8),
    Target(dcp_ranks.LOAD, dcp_ranks.OURS_READER, dcp_ranks.PEER_READER, 1.0),
    # The first stops the loop no longer than three times a later one.
    Target(_FIRST, save.OURS_FIRST, save.OURS_LATER, 1 / 3),
    Target(_FIRST, save.OURS_FIRST_PREWARMED, save.OURS_LATER, 1 / 3),
    Target(_SAVE_LARGE, save.OURS_STEP, save.ROOF, 0.9),
    Target(_SAVE_LARGE, save.OURS_FILE, save.ROOF, 0.9),
    Target(_SAVE_LARGE, save.OURS_STEP, save.TORCH, 3.0),
    Target(_SAVE_LARGE, save.OURS_STEP, save.DCP, 3.0),
    Target(_SAVE_LARGE, save.OURS_STEP, save.SAFETENSORS, 2.0),
    Target("resume in place, warm page cache", restore.OURS, restore.TORCH, 1.0),
    Target("resume in place, warm page cache", restore.OURS, restore.SAFETENSORS, 0.8),
    Target("resume in place, cold page cache", restore.OURS, restore.TORCH, 2.0),
    Target("resume in place, cold page cache", restore.OURS, restore.SAFETENSORS, 1.0),
    Target(survive.STOPPED, survive.WITH, survive.WITHOUT, 0.9),
    Target(survive.RESTART, survive.MEMORY, survive.COLD, 3.0),
]
# The state itself, two images of ours, a peer's copy and its buffers, page cache; or three
# runs of the roofs' in their place.
_MEMORY_FACTOR = 7


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gib", type=float, help="size of the large state (default: 1)")
    parser.add_argument("--repetitions", type=int, help="default: 7")
    parser.add_argument("--folder", type=Path, default=_BUILD / "bench-data", help="made anew")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--quick", action="store_true", help="small and few: does it run at all?")
    parser.add_argument("--list", action="store_true", help="only name the benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    options = parser.parse_args(arguments)
    try:
        options.names = benches.select(options.names)
    except ValueError as error:
        parser.error(str(error))
    options.gib = options.gib or (1 / 32 if options.quick else 1)
    options.repetitions = options.repetitions or (2 if options.quick else 7)
    options.small = 1000 if options.quick else 10_000
    return options


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    if options.list:
        print("\n".join(options.names))
        return 0
    needed = int(options.gib * 2**30) * _MEMORY_FACTOR
    if machine.available_memory() < needed:
        print(f"needs {needed / 2**30:.1f} GiB of free memory; give a smaller --gib")
        return 2
    warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # one process
    folder: Path = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "data"
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir()
    described = machine.describe(folder)
    report.print_machine(described)
    try:
        workloads = []
        settings = Settings(
            large_nbytes=int(options.gib * 2**30),
            small=options.small,
            repetitions=options.repetitions,
            folder=data,
            roofs=Roofs(_BUILD / "bench", data),
        )
        for workload in benches.run(options.names, settings):
            report.print_workload(workload)
            sys.stdout.flush()
            workloads.append(workload)
    finally:
        shutil.rmtree(data, ignore_errors=True)
    verdicts = report.judge(workloads, _TARGETS)
    report.print_verdicts(verdicts)
    if options.json:
        report.write_json(options.json, described, workloads, verdicts)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
