"""Two revisions' figures side by side."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("compare", ROOT / "tools" / "bench_compare.py")
assert spec is not None and spec.loader is not None
compare = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compare)


def test_medians_spreads_and_ratio_are_told():
    before = {("stage", "ours"): [0.3, 0.2, 0.4]}
    after = {("stage", "ours"): [0.1, 0.1, 0.2], ("new", "ours"): [1.0]}
    _, first, second = compare.table(before, after)
    assert first.split("ours")[1].split() == [
        "300.0", "ms", "(200.0-400.0)", "100.0", "ms", "(100.0-200.0)", "3.00x",
    ]  # fmt: skip
    assert second.split() == ["new,", "ours", "none"]


def test_a_revision_that_git_does_not_know_is_told(run_tool):
    result = run_tool("bench_compare.py", "no-such-revision")
    assert result.returncode == 1
    assert "no-such-revision" in result.stderr
