"""Sweeps among seeded faults (see `tests.sweep.chaos`); `make chaos SEEDS=100` tries more of them."""

from pathlib import Path

import pytest

from tests.sweep.chaos import PREEMPTING, Chaos, leave_alone
from tests.sweep.cluster import Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


@pytest.fixture(scope="module")
def settings_of_cluster() -> str:
    return PREEMPTING


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    return leave_alone(tmp_path_factory.mktemp("undisturbed"), data)


@pytest.mark.parametrize("seed", [0, 1, 2, 6, 7])
def test_whatever_happens_a_relaunch_ends_as_if_nothing_had(
    cluster: Cluster, data: Path, undisturbed: Path, tmp_path: Path, seed: int
) -> None:
    chaos = Chaos(cluster, tmp_path, data, seed)
    chaos.run()
    chaos.check(undisturbed)
