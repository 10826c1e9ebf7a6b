"""Typed values: objects that a few fields tell whole, under a name out of a closed list.

The extension takes an object of a type that it does not know apart by `take`, and makes it again
from what was read by `make`, or, where its class is the caller's, by `make_of_class`. Nothing that
is read is imported or run: what has a class is made only of a class that the caller has brought.
"""

from __future__ import annotations

import sys
from typing import Any

from understudy import _classes, _values
from understudy._forms import Fields, Form, NotTold


def _form_of(value: Any) -> Form | None:
    kind = type(value)
    form = _values.FORMS.get(kind)
    if form is not None:
        return form
    if "numpy" in sys.modules:
        from understudy import _arrays

        form = _arrays.form_of(value)
    if form is None and "torch" in sys.modules:
        from understudy import _torch_values

        form = _torch_values.form_of(value)
    return form


def take(value: Any) -> tuple[tuple[str, ...], Fields, bool, bool] | None:
    """Its name (and class), its fields, whether it can be assigned to, whether it is a value."""
    form = _form_of(value)
    try:
        if form is not None:
            return (form.name,), form.take(value), form.assign is not None, form.is_value
        name, fields = _classes.take(value)
    except NotTold:
        return None
    kind = type(value)
    _classes.remember(kind)
    return (name, kind.__module__, kind.__qualname__), fields, False, False


def _forms_named(name: str) -> dict[str, Form]:
    if name.startswith("numpy."):
        from understudy import _arrays

        return _arrays.BY_NAME
    if name.startswith("torch."):
        from understudy import _torch_values

        return _torch_values.BY_NAME
    return _values.BY_NAME


def make(name: str, fields: Fields) -> Any:
    """The object that `take` took apart. Raises ValueError for fields that make none."""
    return _forms_named(name)[name].make(fields)


def assign(mine: Any, new: Any) -> None:
    """Gives `mine` the value of `new`, which is of the same type."""
    form = _form_of(mine)
    assert form is not None and form.assign is not None
    form.assign(mine, new)


def misfit(mine: Any, new: Any) -> str | None:
    """Why `mine` cannot be given the value of `new`, which is of the same type, or None."""
    form = _form_of(mine)
    return None if form is None or form.misfit is None else form.misfit(mine, new)


def objection(mine: Any) -> str | None:
    """Why `mine` cannot be assigned to, or None."""
    flags = getattr(mine, "flags", None)
    is_fixed = "numpy" in sys.modules and flags is not None and not flags.writeable
    return "it is read-only and cannot take a restored value" if is_fixed else None


make_of_class = _classes.make
class_named = _classes.class_named
plain_tree = _classes.plain_tree
changed_copy = _classes.changed_copy
