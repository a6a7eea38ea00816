"""Runs that nobody needs: those that never began leave nothing, `anchorflow clean` removes others after showing them."""

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from anchorflow import cli
from anchorflow.runs import RunDirectory
from anchorflow.sweep import composition, entry

RUN = Path("saliency", "tiny", "sst2")


def made(folder: Path, name: str, result: dict[str, Any] | None = None, **status: Any) -> Path:
    path = folder / RUN / name
    path.mkdir(parents=True)
    (path / "status.json").write_text(json.dumps(status))
    if result is not None:
        (path / "result.json").write_text(json.dumps({"identity": "a", "metrics": {}, **result}))
    return path


def of_version(version: int, **more: Any) -> dict[str, Any]:
    return {"identity_of": {"experiment": {"version": version}, "seed": 1, **more}}


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, Path]:
    found = {
        "failed": made(tmp_path, "failed", state="failed", error="it broke"),
        "lost": made(tmp_path, "lost", state="running", job_id=None),
        "old": made(tmp_path, "old", of_version(1), state="completed"),
        "new": made(tmp_path, "new", of_version(2), state="completed"),
        "another": made(tmp_path, "another", of_version(1, dtype="float64"), state="completed"),
        "unknown": made(tmp_path, "unknown", {}, state="completed"),
        "stopped": made(tmp_path, "stopped", state="preempted"),
    }
    import socket

    (found["lost"] / "status.json").write_text(json.dumps({"state": "running", "host": socket.gethostname()}))
    (found["failed"] / "records.jsonl").write_text("{}\n{}\n")
    return found


def test_clean_shows_and_removes_what_nobody_needs(
    tmp_path: Path, runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["clean", str(tmp_path)]) == 2
    assert "the confirmation needs a terminal; add --yes" in capsys.readouterr().err
    assert all(path.exists() for path in runs.values())
    assert cli.main(["clean", str(tmp_path), "--yes"]) == 0
    shown = capsys.readouterr().out
    assert "failed, with 2 records: it broke" in shown
    assert "lost: its process is gone" in shown
    assert "superseded: version 1; a result of version 2 exists" in shown
    assert "removed 3 runs" in shown
    assert {name for name, path in runs.items() if path.exists()} == {"new", "another", "unknown", "stopped"}
    assert cli.main(["clean", str(tmp_path)]) == 0
    assert "no failed, lost or superseded run" in capsys.readouterr().out


@pytest.mark.parametrize(("answer", "left"), [("n", True), ("", True), ("y", False)])
def test_clean_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, left: bool) -> None:
    folder = made(tmp_path, "failed", state="failed")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: answer)
    assert cli.main(["clean", str(tmp_path)]) == int(left)
    assert folder.exists() == left
    assert (tmp_path / "saliency").exists() == left


def test_a_run_that_was_refused_before_it_started_leaves_no_directory(tmp_path: Path) -> None:
    folder = tmp_path / RUN / "seed1"
    composition.MakeFolder._make(OmegaConf.create({"hydra": {"run": {"dir": str(folder)}}}), "hydra.run.dir")
    (folder / ".hydra").mkdir()
    (folder / "launch.log").write_text("")
    RunDirectory(folder).report("failed", error="a typo")
    entry._leave_nothing(folder)
    assert not list(tmp_path.iterdir())
    own = made(tmp_path, "own", state="failed", progress={"done": 0, "total": None})
    entry._leave_nothing(own)
    assert own.exists()
