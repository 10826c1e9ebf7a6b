"""Marked parts in a process that is alone: the mark means nothing. With ranks: tests/torchrun."""

from pathlib import Path

import pytest

import understudy


class Loader:
    def __init__(self, at: int) -> None:
        self.at = at

    def state_dict(self) -> dict:
        return {"at": self.at}

    def load_state_dict(self, state: dict) -> None:
        self.at = state["at"]


def test_marked_parts_are_saved_and_resumed_in_place(tmp_path: Path) -> None:
    loader, seen, names = Loader(7), [1, 2], {"a": 1}
    marked = {"loader": loader, "seen": seen, "names": names}
    state = {key: understudy.per_rank(part) for key, part in marked.items()}
    with understudy.Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, state).wait()
        loader.at, seen[:] = 0, [0, 0]
        names["a"] = 0
        assert ckpt.resume(state) == 1
        assert ckpt.restore().state == {"loader": {"at": 7}, "seen": [1, 2], "names": {"a": 1}}
    assert (loader.at, seen, names) == (7, [1, 2], {"a": 1})


def test_what_has_no_state_is_refused() -> None:
    with pytest.raises(understudy.Error, match="not a int") as refused:
        understudy.per_rank(3)
    assert refused.value.code == "invalid"
