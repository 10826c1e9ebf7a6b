"""Checkpointers of several processes, under torchrun with gloo on the CPU."""

from pathlib import Path

import pytest
from launches import Launches

CHECKS_PY = Path(__file__).parent / "checks.py"

# In this order: what one launch has saved, later ones resume. The last of one process reads what
# two have saved.
LAUNCHES = [
    (1, ["alone"]),
    (
        2,
        [
            *("fsdp", "ddp", "leaves", "refused", "tied", "tied_parts"),
            "fresh_optimizer",
            *("again", "again_apart", "again_with_parts", "again_after_failures"),
            *(
                "one_that_raises",
                "per_rank",
                "another_step",
                "folders_of_their_own",
                "one_that_never_comes",
            ),
        ],
    ),
    (3, ["fsdp_of_two", "groups", "named_stages", "per_rank_of_two", "preempted"]),
    (
        4,
        [
            "fsdp_of_two",
            "fsdp",
            "hsdp",
            "tensor_parallel",
            "two_dimensions",
            "stages",
            "tied_parts",
        ],
    ),
    (1, ["alone_reads_many", "per_rank_of_two"]),
]
CHECKS = [(i, name) for i, (_, names) in enumerate(LAUNCHES) for name in names]


@pytest.fixture(scope="module")
def launches(tmp_path_factory):
    return Launches(CHECKS_PY, LAUNCHES, tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize(
    ("launch", "name"), CHECKS, ids=[f"{LAUNCHES[i][0]}-{name}-{i}" for i, name in CHECKS]
)
def test_on_ranks(launches, launch, name):
    passed, output = launches.result(launch)
    assert name in passed, output
