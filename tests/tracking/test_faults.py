"""W&B in trouble costs no result: one line, and what can be kept is kept."""

import logging
from pathlib import Path
from typing import Any

import pytest

from anchorflow.tracking import Tracking, sync, tracker
from tests.tracking.fake_wandb import KEY, fake_wandb
from tests.tracking.recorded import CONFIG, HISTORY, NAMES, SETTINGS, content, history, inspect, inspect_one, of_kind

pytestmark = pytest.mark.slow


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What a user sees (W&B's own logger goes to its files)."""
    ours = [record for record in caplog.records if record.name.startswith("anchorflow")]
    return [record.getMessage() for record in ours if record.levelno >= logging.WARNING]


class Broken:
    """A W&B run that does what the real one does, but for one thing."""

    def __init__(self, run: Any, at: str) -> None:
        self._run = run
        self._at = at

    def __getattr__(self, name: str) -> Any:
        if name == self._at:
            raise OSError(28, "No space left on device\nand so on")
        return getattr(self._run, name)


@pytest.mark.parametrize("at", ["log", "define_metric", "summary", "log_artifact", "finish"])
def test_a_fault_in_the_middle_is_one_line_and_the_next_run_is_not_touched_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, at: str
) -> None:
    import wandb

    init = wandb.init
    with monkeypatch.context() as patch:
        patch.setattr(wandb, "init", lambda **given: Broken(init(**given), at))
        with Tracking(mode="offline").run(tmp_path, "b" * 16, CONFIG, NAMES, SETTINGS) as tracker:
            tracker.log(content(tmp_path))
            tracker.log(content(tmp_path))
    (line,) = warnings(caplog)
    assert line == (
        "tracker: W&B failed (OSError: [Errno 28] No space left on device and so on); the run continues without it"
    )
    (tmp_path / "next").mkdir()
    with Tracking(mode="offline").run(tmp_path / "next", "c" * 16, CONFIG, NAMES, SETTINGS) as tracker:
        tracker.log(content(tmp_path))
    events = inspect(tmp_path / "next")
    assert [run["run_id"] for run in of_kind(events, "run")] == ["c" * 16]
    assert history(events) == HISTORY


def test_a_full_disk_under_the_log_of_wandb_is_no_news(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Full:
        def write(self, text: str) -> None:
            raise OSError(28, "No space left on device")

    with Tracking(mode="offline").run(tmp_path, "b" * 16, CONFIG, NAMES, SETTINGS):
        handlers = [h for h in logging.getLogger("wandb").handlers if isinstance(h, logging.FileHandler)]
        assert handlers
        for handler in handlers:
            handler.stream.close()
            handler.stream = Full()  # type: ignore[assignment]
        logging.getLogger("wandb").info("a line for debug.log")
    assert "Logging error" not in capfd.readouterr().err


def test_what_fails_online_is_recorded_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import wandb

    init = wandb.init

    def only_offline(**given: Any) -> Any:
        if given["mode"] == "offline":
            return init(**given)
        return Broken(init(**{**given, "mode": "offline", "id": "online"}), "log")

    monkeypatch.setattr(wandb, "init", only_offline)
    with Tracking(mode="online").run(tmp_path, "e" * 16, CONFIG, NAMES, SETTINGS) as tracker:
        tracker.log(content(tmp_path))
    (line,) = warnings(caplog)
    assert line.startswith("tracker: W&B failed online (OSError: ")
    assert line.endswith(f"recording offline, upload later with: anchorflow sync {tmp_path}")
    events = [event for log in (tmp_path / "wandb").glob(f"*-{'e' * 16}") for event in inspect_one(log)]
    assert history(events) == HISTORY
    assert of_kind(events, "exit")[0]["exit_code"] == 0


def test_an_unreachable_server_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import wandb

    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody is there
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(tracker, "INIT_TIMEOUT_S", 2)
    wandb.teardown()
    try:
        with Tracking(mode="online").run(tmp_path, "a" * 16, CONFIG, NAMES, SETTINGS) as recording:
            recording.log(content(tmp_path))
    finally:
        monkeypatch.undo()
        wandb.teardown()
    (line,) = warnings(caplog)
    assert line.startswith("tracker: W&B failed online (CommError: ")
    assert "connection refused" in line
    assert history(inspect(tmp_path)) == HISTORY


def test_a_project_that_one_may_not_write_to_is_one_line_and_the_run_is_uploaded_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import wandb

    wandb.teardown()
    with fake_wandb() as server:
        for name, value in server.known().items():
            monkeypatch.setenv(name, value)
        server.refused = {"a" * 16}
        with Tracking(mode="online").run(tmp_path, "a" * 16, CONFIG, NAMES, SETTINGS) as recording:
            recording.log(content(tmp_path))
        (line,) = warnings(caplog)
        assert line.startswith("tracker: W&B failed online (CommError: ")
        assert "permission denied" in line
        server.refused = set()
        (tmp_path / "status.json").write_text("{}")
        assert sync.sync([tmp_path]) == 0
        wandb.teardown()
    run = server.runs["a" * 16]
    assert run.ends == ["finished"]
    assert [row["layer"] for row in run.history if "layer" in row] == [1, 2]
