"""Objects of the caller's classes: Enum members, dataclasses, tensors of subclasses."""

import dataclasses
import datetime
import enum

import many_values
import pytest
import torch
from crafted import craft
from many_values import CLASSES, is_same

from understudy import Checkpointer, Error, Stager, load_file, save_file

pytestmark = pytest.mark.filterwarnings("ignore")


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
    other = {"__name__": "__main__"}
    exec(
        "import dataclasses\n@dataclasses.dataclass\nclass Slots:\n    a: int\n    b: object", other
    )
    mine = many_values.Slots(0, [torch.zeros(2)])
    app = {"v": mine, "list": [many_values.Slots(0, 0)]}
    with Checkpointer(tmp_path) as ckpt:
        one, two = other["Slots"](1, [torch.ones(2)]), other["Slots"](2, 2)
        ckpt.save(1, {"v": one, "list": [two, other["Slots"](3, 3)]}).wait()
        ckpt.resume(app)
    assert app["v"] is mine and mine.a == 1 and mine.b[0].sum() == 2
    assert [(type(x), x.a) for x in app["list"]] == [(many_values.Slots, 2), (many_values.Slots, 3)]


def test_dataclasses_of_other_fields(tmp_path):
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


def test_objects_that_decide_by_their_state_come_first(tmp_path):
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
