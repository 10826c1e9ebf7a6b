"""What a file makes us spend is in proportion to its length, or refused by name.

Each file is read by a process of its own that may use so much processor time and memory and no
more; a busy machine does not change that.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from conftest import Run
from crafted import craft, manifest

# The files have about a megabyte and take less than three seconds, most of them for torch.
LIMITS = """
import resource, sys
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
import understudy
try:
    state = understudy.load_file(sys.argv[1])
except understudy.Error as error:
    print(error.code, str(error)[:500])
else:
    print("read", eval(sys.argv[2]) if len(sys.argv) > 2 else "")
"""

Costs = Callable[..., str]


@pytest.fixture
def read(run_python: Run, tmp_path: Path) -> Costs:
    def go(tree: object, *file: object, shown: str = "None") -> str:
        path = craft(tmp_path / "hostile.safetensors", tree, *file)
        return run_python(LIMITS, path, shown).stdout

    return go


def text(items: Sequence[object]) -> str:
    return json.dumps(items, separators=(",", ":"))


@pytest.mark.parametrize("count", [65, 200_000])
def test_many_dimensions_are_refused(read: Costs, count: int) -> None:
    entry = [("a", "U8", [2], 0, 2)]
    shape, strides = [2] + [1] * (count - 1), [-1] + [1] * (count - 1)
    answer = read(["d", "x", [0, "uint8", shape, strides, 1]], entry, b"xy")
    assert "more than 64 dimensions" in answer


@pytest.mark.parametrize("count", [65, 200_000])
def test_many_dimensions_of_an_entry_are_refused(read: Costs, count: int) -> None:
    answer = read(["d", "x", [0]], [("a", "U8", [2] + [1] * (count - 1), 0, 2)], b"xy")
    assert "more than 64 dimensions" in answer


def test_64_dimensions_are_read(read: Costs) -> None:
    entry = [("a", "U8", [2] + [1] * 63, 0, 2)]
    assert read(["d", "x", [0]], entry, b"xy", shown="state['x'].ndim") == "read 64\n"


def test_digits_beyond_pythons_own_limit_are_refused(read: Costs) -> None:
    answer = read(["d", "x", ["k", "big_integer", None, "9" * 1_000_000]])
    assert answer.startswith("unsupported") and "1000000 decimal digits" in answer


def test_digits_up_to_pythons_own_limit_are_read(read: Costs) -> None:
    tree = ["d", "x", ["k", "big_integer", None, "-" + "9" * 4300]]
    assert read(tree, shown="state['x'] == 1 - 10**4300") == "read True\n"


PRIME = (1 << sys.hash_info.width - 3) - 1  # the hashes of numbers are counted by it


def of_one_hash(i: int) -> object:
    return ["k", "big_integer", None, str(PRIME * (i + 10**6))]


@pytest.mark.parametrize("how", ["keys", "members"])
def test_numbers_of_one_hash_are_refused(read: Costs, how: str) -> None:
    numbers = [of_one_hash(i) for i in range(20_000)]
    if how == "keys":
        tree: list[object] = ["d"]
        for number in numbers:
            tree += [number, 0]
    else:
        tree = ["d", "x", ["k", "set", None, ["l", *numbers]]]
    answer = read(text(tree))
    assert answer.startswith("unsupported") and "have one hash" in answer


def test_numbers_of_many_hashes_are_read(read: Costs) -> None:
    tree: list[object] = ["d"]
    for i in range(20_000):
        tree += [i, 0]
    assert read(text(tree), shown="len(state)") == "read 20000\n"


def test_many_types_of_named_tuples_are_refused(read: Costs) -> None:
    kinds = [["k", "named_tuple", ["t", f"T{i}", "a"], ["t", 0]] for i in range(20_000)]
    answer = read(text(["l", *kinds]))
    assert answer.startswith("unsupported") and "types of named tuples" in answer


def test_long_paths_are_refused(read: Costs) -> None:
    answer = read(text(["d", "k" * 1_000_000, ["l", *[0] * 300_000]]))
    assert "its paths have more than" in answer


def test_views_that_torch_cannot_have_take_no_more_than_their_bytes(read: Costs) -> None:
    entry = [("a", "U8", [2], 0, 2)]
    tree = ["d", "x", [0, "uint8", [2, 1 << 40], [-1, 0], 1]]
    shown = "tuple(state['x'].shape), state['x'][:, 0].tolist()"
    assert read(tree, entry, b"xy", shown=shown) == f"read ((2, {1 << 40}), [121, 120])\n"
    overlapping = [0, "uint8", [1000] * 3, [-1] * 3, 3000]
    answer = read(["d", "x", overlapping], [("a", "U8", [4000], 0, 4000)], b"x" * 4000)
    assert answer.startswith("unsupported") and "negative strides" in answer
    many = [[0, "uint8", [4000], [-1], 3999]] * 20
    answer = read(["d", "x", ["l", *many]], [("a", "U8", [4000], 0, 4000)], b"x" * 4000)
    assert answer.startswith("unsupported") and "negative strides" in answer


def test_long_leaves_in_an_order_that_no_writer_makes_are_refused(read: Costs) -> None:
    # Every second one lies in the other block, which would be read again each time.
    half, size = 4 << 20, 8
    count = 500
    entries = [(f"a{i}", "U8", [size], i * size, (i + 1) * size) for i in range(count)]
    entries.append(("gap", "U8", [half - count * size], count * size, half))
    entries += [
        (f"b{i}", "U8", [size], half + i * size, half + (i + 1) * size) for i in range(count)
    ]
    blobs: list[object] = []
    for i in range(count):
        blobs += [["B", i, "bytes"], ["B", count + 1 + i, "bytes"]]
    answer = read(text(["l", *blobs]), entries, b"x" * (half + count * size))
    assert answer.startswith("corrupt") and "no writer makes" in answer


def test_a_manifest_of_many_files_is_read_once(run_python: Run, tmp_path: Path) -> None:
    step = tmp_path / "run" / "step-1"
    step.mkdir(parents=True)
    files = [{"name": f"{i:x}", "nbytes": 0, "digest": ""} for i in range(80_000)]
    (step / "checkpoint.json").write_text(manifest({"files": files}))
    code = """
    import resource, sys
    resource.setrlimit(resource.RLIMIT_CPU, (12, 12))
    import understudy
    try:
        understudy.Checkpointer(sys.argv[1]).restore()
    except understudy.Error as error:
        print(error.code)
    """
    assert run_python(code, tmp_path / "run").stdout == "corrupt\n"
