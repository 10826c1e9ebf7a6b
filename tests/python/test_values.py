"""Values that their fields tell whole, and objects of the caller's classes."""

import datetime

import many_values
import numpy as np
import pytest
import torch
from again import AGAIN
from crafted import craft
from many_values import ALL, BY_THEMSELVES, cases, is_same

from understudy import Checkpointer, Error, Stager, load_file, save_file

pytestmark = pytest.mark.filterwarnings("ignore")


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
