"""DTensors: what of one this process has, and DTensors made of what was restored.

Called by the extension module once somebody has imported ``torch.distributed.tensor``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any


def look(tensor: Any) -> tuple[Any, Sequence[int], Sequence[int]] | str:
    """The elements that this process has, the shape of the whole, and where in it they begin; or
    why that cannot be told."""
    if any(placement.is_partial() for placement in tensor.placements):
        return (
            "with a Partial placement, whose parts have to be added up: redistribute() it first, "
            "or leave it out"
        )
    shape = tuple(tensor.shape)
    torch = sys.modules["torch"]
    with torch.no_grad():
        local = getattr(tensor, "_local_tensor", None)
        if local is None or type(local) is not torch.Tensor:
            local = tensor.to_local()
            wait = getattr(local, "wait", None)  # of a collective that is under way
            local = wait() if wait else local
    chunks = tensor.__create_chunk_list__()
    if tensor.device_mesh.get_coordinate() is None or not chunks:
        if not shape:
            return "without dimensions, of processes that this one does not belong to"
        nothing = (0, *shape[1:])
        return torch.empty(nothing, dtype=tensor.dtype), shape, (0,) * len(shape)
    if len(chunks) > 1:
        return f"of which this process has {len(chunks)} parts, where one is taken"
    (chunk,) = chunks
    pieces = _most_pieces(tensor)
    if pieces > 1:
        return (
            f"with the placements {tuple(tensor.placements)}, by which this process has {pieces} "
            "parts of it that do not adjoin, where one is taken: redistribute() it first"
        )
    if tuple(chunk.sizes) != tuple(local.shape):
        return (
            f"whose part here has shape {list(local.shape)}, where its placements say "
            f"{list(chunk.sizes)}"
        )
    return local, shape, tuple(chunk.offsets)


def _most_pieces(tensor: Any) -> int:
    """Into how many pieces what this process has of a dimension falls. More than one where a
    dimension is cut by another order than that of the mesh, and nothing cuts the pieces apart."""
    if not any(hasattr(placement, "split_factor") for placement in tensor.placements):
        return 1
    runs: dict[int, list[tuple[int, int]]] = {}  # of each dimension: begin and end
    mesh = tensor.device_mesh
    for count, at, placement in zip(
        mesh.shape, mesh.get_coordinate(), tensor.placements, strict=True
    ):
        dim = getattr(placement, "dim", None)
        if dim is None:
            continue
        own: list[tuple[int, int]] = []
        blocks = _cut(
            runs.get(dim, [(0, tensor.shape[dim])]), getattr(placement, "split_factor", 1)
        )
        for begin, end in (run for block in blocks for run in _cut(block, count)[at]):
            if own and own[-1][1] == begin:
                own[-1] = own[-1][0], end
            else:
                own.append((begin, end))
        runs[dim] = own
    return max((len(own) for own in runs.values()), default=1)


def _cut(runs: list[tuple[int, int]], count: int) -> list[list[tuple[int, int]]]:
    """Runs cut into `count` parts, as torch.chunk does: the first ones are full."""
    size = sum(end - begin for begin, end in runs)
    full = -(-size // count)
    parts: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    at = 0
    for begin, end in runs:
        while begin < end:
            part = at // full
            until = min(end, begin + (part + 1) * full - at)
            parts[part].append((begin, until))
            at += until - begin
            begin = until
    return parts


def own(target: Any, saved: dict[Any, Any] | None) -> Any:
    """The DTensors that an object with ``load_state_dict`` has, in containers like those of its
    state; None where there is none. `saved`, of an optimizer: the numbers of its parameters by
    groups (``groups``), and the shapes of their states (``shapes``)."""
    if saved is None:
        return _only(target.state_dict())
    states: dict[Any, Any] = {}
    # What does not fit is for the comparison to tell.
    for numbers, group in zip(saved["groups"], target.param_groups, strict=False):
        for number, parameter in zip(numbers, group["params"], strict=False):
            present = target.state.get(parameter, {})
            likes = {
                key: _like(present.get(key), parameter, shape)
                for key, shape in saved["shapes"].get(number, {}).items()
            }
            likes = {key: like for key, like in likes.items() if like is not None}
            if likes:
                states[number] = likes
    return {"state": states} if states else None


def fill(built: Any, like: Any, keeps: bool) -> Any:
    """`built`, with a DTensor in place of each tensor for which `like` has one. `keeps`: who gets
    them keeps their memory."""
    if isinstance(like, dict):
        for key, child in like.items():
            if isinstance(built, dict) and key in built:
                built[key] = fill(built[key], child, keeps)
    elif isinstance(like, list):
        for i, child in enumerate(like):
            if isinstance(built, list) and i < len(built) and child is not None:
                built[i] = fill(built[i], child, keeps)
    elif like is not None and isinstance(built, sys.modules["torch"].Tensor):
        return _make(built, like, keeps)
    return built


def _type() -> Any:
    return sys.modules["torch.distributed.tensor"].DTensor


def _only(tree: Any) -> Any:
    if isinstance(tree, _type()):
        return tree
    if isinstance(tree, dict):
        kept = {key: _only(child) for key, child in tree.items()}
        return {key: child for key, child in kept.items() if child is not None} or None
    if isinstance(tree, list):
        items = [_only(child) for child in tree]
        return items if any(item is not None for item in items) else None
    return None


def _like(present: Any, parameter: Any, shape: tuple[int, ...]) -> Any:
    """What a state of that shape is to be like: as it is, else like its parameter."""
    torch = sys.modules["torch"]
    if isinstance(present, torch.Tensor) and present.shape == shape:
        return present if isinstance(present, _type()) else None
    if isinstance(parameter, _type()) and parameter.shape == shape:
        return parameter
    return None


def _make(saved: Any, like: Any, keeps: bool) -> Any:
    if isinstance(saved, _type()):
        return saved
    found = look(like)
    if isinstance(found, str):
        return saved
    local, shape, offsets = found
    part = saved.detach()
    if tuple(part.shape) != tuple(local.shape):
        if tuple(part.shape) != tuple(shape):
            return saved  # whoever loads it says what does not fit
        for dim, (begin, size) in enumerate(zip(offsets, local.shape, strict=True)):
            part = part.narrow(dim, begin, size)
    if keeps and part.untyped_storage().nbytes() > part.numel() * part.element_size():
        part = part.clone()
    part = part.to(device=like.device)
    if like.device_mesh.get_coordinate() is None:
        part = like.to_local().new_empty(like.to_local().shape, dtype=part.dtype)
    return _type().from_local(
        part,
        like.device_mesh,
        like.placements,
        run_check=False,
        shape=like.shape,
        stride=like.stride(),
    )
