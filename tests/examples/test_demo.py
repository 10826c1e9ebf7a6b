"""The demo, shrunken, from the first step to the last check; and the parts it stands on."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Run

from training.fingerprint import differences, fingerprint
from training.supervisor import SaveWatch, run_and_kill

FAKES = Path(__file__).parent / "fakes"


def test_demo_is_killed_and_resumes_to_the_last_bit(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    demo = run("examples/demo.py", "--quick", "--out", out)
    assert demo.returncode == 0
    assert re.search(r"SIGKILL \d+ ms after a save came into sight", demo.stdout)
    assert re.search(r"step-\S+: .*<- the save in flight", demo.stdout)
    assert re.search(r"resumed from step \d+", demo.stdout)
    for part in ("model", "optimizer", "schedule", "loader", "journal", "rng"):
        assert re.search(rf"^  {part} .* same$", demo.stdout, re.MULTILINE), part
    if "nothing survives here" not in demo.stdout:
        for source in ("memory", "disk"):
            assert re.search(rf"^  {source} .* ms .* same$", demo.stdout, re.MULTILINE), source
    assert "DIFFERENT" not in demo.stdout
    for way in ("understudy", "torch.save + fsync", "dcp.async_save"):
        assert re.search(rf"^  {re.escape(way)}  .* ms .* s .* ms", demo.stdout, re.MULTILINE), way
    assert (out / "step-times.png").read_bytes().startswith(b"\x89PNG")


def test_demo_leaves_other_files_in_its_folder_alone(tmp_path: Path) -> None:
    from demo import clear

    (tmp_path / "run").mkdir()
    (tmp_path / "mine.txt").write_text("mine")
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_both_witnesses_see_one_flipped_bit() -> None:
    a = {"model": {"w": torch.arange(6, dtype=torch.float32)}, "losses": [1.0, 2.0]}
    b = {"model": {"w": torch.arange(6, dtype=torch.float32)}, "losses": [1.0, 2.0]}
    assert fingerprint(a) == fingerprint(b)
    assert differences(a, b) == []
    b["model"]["w"].view(torch.uint8)[5] ^= 1
    assert fingerprint(a)["model"] != fingerprint(b)["model"]
    assert fingerprint(a)["losses"] == fingerprint(b)["losses"]
    assert differences(a, b) == ["model.w: the values differ"]


def test_a_leaf_that_no_witness_knows_is_not_passed_over() -> None:
    with pytest.raises(TypeError, match="object has no fingerprint"):
        fingerprint({"x": [object()]})


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"x": 1.0}, ["x: the values differ"]),  # an int became a float
        ({"x": np.array([1, 2])}, ["x: the values differ"]),
        ({"y": 1}, ["x: only in one of them", "y: only in one of them"]),
    ],
)
def test_differences_in_plain_values_are_named(change: dict, found: list[str]) -> None:
    assert differences({"x": 1}, change) == found


class ScriptedWatch(SaveWatch):
    """Decides by itself whether the kill comes within the save or after it."""

    misses = False

    def random_delay(self) -> float:
        (self.folder / "seen").touch()
        while self.misses and self.unfinished():
            time.sleep(0.001)
        return 0.0


@pytest.mark.parametrize("misses", [False, True])
def test_a_kill_says_whether_it_hit_a_save(
    misses: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(FAKES))
    watch = ScriptedWatch(tmp_path)
    watch.misses = misses
    # A save that is to be missed ends when it was seen; the other one would take for ever.
    kill = run_and_kill(
        "slow_saver",
        [str(tmp_path), "seen" if misses else "never"],
        watch,
        not_before=1,
        on_event=lambda event: (tmp_path / "heard").touch(),
    )
    assert kill is not None
    assert kill.after_step == 1
    assert kill.hit is not misses
    if not misses:
        assert kill.unfinished == [("step-1.tmp-fake", ["shard"])]


def test_a_process_that_ends_before_it_is_killed_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(FAKES))
    watch = SaveWatch(tmp_path)
    arguments = [str(tmp_path), "at-once"]
    kill = run_and_kill("slow_saver", arguments, watch, not_before=99, on_event=lambda event: None)
    assert kill is None
