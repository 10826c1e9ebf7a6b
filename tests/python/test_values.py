"""Values that their fields tell whole, and objects of the caller's classes."""

import datetime
import json
import struct
from pathlib import Path

import many_values
import numpy as np
import pytest
import torch
from again import AGAIN
from crafted import craft
from many_values import ALL, BY_THEMSELVES, CLASSES, is_same

from understudy import Checkpointer, Error, Stager, load_file, save_file

pytestmark = pytest.mark.filterwarnings("ignore")


def cases(chosen):
    return pytest.mark.parametrize("case", chosen, ids=[case.name for case in chosen])


def in_place(value):
    return isinstance(
        value,
        (
            torch.Tensor,
            torch.Generator,
            np.ndarray,
            np.random.Generator,
            np.random.BitGenerator,
            np.random.RandomState,
            list,
        ),
    ) or type(value).__name__ in ("Random", "array", "Settings", "Slots")


@cases(BY_THEMSELVES)
def test_through_a_file(case, tmp_path):
    value, other = case.make(1), case.make(2)
    save_file({"v": value, "list": [(other,)], "end": 3}, tmp_path / "f")
    loaded = load_file(tmp_path / "f")
    assert is_same(loaded["v"], value) and is_same(loaded["list"][0][0], other)
    assert loaded["end"] == 3
    assert is_same(load_file(tmp_path / "f", names=["v"])["v"], value)
    assert is_same(load_file(tmp_path / "f", mmap=True)["v"], value)


@cases(ALL)
def test_through_a_snapshot_and_its_file(case, tmp_path):
    value = case.make(1)
    with Stager() as stager, stager.stage({"v": value, "t": torch.ones(2)}).wait() as snapshot:
        assert is_same(snapshot.state()["v"], value)
        snapshot.save_file(tmp_path / "f")
        loaded = load_file(tmp_path / "f")
        assert torch.equal(loaded["t"], torch.ones(2))
        if case in BY_THEMSELVES:
            assert is_same(loaded["v"], value)


@cases(ALL)
def test_staged_again_without_a_walk(case):
    with Stager() as stager:
        stager.stage({"v": case.make(1), "step": 1}).wait().close()
        plans = []
        for n in (3, 5):
            value = case.make(n)
            ticket = stager.stage({"v": value, "step": n})
            with ticket.wait() as snapshot:
                assert is_same(snapshot.state()["v"], value)
                assert snapshot.state()["step"] == n
            plans.append(ticket.metrics()["plan"])
        assert plans == [AGAIN, AGAIN]


@cases(ALL)
def test_overlapped_capture(case):
    value, big = case.make(1), torch.arange(2.0**21)
    with Stager(capture="overlapped") as stager:
        for n in (1, 3):
            value = case.make(n)
            ticket = stager.stage({"v": value, "big": big})
            big += 1
            with ticket.wait() as snapshot:
                assert is_same(snapshot.state()["v"], value)
                assert torch.equal(snapshot.state()["big"] + 1, big)


@cases(BY_THEMSELVES)
def test_restored_by_a_checkpointer(case, tmp_path):
    value = case.make(1)
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, {"v": value}).wait()
        assert is_same(ckpt.restore().state["v"], value)


@cases(ALL)
def test_resumed(case, tmp_path):
    value, mine = case.make(1), case.make(3)
    app = {"v": mine, "deeper": [{"v": case.make(3)}], "w": torch.zeros(2)}
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, {"v": value, "deeper": [{"v": value}], "w": torch.ones(2)}).wait()
        assert ckpt.resume(app) == 1
    assert is_same(app["v"], value) and is_same(app["deeper"][0]["v"], value)
    assert torch.equal(app["w"], torch.ones(2))
    if in_place(mine):
        assert app["v"] is mine, "the caller's own object stays"


@cases(ALL)
def test_resumed_as_it_is(case, tmp_path):
    """Nothing is replaced where nothing has changed."""
    app = {"v": case.make(1)}
    mine = app["v"]
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, app).wait()
        assert ckpt.resume(app) == 1
    assert is_same(app["v"], mine)


@cases(BY_THEMSELVES)
def test_another_type_does_not_fit_and_nothing_changes(case, tmp_path):
    for saved in ({"a": 1}, datetime.date(1999, 1, 1), torch.ones(5)):
        if type(saved) is type(case.make(1)):
            continue
        mine, w = case.make(1), torch.zeros(2)
        with Checkpointer(tmp_path / type(saved).__name__) as ckpt:
            ckpt.save(1, {"v": saved, "w": torch.ones(2)}).wait()
            with pytest.raises(
                Error, match=r"'v' .*nothing was changed|nothing was changed.*'v' "
            ) as e:
                ckpt.resume({"v": mine, "w": w})
            assert e.value.code == "invalid"
            resumed = {"v": mine, "w": w}
            ckpt.resume(resumed, strict=False)
            assert ckpt.resumed.mismatched == ["v"] and w.sum() == 2
        assert is_same(mine, case.make(1)) or case.name == "per channel"


@cases(ALL)
def test_none_takes_anything(case, tmp_path):
    app = {"v": None}
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, {"v": case.make(1)}).wait()
        ckpt.resume(app)
    assert app["v"] is not None


@cases(ALL)
def test_what_is_refused_beside_it_is_named(case, tmp_path):
    state = {"a": [case.make(1)], "b": {"v": case.make(2), "x": [1, object()]}}
    with pytest.raises(Error, match=r"'b\.x\.1' is of type .*object") as e:
        save_file(state, tmp_path / "f")
    assert e.value.code == "unsupported" and not (tmp_path / "f").exists()


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


# Keys and members of sets.


def test_values_as_keys_and_members(tmp_path):
    values = [
        case.make(1)
        for case in many_values.STANDARD
        if case.name not in ("array", "array of text", "random")
    ]
    state = {
        "keys": {value: i for i, value in enumerate(values)},
        "set": set(values),
        "tuples": {(values[0], 1): 2},
    }
    save_file(state, tmp_path / "f")
    loaded = load_file(tmp_path / "f")
    assert loaded == state and list(loaded["keys"]) == values
    changed = {"keys": dict.fromkeys(values, -1), "set": set(), "tuples": {}}
    with Checkpointer(tmp_path / "run") as ckpt:
        ckpt.save(1, state).wait()
        ckpt.resume(changed)
    assert changed == state


@pytest.mark.parametrize("key", [many_values.Color.RED, many_values.Frozen(1, 2)])
def test_objects_of_classes_are_no_keys(key, tmp_path):
    with pytest.raises(Error, match=r"'a'?.*(Color|Frozen)") as e:
        save_file({"a": {key: 1}}, tmp_path / "f")
    assert e.value.code == "unsupported"
    with pytest.raises(Error, match=r"'a.0' is of type .*(Color|Frozen)"):
        save_file({"a": {key}}, tmp_path / "f")
    with Stager() as stager:  # in memory nothing is made anew
        assert stager.stage({"a": {key}}).wait().state() == {"a": {key}}


# Classes.


def test_without_the_class_a_plain_tree_says_what_it_was(tmp_path):
    save_file({case.name: case.make(1) for case in CLASSES}, tmp_path / "f")
    loaded = load_file(tmp_path / "f")
    assert loaded["enum"] == {
        "understudy.type": "enum many_values.Color",
        "name": "BLUE",
        "value": 2,
    }
    settings = loaded["dataclass"]
    assert type(settings) is dict
    assert settings["understudy.type"] == "dataclass many_values.Settings"
    assert settings["lr"] == 0.5 and torch.equal(settings["w"], torch.ones(2))
    assert settings["inner"]["understudy.type"] == "dataclass many_values.Frozen"
    assert is_same(settings["inner"]["b"], many_values.sparse(1))
    assert settings["color"]["name"] == "BLUE"
    subclass = loaded["subclass"]
    assert subclass["understudy.type"] == "tensor_subclass many_values.Scaled"
    assert torch.equal(subclass["data_part"], many_values.scaled(1).data_part)


def test_a_file_has_no_class_imported(tmp_path, run_python):
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    tree = ["d"]
    for kind in ("enum", "dataclass", "tensor_subclass"):
        tree += [kind, ["k", "typed", ["t", kind, "evil", "Thing"], ["d", "name", "x"]]]
    path = craft(tmp_path / "f", tree)
    run_python(
        """
        import sys; sys.path.insert(0, sys.argv[1])
        import understudy
        state = understudy.load_file(sys.argv[2])
        assert state["enum"] == {"understudy.type": "enum evil.Thing", "name": "x"}, state
        assert "evil" not in sys.modules
        """,
        tmp_path,
        path,
    )


def test_a_class_of_another_module_with_the_same_name(tmp_path):
    """What was `__main__` when it was saved."""
    source = Path(many_values.__file__).read_text()
    other = {"__name__": "__main__"}
    exec(
        "import dataclasses\n@dataclasses.dataclass\nclass Slots:\n    a: int\n    b: object", other
    )
    assert "class Slots" in source
    mine = many_values.Slots(0, [torch.zeros(2)])
    app = {"v": mine, "list": [many_values.Slots(0, 0)]}
    with Checkpointer(tmp_path) as ckpt:
        one, two = other["Slots"](1, [torch.ones(2)]), other["Slots"](2, 2)
        ckpt.save(1, {"v": one, "list": [two, other["Slots"](3, 3)]}).wait()
        ckpt.resume(app)
    assert app["v"] is mine and mine.a == 1 and mine.b[0].sum() == 2
    assert [(type(x), x.a) for x in app["list"]] == [(many_values.Slots, 2), (many_values.Slots, 3)]


def test_dataclasses_of_other_fields(tmp_path):
    import dataclasses

    old = dataclasses.make_dataclass("Point", ["a", "gone"])
    new = dataclasses.make_dataclass("Point", ["a", "added"])
    mine = new(0, "stays")
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, {"v": old(1, 2)}).wait()
        with pytest.raises(Error, match=r"'v\.added' is missing.*'v\.gone' is in the checkpoint"):
            ckpt.resume({"v": mine})
        assert mine.a == 0
        ckpt.resume({"v": mine}, strict=False)
        assert (mine.a, mine.added) == (1, "stays")
        assert ckpt.resumed.missing == ["v.added"] and ckpt.resumed.unexpected == ["v.gone"]


def test_an_unknown_member_changes_nothing(tmp_path):
    import enum

    old, new = enum.Enum("Mode", "A B"), enum.Enum("Mode", "A C")
    w = torch.zeros(2)
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, {"w": torch.ones(2), "v": old.B}).wait()
        with pytest.raises(Error, match=r"Mode has no member 'B' at 'v'"):
            ckpt.resume({"w": w, "v": new.A})
    assert not w.any()


def test_attributes_beside_the_fields_are_kept(tmp_path):
    value = many_values.Settings(0.5)
    value.more = datetime.date(2026, 1, 1)
    with Stager() as stager, stager.stage({"v": value}).wait() as snapshot:
        assert snapshot.state()["v"].more == value.more


def test_a_module_with_tensors_of_subclasses(tmp_path):
    class Model(torch.nn.Module):
        def __init__(self, n):
            super().__init__()
            self.w = torch.nn.Parameter(many_values.scaled(n), requires_grad=False)
            self.register_buffer("s", many_values.sparse(n))
            self.register_buffer("q", many_values.quantised(n))

    saved, mine = Model(1), Model(3)
    w = mine.w
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, {"m": saved}).wait()
        ckpt.resume({"m": mine})
        assert (
            mine.w is w and is_same(w, saved.w) and is_same(mine.s.coalesce(), saved.s.coalesce())
        )
        assert is_same(mine.q, saved.q)
        state = ckpt.restore().state["m"]
        assert state["w"]["understudy.type"] == "tensor_subclass many_values.Scaled"
        plain = torch.nn.Module()
        plain.register_buffer("w", torch.zeros(2, 3))
        plain.register_buffer("s", torch.zeros(2, 3))
        plain.register_buffer("q", torch.zeros(2, 3))
        with pytest.raises(Error, match=r"'s' is dense here, but was saved as a torch.sparse_coo"):
            ckpt.resume({"m": plain})


def test_a_subclass_of_another_context_does_not_fit(tmp_path):
    mine = many_values.Scaled(torch.zeros(2, 3, dtype=torch.int8), torch.zeros(1), (2, 2))
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, {"v": many_values.scaled(1)}).wait()
        with pytest.raises(Error, match=r"'v' is a tensor_subclass .* of another context"):
            ckpt.resume({"v": mine})
    assert not mine.data_part.any()


def test_pickles_that_were_all_there_was_take_the_place_of_values(tmp_path):
    """Before these forms such objects were pickled, where that was allowed."""
    import pickle

    values = {"date": datetime.date(2026, 1, 1), "array": np.array(["2026"], "M8[Y]")}
    tree = ["d"]
    for name, value in values.items():
        tree += [name, ["p", "x", pickle.dumps(value, protocol=4).hex()]]
    path = craft(tmp_path / "f", tree)
    assert is_same(load_file(path, allow_pickle=True), values)


def test_a_generator_goes_on_from_where_it_was(tmp_path):
    mine, theirs = torch.Generator().manual_seed(1), np.random.default_rng(1)
    app = {"torch": mine, "numpy": theirs}
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, app).wait()
        expected = torch.rand(3, generator=mine), theirs.random(3), theirs.spawn(1)[0].random()
        mine.manual_seed(7)
        theirs.random(100)
        ckpt.resume(app)
    assert torch.equal(torch.rand(3, generator=mine), expected[0])
    assert (theirs.random(3) == expected[1]).all()
    assert theirs.spawn(1)[0].random() == expected[2]


def test_read_only_arrays_take_nothing(tmp_path):
    mine = np.array(["2026"], "M8[Y]")
    mine.flags.writeable = False
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, {"v": mine}).wait()
        with pytest.raises(Error, match=r"'v' .*read-only"):
            ckpt.resume({"v": mine})


def test_shared_bytes_are_shared_again(tmp_path):
    values = torch.ones(3)
    indices = torch.tensor([[0, 1, 2]])
    sparse = torch.sparse_coo_tensor(indices, values, (5,), is_coalesced=True)
    save_file({"sparse": sparse, "values": values}, tmp_path / "f")
    loaded = load_file(tmp_path / "f")
    loaded["values"].fill_(7)
    assert torch.equal(loaded["sparse"]._values(), torch.full((3,), 7.0))


def test_others_see_dense_parts_under_their_names(tmp_path):
    from safetensors import safe_open

    save_file({"m": many_values.sparse(1), "t": np.array(["1970-01-03"], "M8[D]")}, tmp_path / "f")
    with safe_open(tmp_path / "f", "pt") as file:
        assert torch.equal(file.get_tensor("m.values"), many_values.sparse(1).values())
        assert file.get_tensor("t.data").tolist() == [2]


def test_objects_that_decide_by_their_state_come_first(tmp_path):
    import dataclasses

    @dataclasses.dataclass
    class Loader:
        position: int

        def state_dict(self):
            return {"position": self.position, "mode": many_values.Color.RED}

        def load_state_dict(self, state):
            assert state["mode"] is many_values.Color.RED
            self.position = state["position"]

    mine = Loader(0)
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, {"v": Loader(5)}).wait()
        ckpt.resume({"v": mine})
        assert mine.position == 5
        assert ckpt.restore().state["v"]["position"] == 5


def test_without_torch_and_numpy_nothing_of_them_is_imported(tmp_path, run_python):
    run_python(
        """
        import datetime, random, sys, array, understudy
        state = {"d": datetime.date(2026, 1, 1), "r": random.Random(3), "a": array.array("d", [1])}
        understudy.save_file(state, sys.argv[1])
        loaded = understudy.load_file(sys.argv[1])
        assert loaded["d"] == state["d"] and loaded["a"] == state["a"]
        assert loaded["r"].random() == state["r"].random()
        assert not {"torch", "numpy"} & sys.modules.keys()
        """,
        tmp_path / "f",
    )
