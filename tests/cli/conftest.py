"""The program, and folders for it to look into."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import understudy

SHARD = "shard-00000-of-00001.safetensors"


def find_program() -> str:
    program = os.environ.get("UNDERSTUDY_CLI") or shutil.which("understudy")
    if not program or not os.access(program, os.X_OK):
        pytest.exit("no understudy program: set UNDERSTUDY_CLI or install the package")
    return program


@dataclass
class Result:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Result]


@pytest.fixture(scope="session")
def program() -> str:
    return find_program()


@pytest.fixture(scope="session")
def cli(program: str) -> Cli:
    """Runs the program. The status must be `status`, 0 unless said."""

    def run(*arguments: object, status: int = 0, **options: Any) -> Result:
        done = subprocess.run(
            [program, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            **options,
        )
        result = Result(done.returncode, done.stdout, done.stderr)
        assert result.status == status, result
        assert "\x1b" not in result.out + result.err, "escape sequences without a terminal"
        return result

    return run


def make_state(step: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(step)
    embed = torch.randn(40, 8, generator=generator)
    return {
        "model": {
            "embed.weight": embed,
            "head.weight": embed,
            "first_rows": embed[:4],
            "norm.weight": torch.randn(8, generator=generator).to(torch.bfloat16),
        },
        "optimizer": {
            "state": {0: {"exp_avg": torch.randn(40, 8, generator=generator)}},
            "param_groups": [{"lr": 0.1 / step, "betas": (0.9, 0.999), "params": [0, 1]}],
        },
        "step": step,
        "note": "a\ttext",
        "history": [float(i) for i in range(20)],
    }


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with the steps 1, 2 and 10."""
    folder = tmp_path / "run"
    with understudy.Checkpointer(folder) as ckpt:
        for step in (1, 2, 10):
            ckpt.save(step, make_state(step), metadata={"loss": 0.5}).wait()
    return folder


def flip(path: Path, offset: int) -> None:
    """Turns one bit; a negative offset counts from the end."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
