"""Retention by rule, and the metadata that it goes by."""

import datetime
import decimal
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy import Checkpointer, Error, Keep

STATE = {"w": torch.ones(2)}


def save_all(directory: Path, keep: object, losses: dict[int, object]) -> list[int]:
    with Checkpointer(directory, keep=keep) as ckpt:
        for step, loss in losses.items():
            ckpt.save(step, STATE, metadata=None if loss is None else {"loss": loss}).wait()
        return ckpt.steps()


def test_the_newest_every_so_many_and_the_best(tmp_path):
    losses = {1: 0.9, 2: 0.1, 3: 0.5, 4: 0.6, 5: 0.2, 6: 0.7, 7: 0.8}
    assert save_all(tmp_path / "last", Keep(last=2), losses) == [6, 7]
    assert save_all(tmp_path / "int", 2, losses) == [6, 7]
    assert save_all(tmp_path / "every", Keep(every=3), losses) == [3, 6, 7]
    assert save_all(tmp_path / "min", Keep(best=("loss", "min", 2)), losses) == [2, 5, 7]
    assert save_all(tmp_path / "max", Keep(best=("loss", "max", 1)), losses) == [1, 7]
    rule = Keep(last=1, every=4, best=("loss", "min", 1))
    assert save_all(tmp_path / "all", rule, losses) == [2, 4, 7]
    assert save_all(tmp_path / "none", None, losses) == list(losses)


def test_neither_nan_nor_nothing_is_best(tmp_path):
    losses = {1: math.nan, 2: None, 3: "0.1", 4: math.inf, 5: True, 6: 3, 7: math.nan}
    assert save_all(tmp_path / "min", Keep(best=("loss", "min", 1)), losses) == [6, 7]
    assert save_all(tmp_path / "max", Keep(best=("loss", "max", 1)), losses) == [4, 7]
    assert save_all(tmp_path / "other", Keep(best=("accuracy", "max", 3)), losses) == [7]


@settings(max_examples=25, deadline=None)
@given(
    losses=st.lists(st.none() | st.floats(width=16), min_size=1, max_size=8),
    last=st.integers(1, 3),
    every=st.none() | st.integers(1, 4),
    best=st.none() | st.tuples(st.just("loss"), st.sampled_from(["min", "max"]), st.integers(1, 3)),
)
def test_what_stays_is_what_a_simple_model_says(losses, last, every, best, tmp_path_factory):
    there: dict[int, float | None] = {}
    with Checkpointer(
        tmp_path_factory.mktemp("run"), keep=Keep(last=last, every=every, best=best)
    ) as ckpt:
        for step, loss in enumerate(losses):
            ckpt.save(step, STATE, metadata={"loss": loss}).wait()
            there[step] = loss
            kept = set(sorted(there)[-last:])
            kept |= {n for n in there if every and n % every == 0}
            if best:
                rated = [n for n in there if there[n] is not None and not math.isnan(there[n])]
                sign = 1 if best[1] == "min" else -1
                kept |= set(sorted(rated, key=lambda n: (sign * there[n], -n))[: best[2]])
            there = {n: there[n] for n in kept}
            assert ckpt.steps() == sorted(kept)


def test_a_rule_tells_what_it_is():
    rule = Keep(last=3, every=1000, best=("loss", "min", 2))
    assert (rule.last, rule.every, rule.best) == (3, 1000, ("loss", "min", 2))
    assert repr(rule) == "Keep(last=3, every=1000, best=('loss', 'min', 2))"
    assert (Keep().last, Keep().every, Keep().best) == (1, None, None)


@pytest.mark.parametrize(
    "arguments",
    [
        {"last": 0},
        {"last": True},
        {"last": "3"},
        {"every": 0},
        {"every": 1.5},
        {"best": "loss"},
        {"best": ("loss", "min")},
        {"best": ("loss", "least", 1)},
        {"best": (1, "min", 1)},
        {"best": ("loss", "min", 0)},
        {"best": ("loss", "min", None)},
    ],
)
def test_rules_that_cannot_be(arguments):
    with pytest.raises(Error) as e:
        Keep(**arguments)
    assert e.value.code == "invalid"


@pytest.mark.parametrize("keep", ["3", True, 1.5, ("loss", "min", 1), Keep])
def test_what_is_no_rule(keep, tmp_path):
    with pytest.raises(Error, match="must be an int, a Keep or None") as e:
        Checkpointer(tmp_path, keep=keep)
    assert e.value.code == "invalid"


NUMBERS = {
    "numpy int": (np.int32(-7), -7),
    "numpy float": (np.float32(0.1), float(np.float32(0.1))),
    "numpy half": (np.float16(0.5), 0.5),
    "numpy bool": (np.bool_(True), True),
    "numpy 0-d": (np.array(2.5), 2.5),
    "numpy unsigned": (np.uint8(200), 200),
    "torch float": (torch.tensor(0.25), 0.25),
    "torch bfloat16": (torch.tensor(0.5, dtype=torch.bfloat16), 0.5),
    "torch int": (torch.tensor(3), 3),
    "torch bool": (torch.tensor(False), False),
    "torch with a gradient": (torch.tensor(1.5, requires_grad=True) * 2, 3.0),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_other_libraries(name, tmp_path):
    given_number, wanted = NUMBERS[name]
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, STATE, metadata={"n": given_number, "all": [given_number]}).wait()
        found = ckpt.restore().metadata
    assert found == {"n": wanted, "all": [wanted]}
    assert type(found["n"]) is type(wanted)


def test_nan_and_infinities_come_back_as_floats(tmp_path):
    numbers = [math.nan, math.inf, -math.inf, np.float32("nan"), torch.tensor(-math.inf), 0.5]
    with Checkpointer(tmp_path) as ckpt:
        path = ckpt.save(1, STATE, metadata={"x": numbers}).wait()
        found = ckpt.restore().metadata["x"]
    assert all(type(number) is float for number in found)
    assert [repr(number) for number in found] == ["nan", "inf", "-inf", "nan", "-inf", "0.5"]
    # Strict JSON, which has no NaN, in the way that docs/format.md describes.
    strict = json.loads((path / "checkpoint.json").read_text(), parse_constant=pytest.fail)
    assert strict["metadata"]["x"][:3] == [{"understudy.float": n} for n in ("nan", "inf", "-inf")]


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"where": Path("x")}, ["metadata['where']", "PosixPath"]),
        ({"a": {"b": [1, {2}]}}, ["metadata['a']['b'][1]", "set"]),
        ({"big": 2**70}, ["metadata['big']", "int that does not fit 64 bits"]),
        ({"t": torch.ones(3)}, ["metadata['t']", "Tensor", "shape (3,)"]),
        ({"a": np.zeros((2, 2))}, ["metadata['a']", "ndarray", "shape (2, 2)"]),
        ({"z": 1j}, ["metadata['z']", "complex"]),
        ({"z": np.complex64(1)}, ["metadata['z']", "complex64"]),
        ({"d": decimal.Decimal(1)}, ["metadata['d']", "Decimal"]),
        ({"d": datetime.date(2024, 1, 1)}, ["metadata['d']", "date"]),
        ({"b": b"x"}, ["metadata['b']", "bytes"]),
        ({"k": {3: 1}}, ["metadata['k']", "key 3 of type int", "str"]),
        ({"understudy.float": "nan"}, ["understudy.float", "reserved"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_is_refused_is_named_in_pythons_words(metadata, words, tmp_path):
    with Checkpointer(tmp_path) as ckpt, pytest.raises(Error) as e:
        ckpt.save(1, STATE, metadata=metadata)
    assert e.value.code == "invalid"
    for word in words:
        assert word in str(e.value)


def test_metadata_in_a_ring_is_refused(tmp_path):
    ring: dict[str, object] = {}
    ring["ring"] = ring
    with Checkpointer(tmp_path) as ckpt, pytest.raises(Error, match="nested deeper") as e:
        ckpt.save(1, STATE, metadata=ring)
    assert e.value.code == "invalid"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a step of another user's in a sticky folder")
def test_a_step_that_cannot_be_removed_is_told(tmp_path, run_python):
    with Checkpointer(tmp_path) as ckpt:
        ckpt.save(1, STATE).wait()
    # For whoever is not root: the old step is root's, and the folder is sticky.
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and len(folder.parts) > 2:
            folder.chmod(0o755)
    tmp_path.chmod(0o1777)
    (tmp_path / ".understudy.lock").chmod(0o666)
    done = run_python(
        """
        import logging, os, pathlib, sys  # all before this user may read nothing
        logging.basicConfig(format="%(levelname)s %(message)s")
        import understudy
        os.setgid(65534), os.setuid(65534)
        ckpt = understudy.Checkpointer(sys.argv[1], keep=2)
        for step in range(2, 8):
            ticket = ckpt.save(step, {"x": step})
            ticket.wait()
        print(ckpt.steps())
        print(ticket.metrics()["unremoved"])
        try:
            ckpt.close()
        except understudy.Error as error:
            print(error.code, error)
        ckpt.close()
        """,
        tmp_path,
    )
    steps, unremoved, told = done.stdout.splitlines()
    assert steps == "[1, 6, 7]"
    assert "step-1" in unremoved and "Operation not permitted" in unremoved
    assert told.startswith("io ") and unremoved in told
    assert done.stderr.count("WARNING") == 1 and "step-1 to" in done.stderr
