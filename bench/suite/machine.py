"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

import understudy


def describe(folder: Path) -> dict[str, str]:
    memory = _memory()
    load = os.getloadavg()[0]
    busy = " (busy: the figures suffer)" if load > 0.5 else ""
    return {
        "processor": f"{_processor()}, {cores()} cores for this process",
        "memory": f"{_gib(memory['MemTotal'])} GiB, {_gib(available_memory())} GiB free",
        "huge pages": Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text().strip(),
        "kernel": platform.release(),
        "file system": f"{_file_system(folder)} ({folder})",
        "load": f"{load:.2f}{busy}",
        "versions": f"Understudy {understudy.__version__}, torch {torch.__version__}, "
        f"Python {platform.python_version()}",
    }


def _gib(nbytes: int) -> str:
    return f"{nbytes / 2**30:.1f}"


def cores() -> int:
    return len(os.sched_getaffinity(0))


def available_memory() -> int:
    return _memory()["MemAvailable"]


def _memory() -> dict[str, int]:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _file_system(folder: Path) -> str:
    """Type and source of the mount that holds `folder`: the one with the longest path."""
    best = ("", "unknown")
    for line in Path("/proc/mounts").read_text().splitlines():
        source, place, kind = line.split()[:3]
        if folder.resolve().is_relative_to(place) and len(place) >= len(best[0]):
            best = (place, f"{kind} on {source}")
    return best[1]
