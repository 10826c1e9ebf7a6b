"""The benchmark runs, compares like with like, and tells the truth about its targets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Run

from suite import page_cache
from suite.measure import Figure, Target, Workload, interleave
from suite.report import judge


def test_benchmarks_are_chosen_by_name(run: Run, tmp_path: Path) -> None:
    listed = run("bench/run.py", "--list", "stage.steady", "save.durable.small")
    assert listed.stdout.split() == [
        "stage.steady.small",
        "save.durable.small",
        "stage.steady.module",
        "stage.steady.large",
    ]
    unknown = run("bench/run.py", "--list", "stage.stead")
    assert unknown.returncode == 2 and "no benchmark is called stage.stead" in unknown.stderr
    out = tmp_path / "out.json"
    done = run("bench/run.py", "--quick", "--folder", tmp_path / "d", "--json", out, "save.durable")
    assert done.returncode == 0
    names = [workload["name"] for workload in json.loads(out.read_text())["workloads"]]
    assert names == ["save, durable, small tensors", "save, durable, large tensors"]


def test_benchmark_runs_and_writes_every_figure(run: Run, tmp_path: Path) -> None:
    done = run(
        "bench/run.py",
        "--quick",
        "--folder",
        tmp_path / "d",
        "--json",
        tmp_path / "out.json",
    )
    assert done.returncode == 0
    assert list((tmp_path / "d").iterdir()) == []  # gigabytes must not stay behind
    whole = json.loads((tmp_path / "out.json").read_text())
    workloads = {workload["name"]: workload for workload in whole["workloads"]}
    assert list(workloads) == [
        "stage small tensors, first",
        "stage small tensors, steady",
        "drop-in small tensors, first",
        "drop-in small tensors, first shared",
        "drop-in small tensors, steady",
        "save, durable, small tensors",
        "resume in place small tensors, warm page cache",
        "resume in place small tensors, cold page cache",
        "load small tensors, warm page cache",
        "load small tensors, cold page cache",
        "stage module.state_dict(), steady",
        "drop-in module.state_dict(), steady",
        "stage large tensors, first",
        "stage large tensors, steady",
        "stage large tensors, loop stopped",
        "stage large tensors, then overwritten",
        "drop-in large tensors, first",
        "drop-in large tensors, first shared",
        "drop-in large tensors, steady",
        "save, durable, large tensors",
        "save, loop stopped",
        "save, loop stopped by the first",
        "training steps beside a save",
        "resume in place, warm page cache",
        "resume in place, cold page cache",
        "load, warm page cache",
        "load, cold page cache",
        "survive: save, loop stopped",
        "survive: save, durable",
        "survive: restart",
        "training, time added by a checkpoint",
        "two ranks, FSDP2, save, durable",
        "two ranks, FSDP2, loop stopped",
        "two ranks, FSDP2, load in place, warm page cache",
        "dcp.save, 2 ranks",
        "dcp.load, 2 ranks, warm page cache",
    ]
    for name, workload in workloads.items():
        kinds = {figure["kind"] for figure in workload["figures"]}
        # A file system that lives in memory cannot be cold; the benchmark then says so.
        if not any("not measured" in note for note in workload["notes"]):
            assert ({"ours"} if name.startswith("survive") else {"ours", "peer"}) <= kinds, name
        for figure in workload["figures"]:
            counts_steps = name == "training steps beside a save"
            assert len(figure["seconds"]) == 2 or counts_steps, (name, figure["name"])
            # A loss beside steps that vary may come out below nothing.
            is_loss = name == "training, time added by a checkpoint"
            assert is_loss or min(figure["seconds"]) > 0, (name, figure["name"])
    is_cold = len(workloads["resume in place, cold page cache"]["figures"]) > 1
    counted = sum(
        any(figure["kind"] == "ours" for figure in workloads[name]["figures"])
        for name in ("survive: save, loop stopped", "survive: restart")
    )
    assert len(whole["targets"]) == (30 if is_cold else 28) + counted
    assert all(name in whole["machine"] for name in ("processor", "file system", "kernel"))


@pytest.mark.parametrize(("ours", "met"), [(1.0, True), (0.5, True), (1.1, False)])
def test_a_target_is_judged_by_medians(ours: float, met: bool) -> None:
    figures = [
        Figure("us", [ours, ours, 99.0], "ours"),
        Figure("them", [2.0, 2.0, 0.1], "peer"),
    ]
    (verdict,) = judge([Workload("w", 1, figures)], [Target("w", "us", "them", 2.0)])
    assert verdict["met"] is met


def test_a_target_that_was_not_measured_is_not_judged() -> None:
    roof = [Figure("roof", [1.0], "roof")]
    assert judge([Workload("w", 1, roof)], [Target("w", "us", "them", 2.0)]) == []


def test_contestants_take_turns_and_each_begins_once() -> None:
    order: list[str] = []
    contestants = [lambda name=name: float(order.append(name) or 1.0) for name in "abc"]
    times = interleave(contestants, 3)
    assert order == list("abcbcacab")
    assert [len(t) for t in times] == [3, 3, 3]


def test_the_page_cache_is_filled_and_emptied_with_proof(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (4 << 20))
    page_cache.warm(path)
    assert page_cache.resident_share(path) == 1.0
    try:
        page_cache.evict(path)
    except page_cache.NotCold as reason:
        pytest.skip(f"this file system keeps its pages: {reason}")
    assert page_cache.resident_share(path) <= 0.01
