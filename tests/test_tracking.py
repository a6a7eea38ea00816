"""What W&B holds, through W&B's own reader of offline runs; and that its troubles never cost a result."""

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from anchorflow.results import Curve, Result
from anchorflow.tracking import Tracking

NAMES = {"experiment": "saliency", "model": "tiny", "dataset": "sst2", "seed": "42"}
RESULT = Result(
    metrics={"accuracy": 0.25},
    stderr={"accuracy": 0.125},
    curves={
        "S_wp": Curve("layer", [1, 2], [0.5, 0.75]),
        "S_pq": Curve("layer", [1, 2], [0.25, None]),  # type: ignore[list-item]
        "other": Curve("confidence", [0.5], [1.0]),
    },
)


def inspect(folder: Path) -> list[dict[str, Any]]:
    """All that the offline runs in a run directory hold."""
    found = []
    for run in sorted((folder / "wandb").glob("offline-run-*")):
        command = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json", str(run)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found += [json.loads(line) for line in done.stdout.splitlines()]
    return found


def of_kind(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event[kind] for event in events if event["type"] == kind]


def test_a_run_has_an_identity_a_group_scalars_over_their_own_axes_and_metrics_in_its_summary(tmp_path: Path) -> None:
    tracking = Tracking(mode="offline", tags=("mine",))
    with tracking.run(tmp_path, "0123456789abcdef", {"seed": 42, "model": {"name": "tiny"}}, NAMES) as tracker:
        tracker.log(RESULT, [])
    events = inspect(tmp_path)
    (run,) = of_kind(events, "run")
    assert (run["run_id"], run["project"]) == ("0123456789abcdef", "anchorflow")
    assert run["display_name"] == "saliency tiny sst2 seed42"
    assert (run["run_group"], run["job_type"]) == ("saliency tiny sst2", "saliency")
    assert set(run["tags"]) == {"saliency", "tiny", "sst2", "mine"}
    assert run["config"]["update"]["model"] == {"name": "tiny"}
    axes = {m["name"]: m.get("step_metric") for m in of_kind(events, "metric")}
    assert axes["saliency/S_wp"] == axes["saliency/S_pq"] == "layer"
    assert axes["saliency/other"] == "confidence"
    text = json.dumps(events)
    history = [json.loads(json.dumps(h)) for h in of_kind(events, "history")]
    assert len(history) == 3
    assert "saliency/accuracy_stderr" in text
    (exit_,) = of_kind(events, "exit")
    assert exit_.get("exit_code", 0) == 0


def test_an_exception_makes_a_failed_run(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="the work failed"),
        Tracking(mode="offline").run(tmp_path, "f" * 16, {}, NAMES),
    ):
        raise RuntimeError("the work failed")
    (exit_,) = of_kind(inspect(tmp_path), "exit")
    assert exit_["exit_code"] == 1


def test_a_run_that_is_started_again_is_the_same_run(tmp_path: Path) -> None:
    for _ in range(2):
        with Tracking(mode="offline").run(tmp_path, "a" * 16, {}, NAMES):
            pass
    assert {run["run_id"] for run in of_kind(inspect(tmp_path), "run")} == {"a" * 16}


def test_auto_is_offline_without_credentials_and_online_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert Tracking()._mode() == "offline"
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret\n")
    assert Tracking()._mode() == "online"
    (tmp_path / "netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert Tracking()._mode() == "online"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert Tracking()._mode() == "offline"
    assert Tracking(mode="online")._mode() == "online"


def test_a_tracker_that_raises_at_every_turn_is_one_line_each_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import wandb

    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(wandb, "init", lambda **_: Broken())
    with caplog.at_level(logging.WARNING), Tracking(mode="offline").run(tmp_path, "b" * 16, {}, NAMES) as tracker:
        tracker.log(RESULT, [])
    assert "logging failed (OSError" in caplog.text
    assert "the run goes on" in caplog.text


def test_a_tracker_that_cannot_start_online_records_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import wandb

    started = []

    def init(**given: Any) -> Any:
        started.append(given["mode"])
        raise wandb.errors.CommError("no route to host")

    monkeypatch.setattr(wandb, "init", init)
    with caplog.at_level(logging.WARNING), Tracking(mode="online").run(tmp_path, "c" * 16, {}, NAMES) as tracker:
        tracker.log(RESULT, [])
    assert started == ["online", "offline"]
    assert "wandb sync" in caplog.text


def test_none_starts_nothing(tmp_path: Path) -> None:
    with Tracking(mode="none").run(tmp_path, "d" * 16, {}, NAMES) as tracker:
        tracker.log(RESULT, [])
    assert not (tmp_path / "wandb").exists()
