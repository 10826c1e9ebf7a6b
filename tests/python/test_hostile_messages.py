"""No error of ours brings what a file or a caller says to the terminal as it is.

Names that would move the cursor, turn the direction of writing or break the line go through every
public way to an error that shows them.
"""

from __future__ import annotations

import json
import pickle
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from crafted import craft, manifest

import understudy
import understudy.torch
from understudy import Checkpointer, Error, Stager

# An escape sequence, one in a single character, a turn of direction, a new line.
HOSTILE = "\x1b]0;pwn\x07\x9b31m\u202e\r\n"


def is_harmful(c: str) -> bool:
    code = ord(c)
    return (
        code < 0x20
        or 0x7F <= code < 0xA0
        or c in "\u061c\u200e\u200f\ufeff"
        or 0x2028 <= code <= 0x202E
        or 0x2066 <= code <= 0x2069
        or 0xD800 <= code < 0xE000
    )


def require_harmless(failure: BaseException) -> None:
    texts = [str(failure), *getattr(failure, "__notes__", ())]
    for text in texts:
        assert not any(map(is_harmful, text)), ascii(text)
    assert any("pwn" in text for text in texts), ascii(texts)


class Case:
    """What a way to an error has at hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "file.safetensors"

    def plain(self, header: dict[str, object], data: bytes = b"") -> None:
        text = json.dumps(header, ensure_ascii=False).encode()
        self.file.write_bytes(struct.pack("<Q", len(text)) + text + data)

    def load(self, **options: object) -> object:
        return understudy.load_file(self.file, **options)  # type: ignore[arg-type]

    def run(self) -> Checkpointer:
        return Checkpointer(self.folder / "run")

    def put_manifest(self, members: dict[str, object], *lines: str) -> None:
        with self.run() as ckpt:
            ckpt.save(1, {"a": 1}).wait()
        path = self.folder / "run" / "step-1" / "checkpoint.json"
        path.write_text(manifest(members, *lines))


WAYS: list[Callable[[Case], object]] = []


def way(f: Callable[[Case], object]) -> Callable[[Case], object]:
    WAYS.append(f)
    return f


@way
def unknown_dtype(case: Case) -> object:
    case.plain({HOSTILE: {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}, b"1234")
    return case.load()


@way
def dtype_of_an_entry(case: Case) -> object:
    case.plain({"w": {"dtype": HOSTILE, "shape": [1], "data_offsets": [0, 4]}}, b"1234")
    return case.load()


@way
def entry_twice(case: Case) -> object:
    entry = '"dtype":"U8","shape":[0],"data_offsets":[0,0]'
    name = json.dumps(HOSTILE)
    text = f"{{{name}:{{{entry}}},{name}:{{{entry}}}}}".encode()
    case.file.write_bytes(struct.pack("<Q", len(text)) + text)
    return case.load()


@way
def metadata_key(case: Case) -> object:
    case.plain({"__metadata__": {HOSTILE: 1}})
    return case.load()


@way
def no_tensor_can_be_it(case: Case) -> object:
    case.plain({HOSTILE: {"dtype": "F6_E2M3", "shape": [4], "data_offsets": [0, 3]}}, b"123")
    return case.load()


@way
def names(case: Case) -> object:
    understudy.save_file({"w": torch.ones(1)}, case.file)
    return case.load(names=[HOSTILE])


@way
def damaged_block(case: Case) -> object:
    understudy.save_file({HOSTILE: torch.ones(4)}, case.file)
    raw = bytearray(case.file.read_bytes())
    raw[-1] ^= 1
    case.file.write_bytes(raw)
    return case.load()


@way
def unknown_tag(case: Case) -> object:
    craft(case.file, [HOSTILE])
    return case.load()


@way
def unknown_kind(case: Case) -> object:
    craft(case.file, ["k", HOSTILE, None, None])
    return case.load()


@way
def key_twice(case: Case) -> object:
    craft(case.file, ["d", HOSTILE, 1, HOSTILE, 2])
    return case.load()


@way
def blob_that_is_none(case: Case) -> object:
    craft(case.file, ["B", 0, "text"], [(HOSTILE, "F32", [1], 0, 4)], b"1234")
    return case.load()


@way
def view_beyond_its_entry(case: Case) -> object:
    craft(case.file, [0, "uint8", [9], [1], 0], [(HOSTILE, "U8", [4], 0, 4)], b"1234")
    return case.load()


@way
def numpy_dtype(case: Case) -> object:
    craft(case.file, ["k", "numpy_dtype", None, HOSTILE])
    return case.load()


@way
def numpy_scalar(case: Case) -> object:
    craft(case.file, ["k", "numpy_scalar", "<" + HOSTILE, ["b", "00"]])
    return case.load()


@way
def torch_dtype(case: Case) -> object:
    craft(case.file, ["k", "torch_dtype", None, HOSTILE])
    return case.load()


@way
def torch_device(case: Case) -> object:
    craft(case.file, ["k", "torch_device", None, HOSTILE])
    return case.load()


@way
def path_class(case: Case) -> object:
    craft(case.file, ["k", "path", HOSTILE, "a"])
    return case.load()


@way
def factory(case: Case) -> object:
    craft(case.file, ["k", "default_dict", HOSTILE, ["d"]])
    return case.load()


@way
def named_tuple_field(case: Case) -> object:
    craft(case.file, ["k", "named_tuple", ["t", "T", HOSTILE], ["t", 1]])
    return case.load()


@way
def pickled_type(case: Case) -> object:
    craft(case.file, ["d", "a", ["p", HOSTILE, "00"]])
    return case.load()


@way
def pickled_path(case: Case) -> object:
    craft(case.file, ["d", HOSTILE, ["p", "T", "00"]])
    return case.load()


@way
def manifest_feature(case: Case) -> object:
    case.put_manifest({"required_features": [HOSTILE]})
    return case.run().restore()


@way
def manifest_key_twice(case: Case) -> object:
    line = f"{json.dumps(HOSTILE)}: 1"
    case.put_manifest({}, line, line)
    return case.run().restore()


@way
def manifest_file(case: Case) -> object:
    case.put_manifest({"files": [{"name": HOSTILE, "nbytes": 1, "digest": "x"}]})
    return case.run().restore()


@way
def manifest_file_in_a_folder(case: Case) -> object:
    case.put_manifest({"files": [{"name": "/" + HOSTILE, "nbytes": 1, "digest": "x"}]})
    return case.run().restore()


@way
def misfit_missing(case: Case) -> object:
    with case.run() as ckpt:
        ckpt.save(1, {"x": 1}).wait()
        return ckpt.resume({HOSTILE: 1})


@way
def misfit_unexpected(case: Case) -> object:
    with case.run() as ckpt:
        ckpt.save(1, {HOSTILE: 1}).wait()
        return ckpt.resume({"x": 1})


@way
def misfit_of_a_module(case: Case) -> object:
    module = torch.nn.Linear(1, 1)
    with case.run() as ckpt:
        ckpt.save(1, {"m": {**module.state_dict(), HOSTILE: torch.ones(1)}}).wait()
        return ckpt.resume({"m": module})


class Refused:
    pass


@way
def refused_object(case: Case) -> object:
    return understudy.save_file({HOSTILE: Refused()}, case.file)


@way
def refused_type(case: Case) -> object:
    refused = type(HOSTILE, (), {"__module__": __name__})
    return understudy.save_file({"a": refused()}, case.file)


@way
def refused_key(case: Case) -> object:
    return understudy.save_file({HOSTILE: {Refused(): 1}}, case.file)


@way
def state_in_itself(case: Case) -> object:
    state: dict[str, object] = {}
    state[HOSTILE] = state
    return Stager().stage(state)


class Failing:
    def state_dict(self) -> object:
        raise ValueError("no")

    def load_state_dict(self, state: object) -> None:
        pass


@way
def note_of_an_object(case: Case) -> object:
    return Stager().stage({HOSTILE: Failing()})


@way
def tensor_that_cannot_be_staged(case: Case) -> object:
    x = torch.ones(3).as_subclass(type(HOSTILE, (torch.Tensor,), {}))
    x.untyped_storage().resize_(0)
    return understudy.torch.StateDictStager().stage({HOSTILE: x})


@way
def file_name(case: Case) -> object:
    return understudy.load_file(case.folder / HOSTILE)


@way
def file_name_that_is_no_utf8(case: Case) -> object:
    return understudy.load_file(str(case.folder / HOSTILE) + "\udcff")


@way
def folder_name(case: Case) -> object:
    (case.folder / HOSTILE).write_text("a file")
    return Checkpointer(case.folder / HOSTILE).save(1, {"a": 1}).wait()


@pytest.mark.parametrize("reach", WAYS, ids=lambda f: f.__name__)
def test_an_error_shows_names_escaped(reach: Callable[[Case], object], tmp_path: Path) -> None:
    with pytest.raises((Error, ValueError)) as caught:
        reach(Case(tmp_path))
    require_harmless(caught.value)


@pytest.mark.parametrize(
    "tree",
    [b'["d","\xff",1]', b'"\xff"', b'["k","path","\xc3","a"]', b'["p","\xed\xa0\x80","00"]'],
    ids=ascii,
)
@pytest.mark.parametrize("allow_pickle", [False, True])
def test_bytes_that_are_no_utf8_are_damage(tree: bytes, allow_pickle: bool, tmp_path: Path) -> None:
    marker = '"MARKER"'
    path = craft(tmp_path / "file", marker)
    raw = path.read_bytes()
    inside = json.dumps(tree.decode("latin-1"), ensure_ascii=False)[1:-1].encode("latin-1")
    path.write_bytes(raw.replace(json.dumps(marker)[1:-1].encode(), inside))
    with pytest.raises(Error) as caught:
        understudy.load_file(path, allow_pickle=allow_pickle)
    assert caught.value.code == "corrupt"


def test_what_a_pickle_raises_is_its_own(tmp_path: Path) -> None:
    path = craft(tmp_path / "file", ["p", "T", pickle.dumps(0).hex()[:-2]])
    with pytest.raises((EOFError, pickle.UnpicklingError)):
        understudy.load_file(path, allow_pickle=True)


def test_notes_are_there_where_python_has_them() -> None:
    with pytest.raises(ValueError) as caught:
        Stager().stage({"a": Failing()})
    assert sys.version_info < (3, 11) or "'a'" in caught.value.__notes__[0]
