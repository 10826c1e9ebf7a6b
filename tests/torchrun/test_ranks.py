"""Checkpointers of several processes, under torchrun with gloo on the CPU."""

import re
from pathlib import Path

import pytest
from conftest import run_on_ranks

CHECKS_PY = Path(__file__).parent / "checks.py"

# In this order: what one launch has saved, later ones resume. The last of one process reads what
# two have saved.
LAUNCHES = [
    (1, ["alone"]),
    (
        2,
        [
            *("fsdp", "ddp", "leaves", "refused", "tied", "fresh_optimizer", "again"),
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
    (4, ["fsdp_of_two", "fsdp", "hsdp", "tensor_parallel", "two_dimensions", "stages"]),
    (1, ["alone_reads_many", "per_rank_of_two"]),
]
CHECKS = [(i, name) for i, (_, names) in enumerate(LAUNCHES) for name in names]


class Launches:
    """Each runs once, before the first check of it is asked for."""

    def __init__(self, folder) -> None:
        self._folder = folder
        self._passed: list[set[str]] = []
        self._outputs: list[str] = []

    def result(self, launch: int) -> tuple[set[str], str]:
        while len(self._passed) <= launch:
            ranks, names = LAUNCHES[len(self._passed)]
            _, output = run_on_ranks(ranks, CHECKS_PY, self._folder, *names)
            self._passed.append(set(re.findall(r"^passed (\w+)$", output, re.M)))
            self._outputs.append(output)
        return self._passed[launch], self._outputs[launch]


@pytest.fixture(scope="module")
def launches(tmp_path_factory):
    return Launches(tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize(
    ("launch", "name"), CHECKS, ids=[f"{LAUNCHES[i][0]}-{name}-{i}" for i, name in CHECKS]
)
def test_on_ranks(launches, launch, name):
    passed, output = launches.result(launch)
    assert name in passed, output
