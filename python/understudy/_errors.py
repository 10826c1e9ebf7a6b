"""How errors go into a pickle and come back: their classes have no names of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from understudy._core import Error


def reduce(self: Error) -> tuple[Callable[..., Error], tuple[Any, ...], dict[str, Any]]:
    """Their ``__reduce__``."""
    return rebuild, (self.code, self.args, getattr(self, "errno", None)), self.__dict__


def rebuild(code: str, args: tuple[Any, ...], errno: int | None) -> Error:
    """The error of this code again, with what it was raised with."""
    # The extension imports this module while it is made itself.
    from understudy._core import _error

    error = _error(code, args[0] if args else "", errno)
    error.args = args
    return error
