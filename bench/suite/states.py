"""The states that are staged, saved and restored."""

from __future__ import annotations

import torch

State = dict[str, torch.Tensor]

_LARGE_TENSORS = 16
_SMALL_NUMEL = 1024  # float32: 4 KiB


def large(nbytes: int) -> State:
    """`nbytes` in 16 tensors of float32."""
    numel = nbytes // _LARGE_TENSORS // 4
    return {f"layers.{i}.weight": torch.rand(numel) for i in range(_LARGE_TENSORS)}


def small(count: int) -> State:
    """`count` tensors of 4 KiB, each in a storage of its own."""
    return {f"layers.{i}.weight": torch.rand(_SMALL_NUMEL) for i in range(count)}


def module(blocks: int) -> torch.nn.Module:
    """Four small parameters a block."""
    return torch.nn.ModuleList(
        torch.nn.ModuleDict(
            {
                "up": torch.nn.Linear(16, 64, bias=False),
                "down": torch.nn.Linear(64, 16, bias=False),
                "norm": torch.nn.RMSNorm(16),
                "last": torch.nn.RMSNorm(16),
            }
        )
        for _ in range(blocks)
    )


def nbytes_of(state: State) -> int:
    return sum(tensor.nbytes for tensor in state.values())
