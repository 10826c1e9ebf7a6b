"""Typed values in files that are damaged, or that nobody would write."""

import json
import struct
from pathlib import Path

import pytest
from crafted import craft
from many_values import ALL, BY_THEMSELVES, cases

from understudy import Error, load_file, save_file

pytestmark = pytest.mark.filterwarnings("ignore")


class Parts:
    """A file of ours, taken apart to be crafted anew."""

    def __init__(self, path: Path) -> None:
        raw = path.read_bytes()
        (n,) = struct.unpack("<Q", raw[:8])
        header = json.loads(raw[8 : 8 + n])
        self.version = header["__metadata__"]["understudy.format"]
        self.tree = json.loads(header.pop("__metadata__")["understudy.tree"])
        self.data = raw[8 + n :]
        self.entries = [
            (name, one["dtype"], one["shape"], *one["data_offsets"]) for name, one in header.items()
        ]

    def load(self, path: Path, tree: object) -> object:
        return load_file(craft(path, tree, self.entries, self.data))["v"]


def typed_nodes(tree):
    if isinstance(tree, list):
        if tree[:2] == ["k", "typed"]:
            yield tree
        for child in tree:
            yield from typed_nodes(child)


@cases(BY_THEMSELVES)
def test_a_tree_with_wrong_fields_is_an_error(case, tmp_path):
    """It makes an object of that very type, or an error of ours that says where."""
    value = case.make(1)
    save_file({"v": value}, tmp_path / "f")
    parts = Parts(tmp_path / "f")
    assert parts.version == "1.1"
    wrong = [None, "x", -1, ["l"], ["t", 5], ["d"], ["f", "7ff8000000000000"], ["b", "00"], 2**40]
    errors = 0
    for at, node in enumerate(list(typed_nodes(parts.tree))):
        fields = node[3]
        for field in range(1, len(fields), 2):
            for replacement in (*wrong, "gone"):
                tree = json.loads(json.dumps(parts.tree))
                mine = list(typed_nodes(tree))[at][3]
                if replacement == "gone":
                    del mine[field : field + 2]
                else:
                    mine[field + 1] = replacement
                try:
                    made = parts.load(tmp_path / "g", tree)
                except Error as error:
                    errors += 1
                    assert error.code in ("corrupt", "unsupported", "invalid"), error
                    assert "'v" in str(error) or "tree" in str(error), error
                else:
                    assert type(made) is type(value)
    assert errors > 0


@cases(ALL)
def test_a_flipped_bit_is_found(case, tmp_path):
    save_file({"v": case.make(1)}, tmp_path / "f")
    raw = bytearray((tmp_path / "f").read_bytes())
    begin = raw.index(b"understudy.tree")
    places = [begin + 30, begin + 60, len(raw) - 1, *range(4096, len(raw), 97)]
    for place in places:
        raw[place] ^= 4
        (tmp_path / "g").write_bytes(raw)
        with pytest.raises(Error) as e:
            load_file(tmp_path / "g")
        assert e.value.code == "corrupt"
        raw[place] ^= 4


@pytest.mark.parametrize(
    ("extra", "what"),
    [
        (["t", "os.system"], "os.system"),
        (["t", "datetime.datetime2"], "datetime.datetime2"),
        (["t", "enum"], "does not name a class"),
        (["t", "datetime.date", "os", "system"], "names a class"),
        (["t"], "does not say what it is"),
        ("datetime.date", "does not say"),
    ],
)
def test_a_name_that_is_not_on_the_list_is_refused_by_path(extra, what, tmp_path):
    tree = ["d", "a", ["l", 1, ["d", "x", ["k", "typed", extra, ["d", "text", "2026-01-01"]]]]]
    with pytest.raises(Error, match=what) as e:
        load_file(craft(tmp_path / "f", tree))
    assert "'a.1.x'" in str(e.value) and e.value.code == "unsupported"
