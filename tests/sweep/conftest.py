"""A real SLURM, and sweeps on it. Skipped where it is not installed, a failure where CI asks for it."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import write_dataset
from tests.launching import command
from tests.sweep.cluster import Cluster
from tests.sweep.slurm_runs import SLOW, Sweep, given, results


@pytest.fixture(scope="module")
def settings_of_cluster() -> str:
    """What a module's cluster is configured with besides."""
    return ""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, settings_of_cluster: str) -> Iterator[Cluster]:
    why = Cluster.missing()
    if why:
        if os.environ.get("ANCHORFLOW_REQUIRE_SLURM"):
            pytest.fail(f"SLURM is required here: {why}")
        pytest.skip(f"no SLURM: {why}")
    running = Cluster(tmp_path_factory.mktemp("slurm"), largest_array=6, more=settings_of_cluster)
    running.start()
    before = dict(os.environ)
    os.environ.update(running.environment)
    yield running
    running.stop()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("given") / "data", train=40, test=600)


@pytest.fixture
def sweep(tmp_path: Path, data: Path, cluster: Cluster) -> Sweep:
    """Launches a sweep into outputs/ of the test's own folder."""

    def run(*overrides: str, where: str = "slurm") -> subprocess.CompletedProcess[str]:
        typed = command(*given(data, *overrides, where=where))
        return subprocess.run(typed, cwd=tmp_path, capture_output=True, text=True, timeout=400)

    return run


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, data: Path) -> dict[str, dict[str, Any]]:
    """What the slow run finds when it is left alone (made here)."""
    folder = tmp_path_factory.mktemp("undisturbed")
    typed = command(*given(data, *SLOW, where="local"))
    done = subprocess.run(typed, cwd=folder, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    return results(folder / "outputs")
