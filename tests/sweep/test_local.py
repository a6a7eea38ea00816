"""Sweeps without a cluster: in this process, in processes of their own, and the parts of one run."""

import json
import os
import signal
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from submitit.core.utils import UncompletedJobError

from anchorflow.results import read_status
from anchorflow.runs import RunDirectory, Shard, execute
from anchorflow.sweep import pack, slurm
from anchorflow.sweep.cells import Cell
from anchorflow.sweep.liveness import Jobs, look
from tests.conftest import write_dataset
from tests.launching import command, failed_politely, launch, on_tiny, records, without_timing
from tests.sweep.test_plan import cells

pytestmark = pytest.mark.slow


@pytest.fixture
def given(tmp_path: Path) -> tuple[str, ...]:
    data = write_dataset(tmp_path / "data", train=12, test=30)
    return (*on_tiny(data), "experiment.n_queries=6")


def timing(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "result.json").read_text())["timing"]
    return found


def test_a_model_is_loaded_once_here_and_processes_find_the_same(tmp_path: Path, given: tuple[str, ...]) -> None:
    grid = ("-m", *given, "seed=1,2", "experiment=classification,isolation")
    here = launch(*grid, "launcher=local", "hydra.sweep.dir=here", cwd=tmp_path)
    assert here.returncode == 0, here.stderr
    runs = sorted((tmp_path / "here").glob("*/tiny/local/seed*"))
    assert len(runs) == 4
    assert sum(timing(run)["model_loads"] for run in runs) == 1
    told = {"config.yaml", "overrides.yaml", "hydra.yaml"}
    assert all({path.name for path in (run / ".hydra").iterdir()} == told for run in runs)
    assert all("model: tiny" in (run / "launch.log").read_text() for run in runs)

    one_at_a_time = ("launcher=submitit_local", "launcher.packs=4", "launcher.array_parallelism=1")
    beside = launch(*grid, *one_at_a_time, "hydra.sweep.dir=beside", cwd=tmp_path)
    assert beside.returncode == 0, beside.stderr
    assert "4 cells: 4 completed" in beside.stderr
    twins = [tmp_path / "beside" / run.relative_to(tmp_path / "here") for run in runs]
    assert [without_timing(run) for run in twins] == [without_timing(run) for run in runs]
    assert [timing(run)["model_loads"] for run in twins] == [1] * 4
    spans = sorted((read_status(run)["started"], read_status(run)["updated"]) for run in twins)
    ends, begins = [end for _, end in spans], [begin for begin, _ in spans]
    assert all(
        datetime.fromisoformat(e[:-1]) <= datetime.fromisoformat(b[:-1]) for e, b in zip(ends, begins[1:], strict=False)
    )


def test_only_slurm_keeps_a_sweep_when_the_program_ends(tmp_path: Path, given: tuple[str, ...]) -> None:
    done = launch("-m", *given, "seed=1,2", "launcher=local", "sweep.wait=false", cwd=tmp_path)
    assert "sweep.wait=false needs launcher=slurm" in failed_politely(done)


def test_a_dry_run_prints_the_plan_and_runs_nothing(tmp_path: Path, given: tuple[str, ...]) -> None:
    done = launch("-m", *given, "seed=1,2,3", "launcher=slurm", "launcher.mem_gb=8", "sweep.dry_run=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = [line.split() for line in done.stderr.splitlines() if line.startswith("tiny")]
    assert row[:-2] == ["tiny", "3", "0", "3", "1"]
    assert (1.0 < float(row[-2]) < 1.3, row[-1]) == (True, "GB"), "of a GPU's memory"
    assert "on SLURM, each pack with mem_gb 8.0, timeout_min 60" in done.stderr
    assert not list((tmp_path / "outputs").rglob("*.json"))


def test_cells_that_a_gpu_cannot_hold_are_refused_by_the_plan(tmp_path: Path, given: tuple[str, ...]) -> None:
    few, many = "batch_tokens=1024", "batch_tokens=1000000"
    for tokens, refused in ((few, False), (many, True)):
        done = launch("-m", *given, tokens, "seed=1,2", "launcher.gpu_mem_gb=1.5", "sweep.dry_run=true", cwd=tmp_path)
        assert (done.returncode != 0) == refused
        assert ("launcher.gpu_mem_gb is 1.5. Use a smaller dtype or batch_tokens" in done.stderr) == refused


def made(tmp_path: Path, given: tuple[str, ...], *overrides: str) -> Cell:
    (cell,) = cells(tmp_path / "outputs", [*given, "batch_tokens=100", *overrides])
    cell.folder.mkdir(parents=True, exist_ok=True)
    return cell


SHARDED = {
    "saliency": ("experiment.n_queries=6",),
    "compression": ("experiment.n_queries=6", "experiment.random_sets=2"),
    "reweighting": ("experiment.n_queries=6",),
    "label_relationships": ("experiment.repetitions=6", "experiment.n_demonstrations=5"),
}


@pytest.mark.parametrize("experiment", SHARDED)
def test_the_shards_of_a_run_make_its_result(tmp_path: Path, given: tuple[str, ...], experiment: str) -> None:
    """In any order, and with a record from before there were shards."""
    cell = made(tmp_path, (*given[:-1], f"experiment={experiment}", *SHARDED[experiment]))
    whole = tmp_path / "whole"
    whole.mkdir()
    expected = execute(cell.config, whole)
    assert expected is not None
    first = (whole / "records.jsonl").read_text().splitlines(keepends=True)[0]
    (cell.folder / "records.jsonl").write_text(first)
    (cell.folder / ".identity").write_text(expected["identity"] + "\n")
    assert execute(cell.config, cell.folder, shard=Shard(2, 2)) is None
    assert not (cell.folder / "result.json").exists()
    found = execute(cell.config, cell.folder, shard=Shard(1, 2))
    assert found is not None

    def steady(result: dict[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in result["metrics"].items() if "speedup" not in name}
        return {**{key: result[key] for key in ("identity", "curves", "tables", "counts")}, "metrics": kept}

    assert steady(found) == steady(expected)
    key = "repetition" if experiment == "label_relationships" else "query"
    parts = [{r[key] for r in records(cell.folder / "shards" / f"{i}-of-2")} for i in (1, 2)]
    assert len(parts[0] | parts[1]) == len(parts[0]) + len(parts[1]) == 6
    assert sorted(r[key] for r in records(cell.folder)) == sorted(r[key] for r in records(whole))
    assert execute(cell.config, cell.folder, shard=Shard(1, 2)) == found


def test_a_worker_that_dies_takes_its_cell_along_and_no_other(
    tmp_path: Path, given: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    grid = cells(tmp_path / "outputs", *([*given, f"seed={seed}"] for seed in (1, 2, 3)))
    run_cell = pack.run_cell

    def deadly(cell: Cell, kept: Any) -> bool:
        if cell.config["seed"] == 2:
            cell.folder.mkdir(parents=True, exist_ok=True)
            RunDirectory(cell.folder).report("running", progress={"done": 1, "total": 6})
            os.kill(os.getpid(), signal.SIGKILL)
        return run_cell(cell, kept)

    monkeypatch.setattr(pack, "run_cell", deadly)
    with pytest.raises(SystemExit) as ended:
        pack.Pack(tuple(grid), max_requeues=1)()
    assert ended.value.code == 1
    assert [(cell.folder / "result.json").exists() for cell in grid] == [True, False, True]
    status = read_status(grid[1].folder)
    assert (status["state"], status["error"]) == ("failed", "killed by SIGKILL (out of memory?)")
    assert status["progress"] == {"done": 1, "total": 6}
    assert "killed by SIGKILL" in capfd.readouterr().err


def test_a_pack_that_was_requeued_too_often_fails(
    tmp_path: Path, given: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = made(tmp_path, given)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "3")
    with pytest.raises(SystemExit):
        pack.Pack((cell,), max_requeues=2)()
    assert "requeued 3 times; allowed: launcher.max_requeues=2" in read_status(cell.folder)["error"]
    assert pack.Pack((cell,), max_requeues=3).checkpoint() is None
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert pack.Pack((cell,), max_requeues=2).checkpoint().function == pack.Pack((cell,), max_requeues=2)
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(("restarts", "reason"), [("0", "out of time"), ("2", "requeued 2 times; allowed")])
def test_a_job_that_is_not_requeued_again_fails_its_unfinished_cells(
    tmp_path: Path,
    given: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    restarts: str,
    reason: str,
) -> None:
    """As when submitit, in its handler of the signal that time is over, says that this was the last time."""
    cell = made(tmp_path, given)
    ended = made(tmp_path, (*given, "seed=7"))
    RunDirectory(ended.folder).report("failed", error="its own fault")
    monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)

    def over(*_: Any) -> int:
        raise UncompletedJobError

    monkeypatch.setattr(pack.Pack, "_work", over)
    with pytest.raises(SystemExit) as exit_:
        pack.Pack((cell, ended), max_requeues=2)()
    assert exit_.value.code == 1
    found = read_status(cell.folder)
    assert found["state"] == "failed"
    assert reason in found["error"]
    assert read_status(ended.folder)["error"] == "its own fault"
    assert capsys.readouterr().err.count("error: ") == 1


def test_a_time_limit_without_a_warning_fails_the_cells(
    tmp_path: Path, given: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = made(tmp_path, given)
    monkeypatch.setattr(slurm, "ask", lambda *_: "JobId=7 JobState=COMPLETING Reason=TimeLimit Restarts=0")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(pack.Pack, "_work", lambda *_: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit):
        pack.Pack((cell,), max_requeues=2)()
    assert "out of time" in read_status(cell.folder)["error"]
    assert slurm.stop_state() == "preempted"


def test_a_requeued_pack_leaves_alone_what_failed_in_it_and_what_another_process_took_up(
    tmp_path: Path, given: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    failed, left = made(tmp_path, given), made(tmp_path, (*given, "seed=7"))
    RunDirectory(failed.folder).report("failed", error="its own fault")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    asked: list[Any] = []
    monkeypatch.setattr(pack.Pack, "_work", lambda _, cells: asked.append(list(cells)) or 0)
    with pytest.raises(SystemExit):
        pack.Pack((failed, left), max_requeues=2)()
    assert asked == [[left]]
    monkeypatch.setenv("SLURM_RESTART_COUNT", "3")
    with RunDirectory(left.folder).locked(), pytest.raises(SystemExit):
        pack.Pack((left,), max_requeues=2)()
    assert read_status(left.folder) == {}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, given: tuple[str, ...]) -> None:
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "sweeps").write_text("in the way")
    done = launch("-m", *given, "seed=1,2", "launcher=submitit_local", cwd=tmp_path)
    line = failed_politely(done)
    assert "outputs/sweeps" in line
    assert "cannot be written" in line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_processes_that_the_sweep_began(tmp_path: Path, number: signal.Signals) -> None:
    data = write_dataset(tmp_path / "data", train=12, test=5000)
    settings = (*on_tiny(data), "experiment.n_queries=5000")
    arguments = command("-m", *settings, "experiment=classification", "seed=1,2,3", "launcher=submitit_local")
    process = subprocess.Popen(arguments, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while not (runs := [path.parent for path in tmp_path.rglob("records.jsonl")]):
        assert time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(number)
    assert "stopped; finished records are kept" in process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number
    folders = [path.parent for path in tmp_path.rglob("status.json")]
    while {"running", "queued"} & {look(folder, Jobs()).state for folder in folders}:
        assert time.monotonic() < until
        time.sleep(0.2)
    states = {folder: look(folder, Jobs()).state for folder in folders}
    assert sorted(states.values()) == ["new", "new", "preempted"]  # so that the same command runs all of them
    assert all(states[run] == "preempted" for run in runs)


def test_a_worker_whose_pack_was_killed_begins_no_other_cell(tmp_path: Path, given: tuple[str, ...]) -> None:
    (cell,) = cells(tmp_path / "outputs", [*given])
    assert pack.run([cell], parent=-1) == []
    assert not cell.folder.exists()


@pytest.mark.parametrize(
    "chosen",
    [
        "hydra/launcher=joblib",
        "hydra/launcher=theirs",
        "hydra/sweeper=optuna",
        "++hydra.launcher._target_=hydra._internal.core_plugins.basic_launcher.BasicLauncher",
    ],
)
def test_a_launcher_or_sweeper_of_hydras_is_refused_before_anything_starts(
    tmp_path: Path, given: tuple[str, ...], chosen: str
) -> None:
    theirs = tmp_path / "conf" / "hydra" / "launcher" / "theirs.yaml"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("_target_: theirs.Launcher")
    done = launch("-m", *given, f"hydra.searchpath=[file://{tmp_path / 'conf'}]", chosen, cwd=tmp_path)
    assert "which cannot run these sweeps; " in failed_politely(done)
    assert not (tmp_path / "outputs").exists()
