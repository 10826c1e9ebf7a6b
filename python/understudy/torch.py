"""What concerns torch alone. Importing this module does not import torch."""

from __future__ import annotations

import importlib
import random
import struct
import sys
import warnings
from typing import Any

from understudy._core import TensorStager

__all__ = ["RngState", "StateDictStager"]

# Python's generator is a Mersenne Twister: 624 words of 32 bits and a position.
_PYTHON_WORDS = struct.Struct("<625I")


class RngState:
    """The random generators of Python, NumPy, torch and CUDA as one object for a state.

    Takes the generators that are in use: NumPy's global one and torch's only once their module
    has been imported. Generators that you made yourself belong into the state by themselves.
    """

    def state_dict(self) -> dict[str, Any]:
        """The states of the generators, by the names of their owners."""
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
        another than at the save, the others stay as they are, with a warning.

        state: what `state_dict` returned.
        raises ValueError: when it is not the state of an RngState.
        """
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


class StateDictStager:
    """Stages state dicts to host memory: in place of the class of this name in
    ``torch.distributed.checkpoint._state_dict_stager``.

    The result is a deep copy with every tensor on the CPU. Each storage is copied whole, once a
    call, into a buffer that belongs to it: views keep offset, size, stride and sharing, and the
    next call writes the same buffer again, so what an earlier call returned changes with it. For
    copies that nobody overwrites see ``understudy.Stager`` and ``understudy.dcp.AsyncStager``.

    pin_memory: to page-lock the copies, for faster copies from CUDA devices. Without CUDA it warns
        and is off. Whoever owns a copy's memory also unpins it, before the memory is freed.
    share_memory: copies in shared memory, which ``torch.multiprocessing`` sends without copying.
    pin_memory_min_bytes: smaller copies are not pinned (shared ones lie in segments, which are
        pinned whole).
    use_non_blocking_copy: with pinned copies, ``stage`` does not wait for those from other devices,
        as with its own `non_blocking`: synchronise before the result is read.

    One call at a time: a second thread waits. The caller sees to it that nobody writes the state
    while a call runs. A call that fails leaves earlier results as they were, and its message says
    where in the state it failed.
    """

    pin_memory: bool
    share_memory: bool
    pin_memory_min_bytes: int
    use_non_blocking_copy: bool

    def __init__(
        self,
        pin_memory: bool = False,
        share_memory: bool = False,
        pin_memory_min_bytes: int = 5,
        use_non_blocking_copy: bool = False,
    ) -> None:
        torch = importlib.import_module("torch")
        self._no_grad = torch.no_grad
        self._inference_mode = torch.inference_mode
        if pin_memory and not torch.cuda.is_available():
            warnings.warn(
                "Ignoring pin_memory flag for checkpoint staging as pinning memory requires CUDA, "
                "but CUDA is not available",
                stacklevel=2,
            )
            pin_memory = False
        self.pin_memory = pin_memory
        self.share_memory = share_memory
        self.pin_memory_min_bytes = pin_memory_min_bytes
        self.use_non_blocking_copy = use_non_blocking_copy
        self._stager = TensorStager(
            memory="shared" if share_memory else "pageable",
            pin=pin_memory,
            pin_min_nbytes=max(pin_memory_min_bytes, 0),
        )

    def stage(self, state_dict: Any, non_blocking: bool = False) -> Any:
        """A copy of `state_dict` in host memory. With `non_blocking` copies from other devices
        may still run when it returns: synchronise before the result is read.

        state_dict: any object that ``copy.deepcopy`` takes.
        non_blocking: do not wait for copies from other devices.
        """
        return self.deepcopy_with_tensor_offload(state_dict, None, [], non_blocking)

    def deepcopy_with_tensor_offload(
        self,
        x: Any,
        memo: dict[int, Any] | None = None,
        _nil: Any = [],  # noqa: B006
        non_blocking: bool = False,
    ) -> Any:
        """`copy.deepcopy` with staged tensors. A ``__deepcopy__`` may call it with its memo.

        x: what to copy.
        memo: the dict of a copy that is under way; None begins one.
        non_blocking: as for `stage`.
        """
        non_blocking = non_blocking or (self.use_non_blocking_copy and self.pin_memory)
        with self._inference_mode(False), self._no_grad():
            return self._stager.stage(x, memo, _nil, non_blocking)

    def close(self) -> None:
        """Give the buffers back. What was returned stays as it is; a later call starts anew."""
        self._stager.close()
