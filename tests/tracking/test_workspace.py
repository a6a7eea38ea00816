"""The pages that are made in W&B: what a server gets of them, through the real library, and again."""

import importlib.util
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anchorflow import cli
from tests.report.made_up import known, made_up
from tests.report.runs import write_run
from tests.tracking.fake_wandb import FakeWandb, Run, fake_wandb

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the library uses what pydantic calls outdated
]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeWandb]:
    import wandb

    wandb.teardown()
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_PROJECT", "icl")
    with fake_wandb() as server:
        for name, value in server.known().items():
            monkeypatch.setenv(name, value)
        yield server
        wandb.teardown()


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    for experiment in ("saliency", "label_relationships"):
        for seed in (1, 2):
            result = made_up(experiment, known())
            tested = {"default_minus_random": 0.25, "default_minus_random_p": 0.5} if "label" in experiment else {}
            result = replace(result, metrics={**result.metrics, "accuracy": 0.5, **tested})
            write_run(tmp_path / f"{experiment}{seed}", experiment, result, seed=seed)
    return tmp_path


def spec(server: FakeWandb, name: str) -> dict[str, Any]:
    (found,) = [view for view in server.views.values() if view["displayName"] == name]
    content: dict[str, Any] = json.loads(found["spec"])
    return content


def plots(panels: list[dict[str, Any]]) -> dict[tuple[str | None, str], dict[str, Any]]:
    """What the panels are made of, by axis (none of bars) and title."""
    return {(panel["config"].get("xAxis"), panel["config"]["chartTitle"]): panel["config"] for panel in panels}


def test_views_and_a_report_are_made_and_made_anew(
    outputs: Path, server: FakeWandb, capsys: pytest.CaptureFixture[str]
) -> None:
    server.runs["a"] = Run(fields={"project": "icl"})
    assert cli.main(["workspace", str(outputs)]) == 0
    said = capsys.readouterr()
    place = f"{server.url}/me/icl"
    assert said.out.splitlines() == [
        f"report: {place}/reports/anchorflow-report--view0",
        f"label_relationships: {place}?nw=anchorflowlabelrelationships",
        f"saliency: {place}?nw=anchorflowsaliency",
    ]
    assert said.err == ""

    (runs,) = spec(server, "anchorflow: saliency")["section"]["runSets"]
    assert runs["filters"]["filters"][0]["value"] == "saliency"
    assert runs["grouping"] == [{"section": "config", "name": "cell.value"}], "a mean is over seeds alone"
    assert "summary:saliency/accuracy" in runs["runFeed"]["columnPinned"]
    sections = spec(server, "anchorflow: saliency")["section"]["panelBankConfig"]["sections"]
    assert [section["name"] for section in sections] == ["headline", "over layer", "over depth"]
    lines = plots([panel for section in sections for panel in section["panels"]])
    shares = ["saliency/S_wp_share", "saliency/S_pq_share", "saliency/S_ww_share"]
    for axis in ("layer", "depth"):
        drawn = lines[axis, "share of saliency"]
        assert (drawn["metrics"], drawn["groupAgg"], drawn["groupArea"]) == (shares, "mean", "stderr")
    assert lines[None, "saliency/accuracy"]["groupArea"] == "stderr"

    blocks = [block for block in spec(server, "anchorflow report")["blocks"] if "metadata" in block]
    of_labels, hypotheses, of_saliency = (block["metadata"] for block in blocks)
    assert plots(of_saliency["panelBankSectionConfig"]["panels"]).keys() == lines.keys()
    (runs,) = of_labels["runSets"]
    assert runs["grouping"] == [], "its seeds are no replicates"
    curves = plots(of_labels["panelBankSectionConfig"]["panels"])["n_demonstrations", "accuracy"]
    default = "label_relationships/default/accuracy"
    assert curves["metrics"][:3] == [default, f"{default}_low", f"{default}_high"]
    assert "groupArea" not in curves
    (runs,) = hypotheses["runSets"]
    difference = "summary:label_relationships/default_minus_random"
    assert {difference, f"{difference}_p"} <= runs["runFeed"]["columnVisible"].keys()
    bars = plots(hypotheses["panelBankSectionConfig"]["panels"])
    assert (None, "label_relationships/default_minus_random") in bars
    assert not any(title.endswith("_p") for _, title in bars)

    earlier = dict(server.views)
    write_run(outputs / "new", "classification", made_up("classification", known()))
    assert cli.main(["workspace", str(outputs)]) == 0
    links = capsys.readouterr().out.splitlines()
    assert links == [
        said.out.splitlines()[0],
        f"classification: {place}?nw=anchorflowclassification",
        *said.out.splitlines()[1:],
    ]
    assert earlier.keys() < server.views.keys()
    assert len(server.views) == 4
    assert len(spec(server, "anchorflow report")["blocks"]) > len(json.loads(earlier["view0"]["spec"])["blocks"])


def test_a_project_that_is_not_there_is_named(
    outputs: Path, server: FakeWandb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["workspace", str(outputs)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: W&B did not accept the pages for me/icl (")
    assert "anchorflow sync" in said
    assert not server.views


def test_a_project_that_one_may_not_write_to_is_named(
    outputs: Path, server: FakeWandb, capsys: pytest.CaptureFixture[str]
) -> None:
    server.runs["a"] = Run(fields={"project": "icl"})
    server.refused = {"nw-anchorflowsaliency-v"}
    assert cli.main(["workspace", str(outputs)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: W&B did not accept the pages for me/icl (")
    assert "permission denied" in said


def test_without_runs_or_the_library_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "run", "saliency", made_up("saliency", known()))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert cli.main(["workspace", str(tmp_path)]) == 2
    assert "pip install 'anchorflow[wandb]'" in capsys.readouterr().err
    (tmp_path / "run" / "result.json").unlink()
    assert cli.main(["workspace", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: there is no complete run at or below {tmp_path}.\n"
