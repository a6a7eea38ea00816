"""A SLURM that is not ours alone: launched inside a job, beside other users, with defaults of one's own."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from anchorflow.runs import RunDirectory
from anchorflow.sweep import slurm
from anchorflow.sweep.liveness import Jobs, look
from tests.launching import command
from tests.sweep.cluster import Cluster
from tests.sweep.slurm_runs import Sweep, given, nobody_works, results, until

pytestmark = pytest.mark.slurm
GAMES = 5
"""A user that every Debian has."""


def test_a_sweep_launched_inside_a_job_inherits_nothing_of_it(cluster: Cluster, tmp_path: Path, data: Path) -> None:
    typed = " ".join(command(*given(data, "experiment=classification", "launcher.mem_gb=1", "seed=1,2")))
    outer = ("--mem-per-cpu=600", "--ntasks=2", f"--output={tmp_path}/out", f"--chdir={tmp_path}")
    done = subprocess.run(["sbatch", "--wait", *outer, "--wrap", typed], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, (tmp_path / "out").read_text()
    assert len(results(tmp_path / "outputs")) == 2


def test_a_users_own_defaults_hold_where_the_launcher_says_nothing(
    cluster: Cluster, sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBATCH_PARTITION", "held")
    monkeypatch.setenv("SBATCH_MEM_PER_CPU", "600")  # an option of sbatch that contradicts mem_gb
    done = sweep("experiment=classification", "launcher.mem_gb=1", "sweep.wait=false")
    assert done.returncode == 0, done.stderr
    (plan,) = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/sweeps/*/plan.json")]
    assert plan["resources"]["partition"] == "held"
    (job,) = slurm.alive() or {}
    assert "Partition=held" in cluster.run("scontrol", "show", "job", job)
    cluster.run("scancel", job)
    until(nobody_works)


def test_another_users_job_in_a_shared_folder_is_alive(cluster: Cluster, tmp_path: Path) -> None:
    said = cluster.run("sbatch", f"--uid={GAMES}", "--hold", "--chdir=/tmp", "--output=/dev/null", "--wrap", "true")
    found = re.search(r"job (\d+)", said)
    assert found is not None, said
    (tmp_path / "plan.json").write_text(json.dumps({"launcher": "slurm", "packs": [{"job_id": found[1]}]}))
    folder = tmp_path / "run"
    folder.mkdir()
    RunDirectory(folder).report("queued", sweep=str(tmp_path / "plan.json"), packs=[0])
    os.chown(folder / "status.json", GAMES, GAMES)
    assert found[1] not in (slurm.alive() or {})
    assert look(folder, Jobs()).where == f"job {found[1]} (JobHeldUser)"
    cluster.run("scancel", found[1])
    until(lambda: look(folder, Jobs()).state == "cancelled")
