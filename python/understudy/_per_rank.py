"""Parts of a state that each rank keeps for itself."""

from __future__ import annotations

from typing import Any

from understudy._core import _error


class PerRank:
    """What `per_rank` gives: the part, as an object with a state of its own."""

    def __init__(self, part: Any) -> None:
        is_object = hasattr(part, "state_dict") and hasattr(part, "load_state_dict")
        if not is_object and not isinstance(part, (dict, list)):
            raise _error(
                "invalid",
                "per_rank takes a dict, a list or an object with state_dict() and "
                f"load_state_dict(), not a {type(part).__name__}",
            )
        self.part = part
        self._is_object = is_object

    def state_dict(self) -> Any:
        return self.part.state_dict() if self._is_object else self.part

    def load_state_dict(self, state: Any) -> None:
        if self._is_object:
            self.part.load_state_dict(state)
        elif state is self.part:
            pass  # filled in place
        elif isinstance(self.part, dict):
            self.part.clear()
            self.part.update(state)
        else:
            self.part[:] = state


def per_rank(part: Any) -> PerRank:
    """Mark a part of the state that each rank keeps for itself, as a data loader is.

        app = {"model": model, "loader": understudy.per_rank(loader)}

    All ranks' parts are saved, and each rank resumes its own; with another number of ranks that is
    an error that names the part, or, with ``strict=False``, the part stays as it is. For values of
    the state's own dict; an ``RngState`` needs no mark. In a process that is alone the mark means
    nothing.

    part: a dict, a list or an object with state_dict() and load_state_dict().
    raises Error: invalid for anything else.
    """
    return PerRank(part)
