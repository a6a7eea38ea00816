"""One sweep of models that need different nodes, on a real SLURM: an array for each kind of allocation."""

import json
from pathlib import Path

import pytest

from anchorflow.runs.provenance import revision
from tests.sweep.cluster import Cluster
from tests.sweep.slurm_runs import Sweep

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def test_each_model_gets_its_own_gpus_and_runs_the_snapshot(cluster: Cluster, sweep: Sweep, tmp_path: Path) -> None:
    grid = ("model.name=gpt2-like,llama-like", "experiment=classification", "seed=1,2")
    given = "launcher.per_model={llama-like: {gpus_per_node: 2}}"
    tells = "launcher.setup=['echo given $SLURM_GPUS_ON_NODE GPU']"
    done = sweep(*grid, "launcher.gpus_per_node=1", given, tells)
    assert done.returncode == 0, done.stderr
    assert "packs of gpt2-like with gpus_per_node 1, timeout_min 60" in done.stderr
    assert "packs of llama-like with gpus_per_node 2, timeout_min 60" in done.stderr
    (folder,) = (tmp_path / "outputs" / "sweeps").iterdir()
    plan = json.loads((folder / "plan.json").read_text())
    assert plan["code"] == {"kind": "snapshot", "revision": str(revision())}
    by_model = {pack["cells"][0].split("/")[1]: pack["job_id"] for pack in plan["packs"]}
    assert len({job.split("_")[0] for job in by_model.values()}) == 2
    logs = {model: (folder / "jobs" / f"{job}_0_log.out").read_text() for model, job in by_model.items()}
    assert "given 1 GPU" in logs["gpt2-like"]
    assert "given 2 GPU" in logs["llama-like"]
    runs = list((tmp_path / "outputs").glob("classification/*/local/seed*/result.json"))
    assert len(runs) == 4
    assert {json.loads(run.read_text())["environment"]["git"] for run in runs} == {revision().git}


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ("launcher.gpus_per_node=3", "launcher.gpus_per_node is 3; allowed in partition main (model tiny): up to 2"),
        (
            "launcher.per_model={tiny: {partition: nowhere}}",
            "launcher.partition is 'nowhere'; allowed on this cluster: ",
        ),
    ],
)
def test_what_the_partition_lacks_is_refused_before_anything_is_queued(
    cluster: Cluster,
    sweep: Sweep,
    tmp_path: Path,
    asked: str,
    complaint: str,
) -> None:
    done = sweep("seed=1,2", asked)
    assert done.returncode == 1
    assert f"error: {complaint}" in done.stderr
    assert not list((tmp_path / "outputs").rglob("*.json"))
