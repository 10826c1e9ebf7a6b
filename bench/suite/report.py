"""Printing the figures, and keeping them as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from suite.measure import Figure, Target, Workload


def print_machine(machine: dict[str, str]) -> None:
    width = max(len(name) for name in machine)
    for name, value in machine.items():
        print(f"{name:<{width}}  {value}")


def print_workload(workload: Workload) -> None:
    """One line a contestant: spread, rate, and how fast the others are beside ours."""
    repetitions = max(len(figure.seconds) for figure in workload.figures)
    # Steps of a loop move no bytes that could be counted.
    what = f"{_bytes(workload.nbytes)}, {repetitions} repetitions" if workload.nbytes else "each"
    print(f"\n{workload.name}: {what}")
    width = max(len(figure.name) for figure in workload.figures)
    ours = next((figure for figure in workload.figures if figure.kind == "ours"), None)
    heading = f"  {'':4}  {'':{width}}  {'median':>10}  {'min':>10}  {'max':>10}  {'GB/s':>6}"
    print(f"{heading}  {'ours is':>8}")
    for figure in workload.figures:
        print(f"  {figure.kind:4}  {figure.name:{width}}  {_row(figure, workload.nbytes, ours)}")
    for note in workload.notes:
        print(f"  {note}")


def _row(figure: Figure, nbytes: int, ours: Figure | None) -> str:
    cells = [
        f"{value * 1e3:7.1f} ms"
        for value in (figure.median, min(figure.seconds), max(figure.seconds))
    ]
    rate = f"{nbytes / figure.median / 1e9:6.2f}" if nbytes else " " * 6
    # Beside ours: 2.00x means that ours is twice as fast as this one.
    ratio = "" if ours is None or figure is ours else f"{figure.median / ours.median:.2f}x"
    return "  ".join([*cells, rate, f"{ratio:>8}", figure.note]).rstrip()


def judge(workloads: list[Workload], targets: list[Target]) -> list[dict[str, Any]]:
    by_name = {workload.name: workload for workload in workloads}
    verdicts = []
    for target in targets:
        workload = by_name.get(target.workload)
        if workload is None:
            continue  # not asked for
        if not any(figure.name == target.ours for figure in workload.figures):
            continue  # not measured: its notes say why
        ratio = workload.figure(target.peer).median / workload.figure(target.ours).median
        verdicts.append({**asdict(target), "ratio": ratio, "met": ratio >= target.at_least})
    return verdicts


def print_verdicts(verdicts: list[dict[str, Any]]) -> None:
    print("\nTargets of this version (how many times as fast as the peer):")
    for verdict in verdicts:
        word = "met   " if verdict["met"] else "MISSED"
        print(
            f"  {word}  {verdict['workload']}: {verdict['ours']} against {verdict['peer']}: "
            f"{verdict['ratio']:.2f}x, wanted {verdict['at_least']:g}x"
        )


def write_json(
    path: Path,
    machine: dict[str, str],
    workloads: list[Workload],
    verdicts: list[dict[str, Any]],
) -> None:
    whole = {
        "machine": machine,
        "workloads": [asdict(workload) for workload in workloads],
        "targets": verdicts,
    }
    path.write_text(json.dumps(whole, indent=2) + "\n")


def _bytes(nbytes: int) -> str:
    return f"{nbytes / 2**30:.2f} GiB" if nbytes >= 2**30 else f"{nbytes / 2**20:.1f} MiB"
