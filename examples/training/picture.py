"""Draws step times with the saves marked."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # draws into a file; needs no screen
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

Event = dict[str, Any]


def draw(
    path: Path, killed: list[Event], resumed: list[Event], results: list[dict[str, Any]]
) -> None:
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(10, 8), layout="constrained")
    draw_run(top, killed, resumed)
    draw_race(bottom, results)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_run(axes: Axes, killed: list[Event], resumed: list[Event]) -> None:
    """The run that was killed and its continuation, over the number of the step."""
    for events, label, colour in (
        (killed, "until SIGKILL", "tab:blue"),
        (resumed, "resumed", "tab:green"),
    ):
        steps = [event for event in events if event["event"] == "step"]
        axes.plot(
            [event["step"] for event in steps],
            [event["seconds"] * 1e3 for event in steps],
            color=colour,
            label=label,
        )
        saves = [event for event in steps if event["saved"]]
        axes.plot(
            [event["step"] for event in saves],
            [event["seconds"] * 1e3 for event in saves],
            "v",
            color=colour,
            label=f"save ({label})",
        )
    last = max((event["step"] for event in killed if event["event"] == "step"), default=0)
    axes.axvline(last, color="tab:red", linestyle="--", label="killed while saving")
    axes.set(title="One training run, killed and resumed", xlabel="step", ylabel="ms a step")
    axes.set_ylim(bottom=0)
    axes.legend(ncols=3, fontsize="small")


def draw_race(axes: Axes, results: list[dict[str, Any]]) -> None:
    """Steps around a save, each way's turns one after the other."""
    for result in results:
        times: list[float] = []
        saves: list[int] = []
        for turn in result["turns"]:
            times += [seconds * 1e3 for seconds in turn["plain_steps"]]
            saves.append(len(times))
            # The loop stands still before the first step after the save.
            first, *rest = turn["steps_after"]
            times += [
                (turn["stopped"] + first) * 1e3,
                *(seconds * 1e3 for seconds in rest),
            ]
        added = statistics.median(turn["added"] for turn in result["turns"]) * 1e3
        (line,) = axes.plot(times, label=f"{result['way']}: {added:+.0f} ms of training a save")
        axes.plot(saves, [times[i] for i in saves], "v", color=line.get_color())
    axes.set(
        title="The same saves by three ways (marks: steps that waited for a save)",
        xlabel="step",
        ylabel="ms a step, waiting included",
    )
    axes.set_ylim(bottom=0)
    axes.legend(fontsize="small")
