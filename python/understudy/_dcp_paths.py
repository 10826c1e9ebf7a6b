"""What both sides of ``understudy.dcp``'s storage share."""

from __future__ import annotations

import os

from understudy._core import _error

# In the metadata of a step: which values are a planner's own bytes.
RAW_KEY = "torch.distributed.checkpoint"


def is_path(checkpoint_id: str | os.PathLike[str]) -> bool:
    """Whether it is no URL."""
    return "://" not in os.fspath(checkpoint_id)


def require_path(path: str | os.PathLike[str] | None, user: str) -> str | os.PathLike[str]:
    """`path`; Error (invalid) where there is none."""
    if path is None:
        raise _error(
            "invalid", f"{user} has no path: give it one, or a checkpoint_id to the call of DCP"
        )
    return path
