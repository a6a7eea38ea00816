"""Sweeps on a real SLURM: two nodes on this machine. Skipped where it is not installed, a failure where CI asks for it."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from anchorflow.sweep import slurm
from tests.conftest import ROOT, write_dataset
from tests.launching import command, failed_politely, records
from tests.sweep.cluster import Cluster
from tests.sweep.slurm_runs import (
    QUERIES,
    SLOW,
    Sweep,
    at_record,
    come_back,
    given,
    logs,
    nobody_works,
    only_run,
    results,
    said,
    status,
    until,
    whole_again,
)

pytestmark = pytest.mark.slurm


def test_a_grid_runs_in_packs_equals_the_local_sweep_and_is_found_finished(
    cluster: Cluster, sweep: Sweep, tmp_path: Path, data: Path
) -> None:
    write_dataset(tmp_path / "other", train=20, test=30)
    grid = (
        *("model.family=gpt2,llama", f"dataset.path={data},{tmp_path / 'other'}"),
        *("experiment=classification,saliency", "seed=1,2"),
    )
    done = sweep(*grid, "launcher.packs=4", "launcher.gpus_per_node=1")
    assert done.returncode == 0, done.stderr
    assert "16 cells: 16 completed" in done.stderr
    outputs = tmp_path / "outputs"
    runs = sorted(outputs.glob("*/tiny/local/seed*"))
    timings = [json.loads((run / "result.json").read_text())["timing"] for run in runs]
    (plan,) = [json.loads(path.read_text()) for path in outputs.glob("sweeps/*/plan.json")]
    assert sum(timing["model_loads"] for timing in timings) == len(plan["packs"]) == 4
    assert {said(run)["job_id"] for run in runs} == {pack["job_id"] for pack in plan["packs"]}

    here = sweep(*grid, "hydra.sweep.dir=here", where="local")
    assert here.returncode == 0, here.stderr
    assert len(results(outputs)) == 16
    assert results(outputs) == results(tmp_path / "here")
    for run in runs:
        twin = tmp_path / "here" / run.relative_to(outputs)
        assert (run / "records.jsonl").read_bytes() == (twin / "records.jsonl").read_bytes()

    again = sweep(*grid, "launcher.packs=4")
    assert again.returncode == 0, again.stderr
    assert len(list(outputs.glob("sweeps/*"))) == 1  # nothing was submitted
    (runs[3] / "result.json").unlink()
    once_more = sweep(*grid)
    assert once_more.returncode == 0, once_more.stderr
    assert "1 cell: 1 completed" in once_more.stderr
    assert results(outputs) == results(tmp_path / "here")
    assert status(outputs).splitlines()[-1] == "16 runs: 16 completed"


def test_a_killed_worker_fails_its_cell_only_and_a_relaunch_goes_on(
    cluster: Cluster, sweep: Sweep, tmp_path: Path, data: Path, undisturbed: dict[str, dict[str, Any]]
) -> None:
    """Also: one W&B run, however often it was begun."""
    waiting = subprocess.Popen(
        command(*given(data, *SLOW, "seed=42,43", "tracking=offline")),
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    outputs = tmp_path / "outputs"
    until(lambda: list(outputs.glob("saliency/tiny/local/seed42*/records.jsonl")))
    (run,) = outputs.glob("saliency/tiny/local/seed42*")
    until(lambda: (run / "records.jsonl").read_bytes().count(b"\n") >= 20)
    os.kill(said(run)["pid"], 9)
    _, stderr = waiting.communicate(timeout=200)
    assert waiting.returncode == 1
    assert "2 cells: 1 completed, 1 failed" in stderr
    assert "killed by SIGKILL" in said(run)["error"]
    job = json.loads(next(outputs.glob("sweeps/*/plan.json")).read_text())["packs"][0]["job_id"]
    assert slurm.ended_as(job) == "FAILED"
    (other,) = outputs.glob("saliency/tiny/local/seed43*")
    assert (other / "result.json").exists()

    retried = sweep(*SLOW, "seed=42,43,44", "tracking=offline", "sweep.retry_failed=true")
    assert retried.returncode == 0, retried.stderr
    assert "1 cell: 1 completed" in retried.stderr
    assert not list(outputs.glob("saliency/tiny/local/seed44*"))
    found = results(run.parents[3])[str(run.relative_to(outputs))]
    (expected,) = undisturbed.values()
    found["config"]["tracking"] = expected["config"]["tracking"]
    assert found == expected
    fragments = [path.name for path in (run / "wandb").glob("offline-run-*")]
    assert len(fragments) == 2
    assert {name.rsplit("-", 1)[1] for name in fragments} == {found["identity"]}


def test_requeued_by_the_administrator(
    cluster: Cluster, sweep: Sweep, tmp_path: Path, undisturbed: dict[str, dict[str, Any]]
) -> None:
    submitted = sweep(*SLOW, "sweep.wait=false")
    assert submitted.returncode == 0, submitted.stderr
    run = at_record(tmp_path / "outputs")
    job = said(run)["job_id"]
    assert "running" in status(tmp_path / "outputs")
    cluster.run("scontrol", "requeue", job)
    until(lambda: said(run)["state"] == "preempted")
    again = sweep(*SLOW)
    assert again.returncode == 0, again.stderr
    assert f"queued, job {job} (" in again.stderr  # SLURM lets it wait, and it is not submitted a second time
    assert "queued" in status(tmp_path / "outputs")

    come_back(cluster, job)
    until(nobody_works)
    assert said(run)["requeues"] == 1
    assert len(list((tmp_path / "outputs" / "sweeps").iterdir())) == 1
    assert "Traceback" not in logs(tmp_path)
    assert results(tmp_path / "outputs") == undisturbed
    assert len(records(run)) == QUERIES


def test_cancelled_keeps_its_records(
    cluster: Cluster, sweep: Sweep, tmp_path: Path, undisturbed: dict[str, dict[str, Any]]
) -> None:
    assert sweep(*SLOW, "sweep.wait=false").returncode == 0
    run = at_record(tmp_path / "outputs")
    cluster.run("scancel", said(run)["job_id"])
    until(nobody_works)
    until(lambda: said(run)["state"] == "cancelled")
    assert "Traceback" not in logs(tmp_path)
    kept = (run / "records.jsonl").read_bytes()
    assert kept.count(b"\n") >= 20
    whole_again(tmp_path, sweep, undisturbed)
    assert (run / "records.jsonl").read_bytes().startswith(kept[: kept.rfind(b"\n") + 1])


@pytest.mark.parametrize("timeouts", [1, 0])
def test_told_that_its_time_is_over_a_job_is_requeued_as_often_as_allowed(
    cluster: Cluster, sweep: Sweep, tmp_path: Path, undisturbed: dict[str, dict[str, Any]], timeouts: int
) -> None:
    """The signal that SLURM sends `signal_delay_s` before the end of a job, or when it is preempted."""
    limited = ("launcher.timeout_min=10", f"launcher.max_num_timeout={timeouts}", "sweep.wait=false")
    assert sweep(*SLOW, *limited).returncode == 0
    run = at_record(tmp_path / "outputs")
    job = said(run)["job_id"]
    cluster.run("scancel", "--signal=USR2", job)
    until(lambda: said(run)["state"] == ("preempted" if timeouts else "failed"))
    assert len(records(run)) < QUERIES

    if timeouts:
        come_back(cluster, job)
    until(nobody_works)
    assert said(run)["requeues"] == timeouts
    if timeouts:
        assert results(tmp_path / "outputs") == undisturbed
    else:
        assert slurm.ended_as(job) == "FAILED"
        assert "out of time (launcher.timeout_min), and not requeued again" in status(tmp_path / "outputs")
        whole_again(tmp_path, sweep, undisturbed, "sweep.retry_failed=true")
    assert "Traceback" not in logs(tmp_path)


def test_a_node_that_fails_gives_its_job_to_another(
    cluster: Cluster, sweep: Sweep, tmp_path: Path, undisturbed: dict[str, dict[str, Any]]
) -> None:
    assert sweep(*SLOW, "sweep.wait=false", "launcher.additional_parameters={nodelist: n1}").returncode == 0
    run = at_record(tmp_path / "outputs")
    job = said(run)["job_id"]
    cluster.kill("n1")
    os.kill(said(run)["pid"], 9)  # the node is gone, and so is what ran there
    cluster.run("scontrol", "update", "NodeName=n1", "State=DOWN", "Reason=test")
    try:
        until(lambda: said(run).get("state") != "running" or "lost" in status(tmp_path / "outputs") or nobody_works())
    finally:
        cluster.start_node("n1")
        cluster.run("scontrol", "update", "NodeName=n1", "State=RESUME")
    cluster.run("scancel", job)
    until(nobody_works)
    whole_again(tmp_path, sweep, undisturbed)


def test_cells_that_fail_are_reported_as_what_they_are_and_the_others_finish(
    cluster: Cluster, sweep: Sweep, tmp_path: Path, data: Path
) -> None:
    """A configuration that is wrong, a model too large for the memory, label words that begin with the same token."""
    poor = "launcher.setup=[ulimit -v 12000000]"  # kilobytes; the weights of the wide model take 25 GB
    words = "dataset.label_words=[' Negative',' Positive'],[' Zebra',' Zoo']"
    done = sweep("experiment.n_queries=6,601", "model.width=32,8192", words, poor)
    assert "n_queries is 601; local has 600 test examples" in done.stderr
    assert done.stderr.count("refused: ") == 6  # the four with 601 queries, and two of the others with colliding words
    assert "failed: saliency/tiny/local/seed42" in done.stderr
    assert "begin with the same token" in done.stderr
    assert "out of memory; use a smaller dtype or model" in done.stderr
    assert len(results(tmp_path / "outputs")) == 1
    assert "1 of 2 cells are not complete, 6 cells refused" in failed_politely(done)
    assert status(tmp_path / "outputs").splitlines()[-1] == "2 runs: 1 completed, 1 failed"


def test_a_cell_split_over_an_array_is_the_cell(
    cluster: Cluster, sweep: Sweep, tmp_path: Path, undisturbed: dict[str, dict[str, Any]]
) -> None:
    done = sweep(*SLOW, "experiment.shards=3")
    assert done.returncode == 0, done.stderr
    found = results(tmp_path / "outputs")
    for result in found.values():
        assert result["config"]["experiment"].pop("shards") == 3
    for result in undisturbed.values():
        result["config"]["experiment"].pop("shards")
    assert found == undisturbed
    run = only_run(tmp_path / "outputs")
    assert run is not None
    shards = [len(records(shard)) for shard in sorted((run / "shards").iterdir())]
    assert len(shards) == 3
    assert sum(shards) == len(records(run)) == QUERIES
    assert min(shards) > QUERIES / 4


def test_what_is_edited_while_jobs_wait_changes_nothing(
    cluster: Cluster, sweep: Sweep, tmp_path: Path, data: Path
) -> None:
    conf = tmp_path / "conf"
    mine = conf / "experiment" / "mine.yaml"
    mine.parent.mkdir(parents=True)
    base = (ROOT / "conf" / "experiment" / "classification.yaml").read_text()
    mine.write_text(base + "shots_per_class: 3\n")
    held = "launcher.additional_parameters={hold: true}"
    chosen = (f"hydra.searchpath=[file://{conf}]", "experiment=mine", "sweep.wait=false", held)
    submitted = sweep(*chosen)
    assert submitted.returncode == 0, submitted.stderr
    outputs = tmp_path / "outputs"
    assert "queued" in status(outputs)
    assert "JobHeldUser" in status(outputs)
    assert "in progress: " in sweep(*chosen).stderr  # not submitted twice
    mine.write_text("broken: [")
    (job,) = slurm.alive() or {}
    cluster.run("scontrol", "release", job)
    until(nobody_works)
    (found,) = results(outputs).values()
    assert found["config"]["experiment"]["shots_per_class"] == 3


def test_an_array_larger_than_the_clusters_limit_is_split(
    cluster: Cluster, sweep: Sweep, tmp_path: Path, data: Path
) -> None:
    done = sweep(
        *("seed=range(0,8)", "launcher.packs=8", "launcher.partition=held", "sweep.wait=false"),
        *("experiment=classification", "launcher.array_parallelism=1"),
    )
    assert done.returncode == 0, done.stderr
    (plan,) = [json.loads(path.read_text()) for path in (tmp_path / "outputs").glob("sweeps/*/plan.json")]
    jobs = [pack["job_id"] for pack in plan["packs"]]
    assert len(set(jobs)) == 8
    first, second = sorted({job.split("_")[0] for job in jobs}, key=int)
    shown = cluster.run("scontrol", "--oneliner", "show", "job", second)
    assert "ArrayTaskThrottle=1" in shown
    assert f"Dependency=afterany:{first}" in shown  # one at once in all
    cluster.run("scancel", "-u", "root")
    until(nobody_works)
    assert "8 cancelled" in status(tmp_path / "outputs")
    assert f"job {jobs[0]} (CANCELLED) ended before this run began" in status(tmp_path / "outputs")


def test_a_job_that_ends_before_its_first_cell_is_said_to_and_leaves_its_log(sweep: Sweep, tmp_path: Path) -> None:
    done = sweep("launcher.setup=[echo no such module, exit 3]", "experiment=classification")
    assert done.returncode == 1
    found = re.search(r"did not run: .*: job (\d+\S*) \(FAILED\) ended before this run began; see (\S+)", done.stderr)
    assert found is not None, done.stderr
    assert any("no such module" in path.read_text() for path in Path(found[2]).iterdir() if path.suffix == ".out")


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (("launcher.partition=gpus",), "launcher.partition is 'gpus'; allowed on this cluster: held, main"),
        (("launcher.timeout_min=61",), "launcher.timeout_min is 61; allowed in partition main: up to 60"),
        (("launcher.gpus_per_node=9",), "launcher.gpus_per_node is 9; allowed in partition main (model tiny): up to 2"),
        (("launcher.constraint=a100",), "sbatch refused: Batch job submission failed: Invalid feature specification"),
        (("sweep.dry_run=true", "seed=1,1"), "two cells of the sweep are the same run"),
    ],
)
def test_what_slurm_will_not_take_is_said_and_nothing_is_left_half_submitted(
    cluster: Cluster, sweep: Sweep, tmp_path: Path, data: Path, overrides: tuple[str, ...], complaint: str
) -> None:
    assert complaint in failed_politely(sweep("seed=1,2", *overrides))
    assert slurm.alive() == {}
