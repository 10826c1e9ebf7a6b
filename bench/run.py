"""Stage, save and restore, beside peers and the roofs of this machine.

    python bench/run.py [--gib 1] [--repetitions N] [--folder DIR] [--json OUT] [--quick]

Peers run in this process, in turns with ours, on the same bytes and with the
same durability. Never fails because something was slow.
"""

from __future__ import annotations

import argparse
import gc
import shutil
import sys
import warnings
from pathlib import Path

from suite import beside, drop_in, machine, report, restore, save, stage, states, training
from suite.measure import Target, Workload
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
    options = parser.parse_args(arguments)
    options.gib = options.gib or (1 / 32 if options.quick else 1)
    options.repetitions = options.repetitions or (2 if options.quick else 7)
    options.small = 1000 if options.quick else 10_000
    return options


def run_all(options: argparse.Namespace, folder: Path) -> list[Workload]:
    roofs = Roofs(_BUILD / "bench", folder)
    repetitions: int = options.repetitions
    workloads: list[Workload] = []

    def show(found: list[Workload]) -> None:
        for workload in found:
            report.print_workload(workload)
        workloads.extend(found)
        sys.stdout.flush()
        gc.collect()  # a peer's buffers go before the next workload needs the memory

    small = states.small(options.small)
    show(stage.bench_stage("small tensors", small, roofs, repetitions))
    show(drop_in.bench_drop_in("small tensors", small, roofs, repetitions))
    module = states.module(options.small // 8)
    show([stage.bench_module(module, roofs, repetitions)])
    show([drop_in.bench_module(module, roofs, repetitions)])
    del module
    show([save.bench_save("small tensors", small, folder, roofs, repetitions)])
    few = min(3, repetitions)  # a peer takes seconds
    show(restore.bench_restore(" small tensors", small, folder / "small", roofs, few))
    del small
    state = states.large(int(options.gib * 2**30))
    show(stage.bench_stage("large tensors", state, roofs, repetitions))
    show(stage.bench_blocked("large tensors", state, roofs, repetitions))
    show(drop_in.bench_drop_in("large tensors", state, roofs, repetitions))
    show([save.bench_save("large tensors", state, folder, roofs, repetitions, each_writer=True)])
    show([save.bench_blocked(state, folder, roofs, repetitions)])
    show([save.bench_first(state, folder, roofs, few)])
    show([beside.bench_beside(state, folder, repetitions)])
    show(restore.bench_restore("", state, folder / "large", roofs, repetitions))
    del state
    show([training.bench_training(int(options.gib * 2**30), folder, repetitions)])
    return workloads


def main(arguments: list[str]) -> int:
    options = parse(arguments)
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
        workloads = run_all(options, data)
    finally:
        shutil.rmtree(data, ignore_errors=True)
    verdicts = report.judge(workloads, _TARGETS)
    report.print_verdicts(verdicts)
    if options.json:
        report.write_json(options.json, described, workloads, verdicts)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
