"""What W&B holds, through W&B's own reader of offline runs and a server in miniature; its troubles cost no result."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anchorflow.results import Curve, Result
from anchorflow.tracking import Content, Names, Tracking, tracker
from anchorflow.tracking.samples import Sample
from tests.conftest import ROOT, write_dataset
from tests.tracking.fake_wandb import KEY, FakeWandb, fake_wandb
from tests.tracking.recorded import (
    CONFIG,
    DESCRIBED,
    HISTORY,
    NAMES,
    SETTINGS,
    content,
    history,
    inspect,
    inspect_one,
    of_kind,
    summary,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[FakeWandb]:
    with fake_wandb() as server:
        yield server


def launch(data: Path, *overrides: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(data, *overrides), capture_output=True, text=True, timeout=200, env={**os.environ, **environment}
    )


def command(data: Path, *overrides: str) -> list[str]:
    local = (f"dataset.path={data}", f"hydra.run.dir={data.parent / 'run'}", "device=cpu", "experiment.n_queries=6")
    return [sys.executable, str(ROOT / "launch.py"), "model=tiny", "dataset=local", *local, *overrides]


def troubles(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What was said of the tracker, in a run that is complete all the same and shows no traceback."""
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "wandb:" not in done.stderr
    return [line for line in done.stderr.splitlines() if line.startswith("tracker: ") or "ailed" in line]


def test_a_run_has_an_identity_a_group_settings_to_filter_on_and_scalars_over_their_own_axes(tmp_path: Path) -> None:
    with Tracking(mode="offline", tags=("mine",)).run(tmp_path, "0123456789abcdef", CONFIG, NAMES, SETTINGS) as tracker:
        tracker.log(content(tmp_path))
    events = inspect(tmp_path)
    (run,) = of_kind(events, "run")
    assert (run["run_id"], run["project"], run["resume"]) == ("0123456789abcdef", "anchorflow", True)
    assert run["display_name"] == "saliency tiny sst2 n_queries=2 seed42 0a1b2c3d"
    assert (run["run_group"], run["job_type"]) == ("saliency tiny sst2 n_queries=2 0a1b2c3d", "saliency")
    assert set(run["tags"]) == {"saliency", "tiny", "sst2", "mine"}
    config = run["config"]["update"]
    assert (config["seed"], config["shots_per_class"], config["n_queries"]) == (42, 1, 2)
    assert (config["experiment_name"], config["model_name"], config["dataset_name"]) == ("saliency", "tiny", "sst2")
    assert (config["model"]["name"], config["cell"]) == ("tiny", run["run_group"])
    assert "tracking" not in config
    assert {m["name"]: m.get("step_metric") for m in of_kind(events, "metric")} == {
        "layer": None,
        "depth": None,
        "confidence": None,
        "saliency/S_wp": "layer",
        "saliency/S_pq": "layer",
        "saliency/other": "confidence",
    }
    assert all(m["summary"] == {"none": True} for m in of_kind(events, "metric"))
    assert history(events) == HISTORY
    found = summary(events)
    assert {name: value for name, value in found.items() if name.startswith("saliency/")} == {
        "saliency/accuracy": 0.25,
        "saliency/accuracy_stderr": 0.125,
    }
    assert (found["tables/confusion.nrows"], found["tables/confusion.ncols"]) == (2, 3)
    assert (found["tables/records.nrows"], found["tables/records.ncols"]) == (2, 2)
    (exit_,) = of_kind(events, "exit")
    assert exit_["exit_code"] == 0
    assert {key: found[key] for key in ("timing/run_s", "counts/queries", "counts/skipped", "notes")} == {
        "timing/run_s": 2.5,
        "counts/queries": 2,
        "counts/skipped": 0,
        "notes": "",
    }
    (update,) = of_kind(events, "config")
    assert update["update"] == {key: value for key, value in DESCRIBED["environment"].items() if key != "layers"}


def test_seeds_that_share_repetitions_have_no_band_over_them_but_one_each(tmp_path: Path) -> None:
    """Mean -+ standard error over a run's own repetitions; and a group for each seed, or W&B would draw one over seeds."""
    names = Names("label_relationships", "tiny", "sst2", 42, replicates=False)
    accuracy = Curve("n_demonstrations", [0, 1], [0.5, 0.75], [0.25, float("nan")])
    result = Result({}, curves={"default/accuracy": accuracy, "bare": Curve("n_demonstrations", [0], [1.0])})
    shown = Content(result=result, sample=Sample(["x"], []), dataset={"name": "sst2"})
    with Tracking(mode="offline").run(tmp_path, "0123456789abcdef", CONFIG, names, SETTINGS) as tracker:
        tracker.log(shown)
    events = inspect(tmp_path)
    (run,) = of_kind(events, "run")
    assert run["run_group"] == run["display_name"] == "label_relationships tiny sst2 seed42"
    assert run["config"]["update"]["cell"] == "label_relationships tiny sst2"
    prefix = "label_relationships/default/accuracy"
    axes = {m["name"]: m.get("step_metric") for m in of_kind(events, "metric")}
    assert {axes[f"{prefix}{edge}"] for edge in ("", "_low", "_high")} == {"n_demonstrations"}
    rows = [{k: v for k, v in row["item"].items() if k.startswith(prefix)} for row in of_kind(events, "history")]
    assert [row for row in rows if row] == [
        {prefix: 0.5, f"{prefix}_low": 0.25, f"{prefix}_high": 0.75},
        {prefix: 0.75},
    ]
    assert "label_relationships/bare_low" not in axes


def test_tables_and_artifacts_are_files_with_the_run(tmp_path: Path) -> None:
    with Tracking(mode="offline").run(tmp_path, "0" * 16, CONFIG, NAMES, SETTINGS) as tracker:
        tracker.log(content(tmp_path))
    artifacts = {artifact["name"]: artifact for artifact in of_kind(inspect(tmp_path), "artifact")}
    files = {name: found["manifest"]["contents"][0] for name, found in artifacts.items()}
    assert artifacts["sst2"]["type"] == "dataset"
    assert json.loads(Path(files["sst2"]["local_path"]).read_text()) == {"name": "sst2"}
    assert artifacts["sst2"]["use_after_commit"] is True, "the data is an input"
    beta, records = "beta-tiny-sst2-0a1b2c3d", "records-saliency-tiny-sst2-0a1b2c3d"
    assert artifacts[beta]["type"] == "beta"
    assert set(artifacts[beta]["aliases"]) == {"seed42", "latest"}
    assert files[beta]["local_path"] == str(tmp_path / "beta.safetensors")
    assert "use_after_commit" not in artifacts[beta]
    assert files[records]["local_path"] == str(tmp_path / "records.jsonl"), "all records, not the first ones"
    described = artifacts[records]["manifest"]["contents"][1]
    assert json.loads(Path(described["local_path"]).read_text()) == DESCRIBED
    assert all(Path(file["local_path"]).is_relative_to(tmp_path) for file in files.values())
    tables = {
        file["path"]: json.loads(Path(file["local_path"]).read_text())
        for file in files.values()
        if file["path"].startswith("tables/")
    }
    assert tables["tables/records.table.json"]["data"][0] == [3, "Review: <script>alert(1)</script>"]
    assert tables["tables/confusion.table.json"]["columns"] == ["row", "no", "yes"]
    assert tables["tables/confusion.table.json"]["data"] == [["no", 1, 0], ["yes", 0.5, 0.5]]
    assert "WANDB_DATA_DIR" not in os.environ


@pytest.mark.parametrize(("end", "preempted"), [(RuntimeError, False), (KeyboardInterrupt, True), (SystemExit, True)])
def test_an_exception_makes_a_failed_run_and_a_signal_or_an_exit_a_preempted_one(
    tmp_path: Path, end: type[BaseException], preempted: bool
) -> None:
    with pytest.raises(end), Tracking(mode="offline").run(tmp_path, "f" * 16, CONFIG, NAMES, SETTINGS):
        raise end
    events = inspect(tmp_path)
    assert of_kind(events, "exit")[0]["exit_code"] == 1
    assert bool(of_kind(events, "preempting")) is preempted


def test_a_run_that_is_made_again_is_the_same_run_and_its_history_is_there_once(tmp_path: Path) -> None:
    for _ in range(2):
        with Tracking(mode="offline").run(tmp_path, "a" * 16, CONFIG, NAMES, SETTINGS) as tracker:
            tracker.log(content(tmp_path))
    events = inspect(tmp_path)
    assert [run["run_id"] for run in of_kind(events, "run")] == ["a" * 16] * 2
    assert history(events) == HISTORY


def test_auto_is_offline_without_credentials_and_online_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert Tracking().resolved() == "offline"
    for machine, mode in (
        ("api.forge.coreweave.com", "online"),
        ("api.wandb.ai", "online"),
        ("example.org", "offline"),
    ):
        (tmp_path / "netrc").write_text(f"machine {machine} login user password secret\n")
        assert Tracking().resolved() == mode
    (tmp_path / "netrc").write_text("garbage")
    assert Tracking().resolved() == "offline"
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert Tracking().resolved() == "online"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert Tracking().resolved() == "offline"
    assert Tracking(mode="online").resolved() == "online"
    assert Tracking(mode="none").resolved() == "disabled"


def test_none_starts_nothing(tmp_path: Path) -> None:
    with Tracking(mode="none").run(tmp_path, "d" * 16, CONFIG, NAMES, SETTINGS) as tracker:
        tracker.log(content(tmp_path))
    assert not (tmp_path / "wandb").exists()


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
        "tracker: W&B failed (OSError: [Errno 28] No space left on device and so on); the run goes on without it"
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


def test_the_command_line_tells_a_server_all_of_a_run(tmp_path: Path, server: FakeWandb) -> None:
    data = write_dataset(tmp_path / "data")
    assert troubles(launch(data, "experiment=reweighting", "tracking=online", **server.environment())) == []
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    run = server.runs[result["identity"]]
    assert run.ends == ["finished"]
    assert run.summary["reweighting/gain"] == result["metrics"]["gain"]
    losses = [row["reweighting/train_loss"] for row in run.history if "reweighting/train_loss" in row]
    assert losses == result["curves"]["train_loss"]["values"]
    assert {("dataset", "local"), ("beta", "beta-tiny-local")} <= {
        (kind, re.sub("-[0-9a-f]{8}$", "", name)) for kind, name in server.artifacts
    }
    assert any("figures/train_loss" in row and "tables/records" in row for row in run.history)


def test_a_bad_key_is_one_line(tmp_path: Path, server: FakeWandb) -> None:
    data = write_dataset(tmp_path / "data")
    (line,) = troubles(launch(data, "tracking=online", **server.environment(key="x" * 40)))
    assert "401" in line
    assert "invalid api key" in line
    assert f"anchorflow sync {tmp_path / 'run'}" in line
    assert of_kind(inspect(tmp_path / "run"), "exit")[0]["exit_code"] == 0


def test_a_place_that_cannot_be_written_to_is_one_line(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "wandb").write_text("in the way")
    (line,) = troubles(launch(data, "tracking=offline"))
    assert "tracker: W&B failed (NotADirectoryError: " in line


def test_a_killed_and_resumed_run_is_one_run_with_its_history_once(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", train=60, test=70)
    several = ("experiment.n_queries=70", "batch_tokens=300", "tracking=offline")
    run = tmp_path / "run"
    for ended_by in (signal.SIGKILL, signal.SIGTERM):
        before = written(run)
        process = subprocess.Popen(command(data, *several), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while written(run) < before + 20:
            assert process.poll() is None, "ended before it could be interrupted"
            time.sleep(0.005)
        process.send_signal(ended_by)
        process.wait(timeout=60)
    assert of_kind(inspect(run), "preempting")
    assert troubles(launch(data, *several)) == []
    attempts = [inspect_one(fragment) for fragment in sorted((run / "wandb").glob("offline-run-*"))]
    killed, stopped, last = attempts
    result = json.loads((run / "result.json").read_text())
    assert {run["run_id"] for events in attempts for run in of_kind(events, "run")} == {result["identity"]}
    assert not of_kind(killed, "exit")
    assert [of_kind(events, "exit")[0]["exit_code"] for events in (stopped, last)] == [1, 0]
    assert summary(last)["saliency/accuracy"] == result["metrics"]["accuracy"]
    shares = [row["item"] for events in attempts for row in of_kind(events, "history") if "layer" in row["item"]]
    assert [row["layer"] for row in shares] == result["curves"]["S_wp"]["at"]
    assert [row["saliency/S_wp"] for row in shares] == pytest.approx(result["curves"]["S_wp"]["values"])


def written(run: Path) -> int:
    path = run / "records.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0
