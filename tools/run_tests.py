#!/usr/bin/env python3
"""Runs the test suites and counts.

    tools/run_tests.py [--root ROOT] [--build build/release] [--runner COMMAND] [SUITE...]

A suite is `cpp:<room>` (one GoogleTest program a room), `fuzz` (the fuzz targets' plain mains), or
a folder of tests for pytest. Named by itself or by what stands before the colon; without names all
run that no other target runs, two side by side, but for those that measure time or fill the memory.
Prints one line a suite, the whole output of those that fail, the slowest tests, and at the end

    N passed, N failed, N skipped

Each test has a limit of its own: tests/fakes/test_main.cpp and pyproject.toml. One that goes beyond
it, or that takes its program down, is named. Exit status 1 when a test failed, or when a suite ran
nothing: a test that does not run is a document. Uses the standard library only.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

# For what the limits of the tests do not see, as a program that hangs at its end: in seconds, and
# longer than any suite takes with a sanitizer.
HANGS_AFTER = 3000

SLOWEST = 5  # are named

# Not beside another suite: those that look at the processor's idle time or kill within a save.
ALONE = {"cpp:stage", "cpp:crash", "examples", "site"}

# Run only when they are named: what runs them installs what they need.
BY_NAME = {"site": "make docs-test"}

# What GoogleTest and `pytest -v` print as a test begins and ends.
GTEST_LINE = re.compile(r"^\[ +(?P<what>RUN|OK|FAILED|SKIPPED) +\] (?P<name>[^\s,]+)")
PYTEST_LINE = re.compile(
    r"^(?P<name>\S+\.py::[\w:]+(?:\[.*?\])?) (?P<what>PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)?"
)


@dataclass
class Result:
    passed: int = 0
    failed: int = 0
    skips: list[str] = field(default_factory=list)
    output: str = ""
    times: list[tuple[float, str]] = field(default_factory=list)  # seconds, and which test

    def fail(self, message: str) -> Result:
        self.failed += 1
        self.output += f"\n{message}\n"
        return self


Suite = Callable[[], Result]


def run(command: list[str], environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Runs a program in a session of its own, so that one that hangs goes with its children."""
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        try:
            status = process.wait(HANGS_AFTER)
            note = ""
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
            note = f"\nhung for {HANGS_AFTER} seconds and was killed\n"
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        output.seek(0)
        return status, output.read() + note


def count_xml(result: Result, report: Path) -> None:
    """Counts the test cases of a JUnit report, GoogleTest's or pytest's."""
    for case in ET.parse(report).iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        result.times.append((float(case.get("time") or 0), name))
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            result.failed += 1
        elif skipped is not None or case.get("status") == "notrun":
            reason = skipped.get("message", "") if skipped is not None else "disabled"
            result.skips.append(f"{name}: {reason}".strip())
        else:
            result.passed += 1


def count_output(result: Result) -> None:
    """Counts by what was printed, for want of a report, and names the test that was under way."""
    running = None
    for line in result.output.splitlines():
        match = GTEST_LINE.match(line) or PYTEST_LINE.match(line)
        if not match:
            continue
        what = match["what"]
        if what in (None, "RUN"):
            running = match["name"]
            continue
        running = None
        if what in ("OK", "PASSED", "XFAIL"):
            result.passed += 1
        elif what == "SKIPPED":
            result.skips.append(match["name"])
        else:
            result.failed += 1
    if running is not None:
        result.fail(f"{running} took the program down, or went beyond its limit")


def run_reporting(
    command: list[str], report_flag: str, environment: dict[str, str] | None = None
) -> Result:
    """Runs a program that writes a report. One that dies before it has, or that ends badly
    although all its tests passed, is a failure more."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        status, output = run([*command, report_flag + str(report)], environment)
        result = Result(output=output)
        try:
            count_xml(result, report)
        except (OSError, ET.ParseError):
            count_output(result)
            return result.fail(f"{command[-1]} ended with status {status} and left no report")
        if status != 0 and result.failed == 0 and result.passed + len(result.skips) > 0:
            result.fail(f"all tests passed, but {command[-1]} ended with status {status}")
        return result


def run_room(program: Path, runner: list[str]) -> Result:
    if not program.exists():
        return Result().fail(f"{program} was not built")
    return run_reporting([*runner, str(program)], "--gtest_output=xml:")


def run_pytest(folder: Path, build: Path) -> Result:
    environment = {
        "UNDERSTUDY_CLI": str(build / "cli" / "understudy"),
        "UNDERSTUDY_BUILD": str(build),
    }
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", str(folder)]
    return run_reporting(command, "--junitxml=", environment)


def run_fuzz(build: Path, sources: list[Path], runner: list[str]) -> Result:
    """Each target's plain main over its own corpus and its own mutations is one test."""
    result = Result()
    for source in sources:
        program = build / "fuzz" / source.stem
        if not program.exists():
            result.fail(f"{program} was not built")
            continue
        status, output = run([*runner, str(program)])
        if status == 0:
            result.passed += 1
        else:
            result.output += output
            result.fail(f"{program.name} ended with status {status}")
    return result


def find_suites(root: Path, build: Path, runner: list[str]) -> dict[str, Suite]:
    """What is in the tree decides what must run."""
    cpp: dict[str, Suite] = {}
    python: dict[str, Suite] = {}
    for folder in sorted((root / "tests").iterdir()):
        if any(folder.glob("*_test.cpp")):
            program = build / "tests" / f"test_{folder.name}"
            cpp[f"cpp:{folder.name}"] = partial(run_room, program, runner)
        if any(folder.glob("**/test_*.py")):
            python[folder.name] = partial(run_pytest, folder, build)
    suites = dict(cpp)
    if targets := sorted((root / "fuzz").glob("fuzz_*.cpp")):
        suites["fuzz"] = partial(run_fuzz, build, targets, runner)
    return suites | python


def select(suites: dict[str, Suite], names: list[str]) -> dict[str, Suite]:
    unknown = [n for n in names if not any(n in (s, s.split(":")[0]) for s in suites)]
    if unknown:
        sys.exit(f"no suite is called {', '.join(unknown)}; there are {', '.join(suites)}")
    if not names:
        return {s: f for s, f in suites.items() if s not in BY_NAME}
    return {s: f for s, f in suites.items() if s in names or s.split(":")[0] in names}


def run_side_by_side(suites: dict[str, Suite], jobs: int, done: Callable[..., None]) -> None:
    """Runs those that must be alone, then the others, `jobs` at a time. Calls `done` for each with
    its name, its result and its seconds, one at a time."""
    mutex = threading.Lock()

    def finish(name: str) -> None:
        start = time.monotonic()
        result = suites[name]()
        with mutex:
            done(name, result, time.monotonic() - start)

    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for name in suites:
        if name in ALONE or jobs == 1:
            finish(name)
        else:
            waiting.put(name)

    def work() -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                finish(waiting.get_nowait())

    threads = [threading.Thread(target=work) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def print_slowest(times: list[tuple[float, str]]) -> None:
    if times:
        print("slowest:")
    for seconds, name in sorted(times, reverse=True)[:SLOWEST]:
        print(f"{seconds:9.1f} s  {name}")


def report(name: str, result: Result, seconds: float) -> None:
    if result.passed + result.failed == 0:
        result.fail(f"suite {name} ran no test")
    if result.failed:
        print(f"\n----- {name} -----\n{result.output.rstrip()}\n----- end of {name} -----\n")
    counts = f"{result.passed:6} passed {result.failed:4} failed {len(result.skips):4} skipped"
    print(f"{name:20} {counts} {seconds:8.1f} s", flush=True)
    for skip in result.skips:
        print(f"    skipped {skip}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs the test suites and counts.")
    parser.add_argument("suites", nargs="*", metavar="SUITE")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    parser.add_argument("--build", type=Path, default=Path("build/release"), help="below the root")
    parser.add_argument("--runner", type=shlex.split, default=[], help="put before C++ programs")
    parser.add_argument(
        "--jobs", type=int, default=min(2, os.cpu_count() or 1), help="suites at a time"
    )
    parser.add_argument("--list", action="store_true", help="only name the suites")
    arguments = parser.parse_args()
    root = arguments.root.resolve()
    suites = select(find_suites(root, root / arguments.build, arguments.runner), arguments.suites)
    if arguments.list:
        print("\n".join(suites))
        return 0
    passed = failed = skipped = 0
    times: list[tuple[float, str]] = []

    def done(name: str, result: Result, seconds: float) -> None:
        nonlocal passed, failed, skipped
        report(name, result, seconds)
        passed += result.passed
        failed += result.failed
        skipped += len(result.skips)
        times.extend(result.times)

    run_side_by_side(suites, arguments.jobs, done)
    for name, target in BY_NAME.items():
        if not arguments.suites and (root / "tests" / name).exists():
            print(f"{name:20} is run by {target}")
    print_slowest(times)
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
