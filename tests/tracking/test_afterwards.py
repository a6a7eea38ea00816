"""A finished run that nobody recorded can be uploaded later, and looks as if it had been tracked."""

import json
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anchorflow.runs import RunDirectory
from anchorflow.tracking import sync
from anchorflow.tracking.fragments import _messages, fragments
from tests.conftest import write_dataset
from tests.launching import launch, tiny
from tests.tracking.fake_wandb import FakeWandb, fake_wandb
from tests.tracking.recorded import inspect, inspect_one, of_kind, summary

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[FakeWandb]:
    with fake_wandb() as server:
        yield server


def uploaded(path: Path, server: FakeWandb, *more: str) -> str:
    command = [sys.executable, "-m", "anchorflow.cli", "sync", *more, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env=server.environment(), timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def shape(folder: Path) -> dict[str, Any]:
    """What can be compared of two recordings."""
    events = inspect(folder)
    (run,) = of_kind(events, "run")
    rows = [{k: v for k, v in row["item"].items() if k[0] != "_"} for row in of_kind(events, "history")]
    config = run["config"]["update"]
    for update in of_kind(events, "config"):
        config |= update["update"]
    return {
        "run": {key: run[key] for key in ("run_id", "project", "run_group", "display_name", "job_type", "tags")},
        "config": {key: value for key, value in config.items() if key not in ("_wandb", "hydra")},
        "curves": [row for row in rows if "layer" in row],
        "metrics": {k: v for k, v in summary(events).items() if k.startswith(("saliency/", "counts/", "curves_hash"))},
        "axes": {m["name"]: m.get("step_metric") for m in of_kind(events, "metric")},
        "artifacts": {
            a["name"].replace(run["run_id"], ""): a["type"]
            for a in of_kind(events, "artifact")
            if a["type"] != "run_table"
        },
        "figures": sorted({k for row in rows for k in row if k.startswith("figures/")}),
    }


def test_a_run_without_a_tracker_is_uploaded_as_if_it_had_had_one(tmp_path: Path, server: FakeWandb) -> None:
    data = write_dataset(tmp_path / "data")
    for mode in ("offline", "none"):
        done = launch(*tiny(data, f"tracking={mode}", "tracking.project=icl", run_dir=mode), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert "to upload: " in uploaded(tmp_path / "none", server, "--dry-run")
    assert not (tmp_path / "none" / "wandb").exists()
    said = uploaded(tmp_path / "none", server)
    identity = json.loads((tmp_path / "none" / "result.json").read_text())["identity"]
    page = f"{server.url}/me/icl/runs/{identity}"
    assert said.splitlines() == [f"uploaded: {tmp_path / 'none'} {page}", "1 uploaded"]
    assert json.loads((tmp_path / "none" / "status.json").read_text())["url"] == page
    assert shape(tmp_path / "none") == shape(tmp_path / "offline")
    assert server.runs[identity].ends == ["finished"]
    assert "1 uploaded before" in uploaded(tmp_path / "none", server)


def test_what_was_only_begun_with_a_tracker_is_completed_from_the_result(tmp_path: Path, server: FakeWandb) -> None:
    data = write_dataset(tmp_path / "data")
    failed = launch(*tiny(data, "tracking=offline", "experiment.backward_dtype=x"), cwd=tmp_path)
    assert failed.returncode != 0
    done = launch(*tiny(data, "tracking=offline"), cwd=tmp_path, MPLCONFIGDIR="/nonexistent/x")
    assert done.returncode == 0, done.stderr
    (log,) = (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")
    log.write_bytes(log.read_bytes()[:-200])  # killed before its end, but after result.json
    assert "(from its result)" in uploaded(tmp_path / "run", server, "--dry-run")
    uploaded(tmp_path / "run", server)
    found = json.loads((tmp_path / "run" / "result.json").read_text())
    run = server.runs[found["identity"]]
    assert [row["layer"] for row in run.history if "layer" in row] == found["curves"]["S_wp"]["at"]
    assert run.summary["saliency/accuracy"] == found["metrics"]["accuracy"]


def test_a_run_that_was_recorded_online_is_left_alone(tmp_path: Path, server: FakeWandb) -> None:
    data = write_dataset(tmp_path / "data")
    done = launch(*tiny(data, "tracking=online"), cwd=tmp_path, WANDB_MODE="online", **server.known())
    assert done.returncode == 0, done.stderr
    assert uploaded(tmp_path / "run", server) == "1 recorded online\n"


def test_a_damaged_result_is_named_and_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in (("a", "{"), ("b", "[]"), ("c", '{"identity": "c", "metrics": {}}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(text)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "status.json").write_text("{}")
    monkeypatch.setattr(sync, "check_access", lambda: None)
    assert sync.sync([tmp_path]) == 1
    said = capsys.readouterr().out.splitlines()
    assert len([line for line in said if line.startswith("failed: ") and "is damaged" in line]) == 2
    assert any(line.startswith(f"failed: {tmp_path}/c (it cannot be recorded: KeyError") for line in said)
    assert said[-1] == "1 without a result, 3 failed"


def test_a_run_whose_process_is_there_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"identity": "a"}')
    assert sync.plan(tmp_path).state == "to upload"
    with RunDirectory(tmp_path).locked():
        assert (sync.plan(tmp_path).state, sync.plan(tmp_path).text) == ("not finished", "(it runs)")
    assert sync.plan(tmp_path).state == "to upload"


def test_the_reader_of_recordings_finds_what_that_of_wandb_finds(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data")
    assert launch(*tiny(data, "tracking=offline"), cwd=tmp_path).returncode == 0
    (fragment,) = fragments(tmp_path / "run")
    whole, events = fragment.read(), inspect(tmp_path / "run")
    assert (whole.rows, whole.code, whole.missing) == (len(of_kind(events, "history")), 0, ())
    assert whole.curves == summary(events)["curves_hash"]
    content = fragment.log.read_bytes()
    assert len(list(_messages(content))) == len(events)
    for cut in (0, 5, 7, 10, len(content) // 3, len(content) // 2):
        fragment.log.write_bytes(content[:cut])
        there = [event for event in inspect_one(fragment.log.parent) if event]
        assert abs(len(list(_messages(content[:cut]))) - len(there)) <= 1, cut
        assert not fragment.read().ended
    fragment.log.write_bytes(content[:7] + b"\xff" * 500)
    assert fragment.read().rows == 0


def test_a_hundred_runs_are_looked_at_in_seconds(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data")
    assert launch(*tiny(data, "tracking=offline"), cwd=tmp_path).returncode == 0
    for number in range(100):
        shutil.copytree(tmp_path / "run", tmp_path / "all" / str(number), symlinks=True)
    began = time.process_time()
    planned = [sync.plan(folder) for folder in sorted((tmp_path / "all").iterdir())]
    assert {run.state for run in planned} == {"to upload"}
    assert time.process_time() - began < 10


def test_groups_of_a_sweep_are_cells(tmp_path: Path) -> None:
    """3 shots × 2 models × 2 data sets × 2 seeds: 12 groups of 2 seeds, by name and by settings."""
    for name, size in (("one", 12), ("two", 14)):
        write_dataset(tmp_path / name / "data", train=size)
    paths = ",".join(str(tmp_path / name / "data") for name in ("one", "two"))
    done = launch(
        *("-m", "model=tiny", "model.layers=1,2", "dataset=local", f"dataset.path={paths}", "launcher=local"),
        *("experiment=classification", "experiment.n_queries=3", "experiment.shots_per_class=1,2,3", "seed=1,2"),
        *("tracking=offline", "device=cpu", f"hydra.sweep.dir={tmp_path / 'outputs'}"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    names = set()
    folders = [path.parent for path in (tmp_path / "outputs").rglob("result.json")]
    for folder in folders:
        (run,) = of_kind(inspect(folder), "run")
        names.add(run["display_name"])
        assert run["config"]["update"]["cell"] == run["run_group"]
        groups[run["run_group"]].append(run["config"]["update"])
    assert (len(folders), len(names), len(groups)) == (24, 24, 12)
    for configs in groups.values():
        assert sorted(config["seed"] for config in configs) == [1, 2]
        same = [(c["model"]["layers"], c["dataset"]["path"], c["shots_per_class"]) for c in configs]
        assert same[0] == same[1]
