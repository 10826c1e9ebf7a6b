"""Objects of the caller's classes: Enum members, dataclasses, and tensors of subclasses that say
what they are made of. A file has the name of the class for people; only a class that the caller
has brought in a state is ever made of it.
"""

from __future__ import annotations

import copy
import dataclasses
import enum
import sys
import weakref
from typing import Any

from understudy._forms import Fields, NotTold, part

# Where a tree stands for an object whose class is not at hand, this key says what it was.
TYPE_KEY = "understudy.type"

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement
_SCALARS = (type(None), bool, int, float, complex, str, bytes)
# What is said of a tensor of a subclass beside its parts.
_OF_TENSOR = ("shape", "stride", "dtype", "requires_grad", "parameter", "context")

_met: weakref.WeakValueDictionary[tuple[str, str], type] = weakref.WeakValueDictionary()


def remember(kind: type) -> None:
    _met[kind.__module__, kind.__qualname__] = kind


def class_named(classes: dict[tuple[str, str], type] | None, module: str, name: str) -> type | None:
    """The class of that name: among those given, or among all that this process has met. The
    module is `__main__` in one program and another name in the next, so it may differ where that
    leaves no doubt."""
    known = _met if classes is None else classes
    if (found := known.get((module, name))) is not None or classes is None:
        return found
    others = [kind for (_, other), kind in classes.items() if other == name]
    return others[0] if len(others) == 1 else None


def _is_made_of_fields(kind: type) -> bool:
    """Whether nothing of its objects is kept by a built-in type below."""
    return all(
        base is object or base.__flags__ & _HEAP_TYPE or base.__module__ == "typing"
        for base in kind.__mro__
    ) and not any(issubclass(kind, other) for other in _holders())


def _holders() -> list[type]:
    torch = sys.modules.get("torch")
    return [torch.nn.Module] if torch is not None and hasattr(torch, "nn") else []


def take(value: Any) -> tuple[str, Fields]:
    if isinstance(value, enum.Enum):
        # By its name; the value is for people, where it is a plain one.
        fields = {"name": value.name}
        if type(value.value) in _SCALARS:
            fields["value"] = value.value
        elif value.name is None:
            raise NotTold
        return "enum", fields
    kind = type(value)
    if dataclasses.is_dataclass(kind) and _is_made_of_fields(kind):
        names = [field.name for field in dataclasses.fields(kind)]
        names += [name for name in getattr(value, "__dict__", {}) if name not in names]
        return "dataclass", {name: getattr(value, name) for name in names if hasattr(value, name)}
    if _says_what_it_is_made_of(kind):
        return "tensor_subclass", _take_tensor(value)
    raise NotTold


def make(name: str, kind: type, fields: Fields) -> Any:
    if name == "enum" and issubclass(kind, enum.Enum):
        return _make_member(kind, fields)
    if name == "dataclass" and dataclasses.is_dataclass(kind):
        return _make_dataclass(kind, fields)
    if name == "tensor_subclass" and _says_what_it_is_made_of(kind):
        return _make_tensor(kind, fields)
    raise ValueError(f"{kind.__qualname__} is no class of this kind ({name})")


def plain_tree(extra: tuple[str, ...], fields: Fields) -> Fields:
    """What stands for an object whose class is not at hand."""
    kind, module, name = extra
    return {TYPE_KEY: f"{kind} {module}.{name}", **fields}


# Members of an Enum.


def _make_member(kind: Any, fields: Fields) -> Any:
    name = fields.get("name")
    if name in kind.__members__:
        return kind.__members__[name]
    if "value" not in fields or (name is not None and not issubclass(kind, enum.Flag)):
        raise ValueError(f"{kind.__qualname__} has no member '{name}'")
    return kind(part(fields, "value", *_SCALARS))  # several flags at once


# Dataclasses.


def _make_dataclass(kind: Any, fields: Fields) -> Any:
    known = {field.name for field in dataclasses.fields(kind)}
    if missing := known - fields.keys():
        raise ValueError(f"{kind.__qualname__} needs '{min(missing)}', which was not saved")
    made = object.__new__(kind)
    for name, value in fields.items():
        if name not in known and (not name.isidentifier() or name.startswith("__")):
            raise ValueError(f"'{name}' is no name of an attribute")
        object.__setattr__(made, name, value)
    return made


def changed_copy(mine: Any, changed: Fields) -> Any:
    """The frozen `mine` with other values; None where it can be changed itself."""
    if not type(mine).__dataclass_params__.frozen:
        return None
    made = copy.copy(mine)
    for name, value in changed.items():
        object.__setattr__(made, name, value)
    return made


# Tensors of subclasses.


def _says_what_it_is_made_of(kind: type) -> bool:
    torch = sys.modules.get("torch")
    if torch is None or not issubclass(kind, torch.Tensor):
        return False
    # DTensors lie in several processes, and fakes nowhere.
    is_ours = kind.__module__.startswith(("torch.distributed.", "torch._subclasses."))
    return (
        not is_ours
        and hasattr(kind, "__tensor_flatten__")
        and hasattr(kind, "__tensor_unflatten__")
    )


def _take_tensor(value: Any) -> Fields:
    import torch

    names, context = value.__tensor_flatten__()
    if any(name in _OF_TENSOR for name in names):
        raise NotTold
    return {
        "shape": torch.Size(value.shape),
        "stride": tuple(value.stride()),
        "dtype": value.dtype,
        "requires_grad": value.requires_grad,
        "parameter": isinstance(value, torch.nn.Parameter),
        "context": context,
        **{name: getattr(value, name) for name in names},
    }


def _make_tensor(kind: Any, fields: Fields) -> Any:
    import torch

    from understudy._torch_values import as_leaf

    inner = {name: value for name, value in fields.items() if name not in _OF_TENSOR}
    shape, stride = part(fields, "shape", torch.Size), part(fields, "stride", tuple)
    for name, value in inner.items():
        if not isinstance(value, torch.Tensor):
            raise ValueError(f"its part '{name}' is no tensor")
    return as_leaf(kind.__tensor_unflatten__(inner, fields.get("context"), shape, stride), fields)
