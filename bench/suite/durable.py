"""Other people's ways to write a state so that a power cut does not take it."""

from __future__ import annotations

import os
from pathlib import Path

import safetensors.torch
import torch
import torch.distributed.checkpoint as dcp

from suite.states import State


def sync(path: Path) -> None:
    """fsync of a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def torch_save(state: State, path: Path) -> None:
    with path.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    sync(path.parent)


def safetensors_save(state: State, path: Path) -> None:
    safetensors.torch.save_file(state, path)
    sync(path)
    sync(path.parent)


def dcp_save(state: State, path: Path) -> None:
    dcp.save(state, checkpoint_id=path, no_dist=True)  # it calls fsync for its files
    sync(path)
    sync(path.parent)
