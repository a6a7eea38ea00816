"""What a run tells while it computes, and when it fails; curves are there once, whatever came in between."""

import contextlib
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anchorflow.experiments import QUERY
from anchorflow.results import Curve, Result
from anchorflow.runs import RunDirectory
from anchorflow.tracking import Content, Followed, Progress, Tracking, recording, tracker
from anchorflow.tracking.progress import is_right
from tests.conftest import write_dataset
from tests.launching import launch, tiny
from tests.tracking.fake_wandb import FakeWandb, fake_wandb
from tests.tracking.recorded import (
    CONFIG,
    HISTORY,
    NAMES,
    RESULT,
    SETTINGS,
    content,
    history,
    inspect,
    inspect_one,
    of_kind,
    summary,
)

SHOWN = (CONFIG, NAMES, SETTINGS)


def query(number: int, label: int, *probs: float) -> dict[str, Any]:
    return {"query": number, "label": label, "variants": {"full": {"probs": list(probs)}, "other": {"probs": [0, 0]}}}


def test_a_record_says_whether_it_is_right_or_nothing() -> None:
    repetition = {"labels": [0, 1], "regimes": {"default": {"log_probabilities": [[-9, -1], [-2, -1]]}}}
    assert is_right(query(0, 1, 0.2, 0.8)) is True
    assert is_right(query(0, 0, 0.2, 0.8)) is False
    assert is_right(repetition) is True
    assert is_right({"repetition": 1, "examples": []}) is None
    assert is_right({"query": 3, "skipped": "too long"}) is None


def test_progress_counts_what_was_there_before_and_passes_everything_on(tmp_path: Path) -> None:
    class Recorder:
        url = "there"

        def __init__(self) -> None:
            self.told: list[Progress] = []

        def log(self, content: Content) -> None: ...

        def progress(self, progress: Progress) -> None:
            self.told.append(progress)

        def __enter__(self) -> "Recorder":
            return self

        def __exit__(self, *how: object) -> None: ...

    directory, ours = RunDirectory(tmp_path, QUERY.key), Recorder()
    directory.append([query(0, 1, 0.1, 0.9)])
    with recording(lambda: ours) as recorder:
        store = Followed(directory, recorder)
        assert (len(store.records()), store.elsewhere(), store.run, recorder.url) == (1, [], tmp_path, "there")
        store.append([query(1, 1, 0.9, 0.1), query(2, 1, 0.1, 0.9), query(3, 0, 0.1, 0.9)])
        store.progress(4, 10, 2.0)
        store.progress(4, 10, 0.0)
    assert ours.told == [Progress(4, 10, 2.0, 3.0, 0.5), Progress(4, 10, 0.0, None, 0.5)]
    assert len(directory.records()) == 4


def test_a_tracker_that_fails_at_progress_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    class Deaf:
        def __enter__(self) -> "Deaf":
            return self

        def __exit__(self, *how: object) -> None: ...

        def log(self, content: Content) -> None: ...

        def progress(self, progress: Progress) -> None:
            raise OSError("no luck")

    with recording(Deaf) as recorder:
        for done in range(3):
            recorder.progress(Progress(done, 3, 1.0))
    assert caplog.text.count("no luck") == 1


@pytest.mark.slow
def test_progress_and_log_of_a_run_and_why_it_failed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with contextlib.suppress(RuntimeError), Tracking(mode="offline").run(tmp_path, "f" * 16, *SHOWN) as recorder:
        logging.getLogger("anchorflow.runs").info("model: tiny")
        logging.getLogger("wandb.sdk").warning("of no interest")
        recorder.progress(Progress(1, 4, 2.0, 1.5, 1.0))
        recorder.progress(Progress(2, 4, 2.0, 1.0, 0.5))  # too soon after the first
        raise RuntimeError("out of luck\nand so on")
    logging.getLogger("anchorflow.runs").info("after the run")
    events = inspect(tmp_path)
    found = summary(events)
    told = {key: value for key, value in found.items() if key.startswith("progress/")}
    assert told == {
        "progress/done": 1,
        "progress/total": 4,
        "progress/per_s": 2,
        "progress/left_s": 1.5,
        "progress/accuracy": 1,
    }
    (line,) = of_kind(events, "output_logger")
    assert line["line"].endswith("INFO model: tiny\n")
    assert found["error"] == "RuntimeError: out of luck and so on"
    assert found["traceback"].startswith("Traceback")
    (path,) = (tmp_path / "wandb").glob("offline-run-*/files/traceback.txt")
    assert path.read_text() == found["traceback"]
    assert "traceback.txt" in [file["path"] for each in of_kind(events, "files") for file in each["files"]]
    assert of_kind(events, "exit")[0]["exit_code"] == 1


@pytest.mark.slow
def test_uncommitted_changes_of_the_code_are_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker, "_uncommitted", lambda: "--- a\n+++ b\n")
    with Tracking(mode="offline").run(tmp_path, "f" * 16, *SHOWN):
        pass
    (path,) = (tmp_path / "wandb").glob("offline-run-*/files/diff.patch")
    assert path.read_text() == "--- a\n+++ b\n"


def test_changes_are_asked_of_git_in_a_checkout_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    monkeypatch.setattr(tracker, "CODE", tmp_path)
    assert tracker._uncommitted() == ""
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b")
    for arguments in (("init", "-q"), ("add", "a"), ("commit", "-qm", "a")):
        (tmp_path / "a").write_text("1\n")
        subprocess.run([*git, *arguments], cwd=tmp_path, check=True)
    assert tracker._uncommitted() == ""
    (tmp_path / "a").write_text("2\n")
    assert "-1\n+2" in tracker._uncommitted()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tracker._uncommitted() == ""


@pytest.mark.slow
def test_other_numbers_under_one_identity_are_another_run(tmp_path: Path) -> None:
    """The code was changed and result.json deleted: old points must not stay beside the new ones."""
    changed = Result({}, curves={**RESULT.curves, "S_wp": Curve("layer", [1, 2], [0.0, 0.75])})
    for shown in (RESULT, changed, RESULT):
        with Tracking(mode="offline").run(tmp_path, "a" * 16, *SHOWN) as recorder:
            recorder.log(replace(content(tmp_path), result=shown))
    found: dict[str, list[Any]] = {}
    for fragment in sorted((tmp_path / "wandb").glob("offline-run-*")):
        events = inspect_one(fragment)
        found.setdefault(of_kind(events, "run")[0]["run_id"], []).extend(history(events))
    first, other = found
    assert (first, other.startswith("a" * 16 + "-")) == ("a" * 16, True)
    assert found[first] == HISTORY
    assert [row.get("saliency/S_wp") for row in found[other]] == [0.0, 0.75, None]


@pytest.fixture
def server():  # type: ignore[no-untyped-def]
    with fake_wandb() as server:
        yield server


@pytest.mark.slow
def test_online_again_leaves_each_point_once_and_the_page_is_in_the_status(tmp_path: Path, server: FakeWandb) -> None:
    data = write_dataset(tmp_path / "data")
    for _ in range(2):
        done = launch(*tiny(data, "tracking=online"), cwd=tmp_path, WANDB_MODE="online", **server.known())
        assert done.returncode == 0, done.stderr
        (tmp_path / "run" / "result.json").rename(tmp_path / "result.json")
    found = json.loads((tmp_path / "result.json").read_text())
    run = server.runs[found["identity"]]
    layers = [row["layer"] for row in run.history if "layer" in row]
    assert layers == found["curves"]["S_wp"]["at"]
    assert [row["depth"] for row in run.history if "layer" in row] == [i / len(layers) for i in layers]
    assert run.ends == ["finished", "finished"]
    assert run.summary["progress/done"] == 6
    page = f"{server.url}/me/anchorflow/runs/{found['identity']}"
    assert f"W&B: {page}" in done.stderr
    assert json.loads((tmp_path / "run" / "status.json").read_text())["url"] == page


@pytest.mark.slow
def test_an_agent_of_a_sweep_is_told_also_by_a_run_that_is_complete(tmp_path: Path, server: FakeWandb) -> None:
    data = write_dataset(tmp_path / "data")
    for run_id in ("agents1", "agents2"):
        told = {"WANDB_SWEEP_ID": "sweep", "WANDB_RUN_ID": run_id, "WANDB_PROJECT": "p", **server.known()}
        done = launch(*tiny(data, "tracking=online"), cwd=tmp_path, WANDB_MODE="online", **told)
        assert done.returncode == 0, done.stderr
        assert "wandb:" not in done.stderr
    assert "already complete" in done.stderr
    found = json.loads((tmp_path / "run" / "result.json").read_text())
    assert set(server.runs) == {"agents1", "agents2"}
    for run in server.runs.values():
        assert run.summary["saliency/accuracy"] == found["metrics"]["accuracy"]
        assert [row["layer"] for row in run.history if "layer" in row] == found["curves"]["S_wp"]["at"]
        assert run.fields["sweep"] == "sweep"


def test_an_agent_that_cannot_be_told_costs_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from anchorflow.tracking import tell_agent

    tell_agent(Tracking(mode="offline"), tmp_path)
    assert not caplog.text
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    tell_agent(Tracking(mode="offline"), tmp_path)
    assert "tracker: the agent's run could not be logged (FileNotFoundError" in caplog.text
