"""What a type of values is told by: see ``_typed``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

Fields = dict[str, Any]


class NotTold(Exception):
    """The object has something that its form cannot tell; it is treated as any other."""


class Form(NamedTuple):
    """How objects of a type are taken apart and made again."""

    name: str
    take: Callable[[Any], Fields]
    make: Callable[[Fields], Any]
    # Gives an object the value of another one, in place; None where it is replaced.
    assign: Callable[[Any, Any], None] | None = None
    # Immutable and hashable.
    is_value: bool = False
    # Why an object cannot be given the value of another one of its type and fields, or None.
    misfit: Callable[[Any, Any], str | None] | None = None


def part(fields: Fields, name: str, *types: type) -> Any:
    """A field of one of these types exactly. What is read may say anything."""
    value = fields.get(name)
    if type(value) in types:
        return value
    raise ValueError(f"its part '{name}' is of type {type(value).__name__}")
