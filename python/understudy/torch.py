"""What concerns torch alone. Importing this module does not import torch."""

from __future__ import annotations

import importlib
import random
import struct
import sys
import warnings
from typing import Any

__all__ = ["RngState"]

# Python's generator is a Mersenne Twister: 624 words of 32 bits and a position.
_PYTHON_WORDS = struct.Struct("<625I")


class RngState:
    """The random generators of Python, NumPy, torch and CUDA as one object for a state.

    Takes the generators that are in use: NumPy's global one and torch's only once their module
    has been imported. Generators that you made yourself belong into the state by themselves.
    """

    def state_dict(self) -> dict[str, Any]:
        version, words, gauss_next = random.getstate()
        state: dict[str, Any] = {
            "python": {
                "version": version,
                "words": _PYTHON_WORDS.pack(*words),
                "gauss_next": gauss_next,
            }
        }
        if numpy := sys.modules.get("numpy"):
            state["numpy"] = numpy.random.get_state(legacy=False)
        if torch := sys.modules.get("torch"):
            state["torch"] = torch.get_rng_state()
            # A process that never touched CUDA has no generators there, and must not get any.
            if torch.cuda.is_available() and torch.cuda.is_initialized():
                state["cuda"] = torch.cuda.get_rng_state_all()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set the generators. Those of CUDA go by their index: where the number of devices is
        another than at the save, the others stay as they are, with a warning."""
        if not isinstance(state, dict) or "python" not in state:
            raise ValueError("this is not the state of an RngState: it has no key 'python'")
        python = state["python"]
        words = _PYTHON_WORDS.unpack(python["words"])
        random.setstate((python["version"], words, python["gauss_next"]))
        if "numpy" in state:
            numpy = importlib.import_module("numpy")
            numpy.random.set_state(state["numpy"])
        if "torch" in state:
            torch = importlib.import_module("torch")
            torch.set_rng_state(torch.as_tensor(state["torch"]))
        if "cuda" in state:
            _load_cuda(state["cuda"])


def _load_cuda(saved: list[Any]) -> None:
    torch = importlib.import_module("torch")
    here = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if here != len(saved):
        warnings.warn(
            f"the random generators of {len(saved)} CUDA devices were saved, and this process has "
            f"{here}: only those of the first {min(here, len(saved))} are restored",
            stacklevel=3,
        )
    for device in range(min(here, len(saved))):
        torch.cuda.set_rng_state(torch.as_tensor(saved[device]), device)
