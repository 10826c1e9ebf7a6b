"""StorageWriter and StorageReader under torchrun, with gloo on the CPU."""

from pathlib import Path

import pytest
from launches import Launches

CHECKS_PY = Path(__file__).parent / "checks.py"

# In this order: what one launch has saved, later ones load.
LAUNCHES = [
    (
        2,
        [
            *("fsdp", "replicas", "any_placement", "stages", "cached_plans", "one_that_raises"),
            *("an_existing_one", "folders_of_their_own", "several_chunks_of_a_rank", "damage"),
        ],
    ),
    (2, ["thread", "process", "process_goes_on"]),
    (2, ["trainings", "other_order", "other_cuts"]),
    (4, ["trainings", "other_order", "other_meshes"]),
    (4, ["fsdp", "hsdp", "tensor_parallel", "two_dimensions", "any_placement", "of_two_ranks"]),
    (2, ["killed"]),
    (2, ["after_the_kill"]),
    (1, ["of_two_ranks"]),
]
# Nobody is there to say that a launch in which a rank was killed has passed.
CHECKS = [(i, name) for i, (_, names) in enumerate(LAUNCHES) for name in names if name != "killed"]


def look(names: list[str], status: int, output: str) -> None:
    if "killed" in names:
        assert status != 0 and "hung" not in output, output


@pytest.fixture(scope="module")
def launches(tmp_path_factory: pytest.TempPathFactory) -> Launches:
    return Launches(CHECKS_PY, LAUNCHES, tmp_path_factory.mktemp("steps"), look)


@pytest.mark.parametrize(
    ("launch", "name"), CHECKS, ids=[f"{LAUNCHES[i][0]}-{name}-{i}" for i, name in CHECKS]
)
def test_on_ranks(launches: Launches, launch: int, name: str) -> None:
    passed, output = launches.result(launch)
    assert name in passed, output
