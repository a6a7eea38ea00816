"""Killed, stopped, out of disk: finished work is kept, and the same command ends as if nothing had been."""

import json
import resource
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import write_dataset
from tests.launching import command, failed_politely, interrupted, launch, records, tiny, without_timing

pytestmark = pytest.mark.slow


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data", train=12, test=8)


@pytest.mark.parametrize("experiment", ["compression", "reweighting"])
def test_what_is_learned_or_chosen_at_the_end_is_the_same_after_a_kill(tmp_path: Path, experiment: str) -> None:
    data = write_dataset(tmp_path / "data", train=60, test=400)
    settings = [f"experiment={experiment}", "experiment.n_queries=400", "batch_tokens=200"]
    settings.append("experiment.epochs=1" if experiment == "reweighting" else "experiment.random_sets=3")
    assert launch(*tiny(data, *settings, run_dir="undisturbed"), cwd=tmp_path).returncode == 0
    interrupted(tiny(data, *settings), tmp_path, 20, signal.SIGKILL)
    assert not (tmp_path / "run" / "result.json").exists()
    again = launch(*tiny(data, *settings), cwd=tmp_path)
    assert again.returncode == 0, again.stderr

    def numbers(folder: Path) -> tuple[Any, ...]:
        result = without_timing(folder)
        metrics = {name: value for name, value in result["metrics"].items() if "speedup" not in name}
        variants = {r["query"]: r["variants"] for r in records(folder)}
        return metrics, result["curves"], result["tables"], variants

    assert numbers(tmp_path / "run") == numbers(tmp_path / "undisturbed")


@pytest.mark.parametrize("with_", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_after_a_kill_a_run_goes_on_and_ends_as_if_nothing_had_been(tmp_path: Path, with_: signal.Signals) -> None:
    data = write_dataset(tmp_path / "data", train=60, test=400)
    several = ("experiment.n_queries=400", "batch_tokens=300")
    undisturbed = tiny(data, *several, run_dir="undisturbed")
    assert launch(*undisturbed, cwd=tmp_path).returncode == 0
    code = interrupted(tiny(data, *several), tmp_path, 20, with_)
    run = tmp_path / "run"
    assert not (run / "result.json").exists()
    if with_ != signal.SIGKILL:
        assert code == 128 + with_
        assert json.loads((run / "status.json").read_text())["state"] == "preempted"
    kept = (run / "records.jsonl").read_bytes()
    kept = kept[: kept.rfind(b"\n") + 1]
    assert 20 <= kept.count(b"\n") < 400
    again = launch(*tiny(data, *several), cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "resuming: " in again.stderr
    assert (run / "records.jsonl").read_bytes().startswith(kept)
    assert without_timing(run) == without_timing(tmp_path / "undisturbed")
    examples = {path.name: path.read_bytes() for path in (run / "examples").iterdir()}
    assert examples == {path.name: path.read_bytes() for path in (tmp_path / "undisturbed" / "examples").iterdir()}
    assert len(examples) == 3

    def by_query(folder: Path) -> list[dict[str, Any]]:
        return sorted(records(folder), key=lambda r: r["query"])

    assert by_query(run) == by_query(tmp_path / "undisturbed")


def test_under_nohup_a_closed_terminal_does_nothing(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", train=12, test=100)
    several = ("experiment.n_queries=100", "batch_tokens=300")
    assert interrupted(tiny(data, *several), tmp_path, 10, signal.SIGHUP, nohup=True) == 0
    assert (tmp_path / "run" / "result.json").exists()


def test_a_deleted_result_is_made_again_from_the_records_without_new_work(tmp_path: Path, data: Path) -> None:
    assert launch(*tiny(data), cwd=tmp_path).returncode == 0
    before, kept = without_timing(tmp_path / "run"), (tmp_path / "run" / "records.jsonl").read_bytes()
    (tmp_path / "run" / "result.json").unlink()
    assert launch(*tiny(data), cwd=tmp_path).returncode == 0
    assert without_timing(tmp_path / "run") == before
    assert (tmp_path / "run" / "records.jsonl").read_bytes() == kept


def test_a_disk_that_is_full_before_the_run_begins_is_named(tmp_path: Path, data: Path) -> None:
    done = subprocess.run(
        command(*tiny(data)),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    )
    assert "the disk is full" in failed_politely(done)


def test_ctrl_c_before_the_first_cell_is_one_line(tmp_path: Path, data: Path) -> None:
    arguments = ("-m", "launcher=local", f"seed=range({10_000})", *tiny(data)[:-1])
    process = subprocess.Popen(command(*arguments), cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.rglob("multirun.yaml")):  # from then on the cells are composed
        assert process.poll() is None, "ended before it could be interrupted"
        time.sleep(0.01)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1].startswith("stopped; finished records are kept")
    assert process.returncode == 130


def test_a_full_disk_is_named_and_what_was_finished_is_kept(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the full disk: a write is cut short, then refused."""
    data = write_dataset(tmp_path / "data", train=12, test=200)
    several = ("experiment.n_queries=200", "batch_tokens=300", "experiment.keep_examples=0")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    process = subprocess.run(
        command(*tiny(data, *several)), cwd=tmp_path, capture_output=True, text=True, preexec_fn=limit, timeout=300
    )
    assert "the disk is full; finished records are kept" in failed_politely(process)
    run = tmp_path / "run"
    assert json.loads((run / "status.json").read_text())["state"] == "failed"
    kept = (run / "records.jsonl").read_bytes()
    assert len(kept) == 20_000
    assert launch(*tiny(data, *several), cwd=tmp_path).returncode == 0
    assert (run / "records.jsonl").read_bytes().startswith(kept[: kept.rfind(b"\n") + 1])
    assert len(records(run)) == 200
