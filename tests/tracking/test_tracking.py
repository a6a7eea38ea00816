"""What W&B holds, through W&B's own reader of offline runs."""

import json
import os
from pathlib import Path

import pytest

from anchorflow.results import Curve, Result
from anchorflow.tracking import Content, Names, Tracking
from anchorflow.tracking.samples import Sample
from tests.tracking.fake_wandb import KEY
from tests.tracking.recorded import (
    CONFIG,
    DESCRIBED,
    HISTORY,
    NAMES,
    SETTINGS,
    content,
    history,
    inspect,
    of_kind,
    summary,
)

pytestmark = pytest.mark.slow


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
