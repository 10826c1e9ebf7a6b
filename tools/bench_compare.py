#!/usr/bin/env python3
"""Builds another revision and runs benchmarks of both in turns.

    tools/bench_compare.py REV [--turns N] [--bench-options "--gib 1 ..."] [NAME...]

REV is anything that git knows: main, HEAD~3, a tag. It is built in a worktree of its own below
build/compare, which stays for the next time. The benchmarks are this tree's, run with either
package, so that only the library differs. Prints, for each figure of ours, the median of the
turns' medians, both spreads, and how many times as fast this tree is. Exit status 1 when one of
the two could not be built or run.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# (workload, figure): the median of each turn, in seconds.
Figures = dict[tuple[str, str], list[float]]


def git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"git {shlex.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def check_out(revision: str) -> Path:
    commit = git("rev-parse", "--verify", f"{revision}^{{commit}}")
    folder = ROOT / "build" / "compare" / commit[:12]
    git("worktree", "prune")
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        git("worktree", "add", "--detach", str(folder), commit)
    return folder


def build(folder: Path) -> Path:
    """The package of the tree in `folder`, ready to be imported from the result."""
    tree = folder / "build" / "release"
    options = {
        "CMAKE_BUILD_TYPE": "Release",
        "UNDERSTUDY_DEVELOPER": "ON",
        "UNDERSTUDY_PYTHON": "ON",
        "UNDERSTUDY_TESTS": "OFF",
        "Python_EXECUTABLE": sys.executable,
    }
    defines = [f"-D{name}={value}" for name, value in options.items()]
    configure = ["cmake", "-G", "Ninja", "-S", str(folder), "-B", str(tree), *defines]
    for command in (configure, ["ninja", "-C", str(tree), "_core", "understudy_cli"]):
        subprocess.run([ROOT / "tools" / "quietly", *command], check=True)
    return tree / "python"


def measure(package: Path, arguments: list[str], figures: Figures) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "figures.json"
        command = [sys.executable, str(ROOT / "bench" / "run.py"), "--json", str(out), *arguments]
        environment = {**os.environ, "PYTHONPATH": str(package)}
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        for workload in json.loads(out.read_text())["workloads"]:
            for figure in workload["figures"]:
                if figure["kind"] == "ours":
                    key = (workload["name"], figure["name"])
                    figures.setdefault(key, []).append(statistics.median(figure["seconds"]))


def table(before: Figures, after: Figures) -> list[str]:
    lines = [f"{'':60} {'before':>22} {'now':>22} {'faster':>7}"]
    for key in after:
        if key not in before:
            lines.append(f"{', '.join(key):60} {'none':>22}")
            continue
        b, a = before[key], after[key]
        ratio = statistics.median(b) / statistics.median(a)
        lines.append(f"{': '.join(key):60} {_spread(b):>22} {_spread(a):>22} {ratio:6.2f}x")
    return lines


def _spread(seconds: list[float]) -> str:
    low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
    return f"{middle * 1e3:.1f} ms ({low * 1e3:.1f}-{high * 1e3:.1f})"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("revision", metavar="REV")
    parser.add_argument("--turns", type=int, default=3, help="of each; default: 3")
    parser.add_argument("--bench-options", type=shlex.split, default=[])
    parser.add_argument("names", nargs="*", metavar="NAME", help="as for bench/run.py")
    options = parser.parse_args()
    arguments = [*options.bench_options, *options.names]
    before: Figures = {}
    after: Figures = {}
    try:
        packages = (
            (build(check_out(options.revision)), before),
            (ROOT / "build" / "release" / "python", after),  # by tools/setup
        )
        for turn in range(options.turns):
            # Who comes first changes, so that what the first leaves behind meets both.
            for package, figures in packages if turn % 2 == 0 else reversed(packages):
                print(f"turn {turn + 1} of {options.turns}: {package}", file=sys.stderr)
                measure(package, arguments, figures)
    except subprocess.CalledProcessError as error:
        print(f"failed with status {error.returncode}: {shlex.join(map(str, error.cmd))}")
        return 1
    print("\n".join(table(before, after)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
