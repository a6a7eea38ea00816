"""A report from real runs of tiny models against plain sums over their records; and from runs that are odd."""

import csv
import json
import math
import shutil
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from anchorflow import cli
from anchorflow.report import write
from anchorflow.results import Curve, Result, Table
from tests.conftest import write_dataset
from tests.launching import launch, on_tiny, records
from tests.report.made_up import known, made_up
from tests.report.runs import write_run, write_unfinished

pytestmark = pytest.mark.slow

EXPERIMENTS = ("saliency", "isolation", "compression", "reweighting", "attention_prediction", "classification")
Records = Sequence[dict[str, Any]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of six experiments, and one of label_relationships."""
    folder = tmp_path_factory.mktemp("runs")
    data = write_dataset(folder / "data", train=24, test=8)
    fixed = ("-m", *on_tiny(data), "device=cpu", "launcher=local")
    few = (f"experiment={','.join(EXPERIMENTS)}", "experiment.n_queries=6", "seed=1,2")
    labels = ("experiment=label_relationships", "experiment.n_demonstrations=5", "experiment.repetitions=4", "seed=1")
    for grid in (few, labels):
        done = launch(*fixed, *grid, "hydra.sweep.dir=outputs", cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder / "outputs"


@pytest.fixture(scope="module")
def report(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    assert cli.main(["report", str(runs), "--out", str(out)]) == 0
    return out


def table(report: Path, name: str) -> list[dict[str, str]]:
    with (report / "tables" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def row(report: Path, name: str, **where: str) -> dict[str, str]:
    (found,) = [each for each in table(report, name) if where.items() <= each.items()]
    return found


def of_seeds(
    runs: Path, experiment: str, measure: Callable[[Records], float], share: bool = False
) -> tuple[float, float]:
    """Mean and standard error over seeds of what `measure` makes of the lines of a records.jsonl."""
    values = [measure(records(folder)) for folder in sorted((runs / experiment / "tiny" / "local").iterdir())]
    assert len(values) == 2
    if (
        share and values[0] == values[1]
    ):  # seeds that agree have the error of their queries, of which every run has as many
        count, p = len(records(next((runs / experiment / "tiny" / "local").iterdir()))), values[0]
        return p, math.sqrt(p * (1 - p) / count + 1 / (4 * count**2)) / (1 + 1 / count) / math.sqrt(2)
    return statistics.mean(values), statistics.stdev(values) / math.sqrt(2)


def said(record: dict[str, Any], variant: str = "full") -> int:
    probs = record["variants"][variant]["probs"]
    return probs.index(max(probs))


def right(variant: str) -> Callable[[Records], float]:
    return lambda lines: sum(said(line, variant) == line["label"] for line in lines) / len(lines)


def words(variant: str) -> Callable[[Records], float]:
    def overlap(line: dict[str, Any]) -> float:
        one, other = (set(line["variants"][name]["top5"]) for name in (variant, "full"))
        return len(one & other) / len(one | other)

    return lambda lines: sum(map(overlap, lines)) / len(lines)


def random_sets(lines: Records) -> float:
    names = ["hidden_random", *(f"hidden_random_{i}" for i in range(2, 21))]
    return sum(right(name)(lines) for name in names) / len(names)


def gain(lines: Records) -> float:
    return right("reweighted")(lines) - right("vanilla")(lines)


def first_third(flow: str) -> Callable[[Records], float]:
    return lambda lines: sum(line[flow][layer] for line in lines for layer in (0, 1)) / len(lines) / 2


def last_third_of_shares(lines: Records) -> float:
    total = [[sum(line[flow][layer] for line in lines) for flow in ("S_wp", "S_pq", "S_ww")] for layer in (6, 7)]
    return sum(of_layer[1] / sum(of_layer) for of_layer in total) / 2


SUMS: list[tuple[str, dict[str, str], str, str, Callable[[Records], float]]] = [
    ("classification", {}, "accuracy", "classification", right("full")),
    ("isolation", {"variant": "full"}, "accuracy", "isolation", right("full")),
    ("isolation", {"variant": "label_first_5"}, "word_loyalty", "isolation", words("label_first_5")),
    ("compression", {"variant": "hidden_anchor"}, "word_loyalty", "compression", words("hidden_anchor")),
    ("compression", {"variant": "hidden_random"}, "accuracy", "compression", random_sets),
    ("reweighting", {"variant": "reweighted"}, "gain", "reweighting", gain),
    ("thirds", {"curve": "S_wp"}, "first third", "saliency", first_third("S_wp")),
    ("thirds", {"curve": "S_pq_share"}, "last third", "saliency", last_third_of_shares),
]


@pytest.mark.parametrize(("name", "where", "column", "experiment", "measure"), SUMS)
def test_numbers_are_sums_over_the_records(
    runs: Path,
    report: Path,
    name: str,
    where: dict[str, str],
    column: str,
    experiment: str,
    measure: Callable[[Records], float],
) -> None:
    mean, stderr = of_seeds(runs, experiment, measure, share=column == "accuracy")
    found = row(report, name, **where)
    assert float(found[column]) == pytest.approx(mean, rel=1e-6)
    assert float(found[f"{column} stderr"]) == pytest.approx(stderr, rel=1e-5, abs=1e-9)
    if name == experiment:
        assert (found["seeds"], found["stderr over"]) == ("2", "seeds")


def test_differences_of_regimes_are_sums_over_the_records(runs: Path, report: Path) -> None:
    (folder,) = (runs / "label_relationships" / "tiny" / "local").iterdir()

    def at_max(line: dict[str, Any], regime: str) -> float:
        return float(line["regimes"][regime]["log_probabilities"][-1][line["labels"][-1]])

    lines = records(folder)
    default = [at_max(line, "default") for line in lines]
    found = row(report, "label_relationships", variant="default")
    assert float(found["log_likelihood_at_max"]) == pytest.approx(statistics.mean(default))
    assert float(found["log_likelihood_at_max stderr"]) == pytest.approx(statistics.stdev(default) / 2)
    apart = [a - at_max(line, "random") for a, line in zip(default, lines, strict=True)]
    found = row(report, "differences", difference="default_minus_random")
    assert float(found["mean"]) == pytest.approx(statistics.mean(apart))
    assert float(found["low"]) < statistics.mean(apart) < float(found["high"])
    assert float(found["p"]) == float(found["p over cells"])


def test_every_file_can_be_made_again_from_the_run_directories_alone(runs: Path, report: Path, tmp_path: Path) -> None:
    for result in runs.rglob("result.json"):
        without = shutil.ignore_patterns("figures", ".hydra", "wandb", "*.log")
        shutil.copytree(result.parent, tmp_path / "moved" / result.parent.relative_to(runs), ignore=without)
    assert cli.main(["report", str(tmp_path / "moved")]) == 0
    again = tmp_path / "moved" / "report"
    names = sorted(path.relative_to(report) for path in report.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert len([name for name in names if name.parts[0] == "figures"]) >= 24
    for name in names:
        moved = (again / name).read_bytes().replace(bytes(tmp_path / "moved"), bytes(runs))  # the page says where
        assert moved == (report / name).read_bytes(), name
    # A report below the runs is no run: the second one finds the same.
    assert cli.main(["report", str(tmp_path / "moved")]) == 0
    assert (again / "report.md").read_bytes() == (report / "report.md").read_bytes()


def test_what_is_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "one", "isolation", made_up("isolation", known()))
    for i in range(12):
        write_unfinished(tmp_path / f"open{i:02}", progress={"done": i, "total": 100})
    assert cli.main(["report", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# 1 run in 1 cell, 12 incomplete, 0 problems\n")
    assert f"* incomplete: {tmp_path / 'open09'} (running, 9 of 100)\n" in out
    assert "open10" not in out
    assert "* … and 2 more: report.md names them all\n" in out
    assert f"wrote {tmp_path}/report/tables/{{overview,isolation,settings}}.{{csv,md,tex}}\n" in out
    assert f"{tmp_path}/report/figures/{{isolation_label_loyalty,isolation_word_loyalty}}.{{png,pdf}}\n" in out
    page = (tmp_path / "report" / "report.md").read_text()
    assert "open11" in page
    assert "![isolation_word_loyalty](figures/isolation_word_loyalty.png)" in page
    for path in (tmp_path / "report" / "figures").iterdir():
        assert path.read_bytes().startswith(b"\x89PNG" if path.suffix == ".png" else b"%PDF")


def test_what_an_earlier_report_wrote_goes_and_what_others_put_there_stays(tmp_path: Path) -> None:
    one, out = tmp_path / "runs" / "one", tmp_path / "out"
    write_run(one, "isolation", made_up("isolation", known()))
    write_run(tmp_path / "runs" / "two", "saliency", made_up("saliency", known()))
    assert cli.main(["report", str(tmp_path / "runs"), "--out", str(out)]) == 0
    own = [out / "mine.md", out / "tables" / "mine.csv", tmp_path / "mine.txt"]
    for path in own:
        path.write_text("mine")
    with (out / ".files").open("a") as listing:
        listing.write(f"../mine.txt\n{tmp_path / 'mine.txt'}\ntables\n\n")
    shutil.rmtree(one)
    assert cli.main(["report", str(tmp_path / "runs"), "--out", str(out)]) == 0
    assert cli.main(["report", str(tmp_path / "runs"), "--out", str(tmp_path / "new")]) == 0
    left, fresh = (
        {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()} for folder in (out, tmp_path / "new")
    )
    assert left == fresh | {Path("mine.md"), Path("tables/mine.csv")}
    assert any(path.parts[0] == "figures" for path in fresh)
    assert all(path.read_text() == "mine" for path in own)


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_place_that_cannot_be_written_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    write_run(tmp_path / "runs" / "one", "saliency", made_up("saliency", known()))
    (tmp_path / "file").write_text("")
    assert cli.main(["report", str(tmp_path / "runs"), "--out", str(tmp_path / place)]) == 2
    assert f"error: the report cannot be written to {tmp_path / place} (" in capsys.readouterr().err


def test_without_a_complete_run_there_is_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_unfinished(tmp_path / "open", state="failed", error="no memory")
    assert cli.main(["report", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: no complete run lies at or below {tmp_path}.\n")
    assert f"incomplete: {tmp_path / 'open'} (failed, no memory)" in error
    assert not (tmp_path / "report").exists()


def test_other_processes_draw_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "runs" / "one", "diagnosis", made_up("diagnosis", known()))
    assert cli.main(["report", str(tmp_path / "runs"), "--out", str(tmp_path / "here")]) == 0
    monkeypatch.setattr(write, "MANY", 1)
    assert cli.main(["report", str(tmp_path / "runs"), "--out", str(tmp_path / "there")]) == 0
    drawn = sorted((tmp_path / "here" / "figures").iterdir())
    assert len(drawn) == 4
    for path in drawn:
        assert path.read_bytes() == (tmp_path / "there" / "figures" / path.name).read_bytes()


HOSTILE = ("<script>alert(1)</script>", "=cmd|' /C calc'!A0 $\\foo$ 100% _{x}", "x" * 10_000, "\x1b[31m\ud800\u202e")


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_do_no_harm_anywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    name = text.replace("\ud800", "")  # in a result.json half a character is damage
    classes = [f"{name} {i}" for i in range(3)]
    square = Table(classes, classes, [[0.5] * 3] * 3)
    diagnosis = Result(
        {"accuracy": 0.5, "spearman": 0.5, "layer": 1},
        curves={"spearman_by_layer": Curve("layer", [1, 2], [0.5, 0.5])},
        tables={"confusion": square, "predicted_confusion": square},
        notes=[name],
    )
    flat = [Curve("n_demonstrations", [0, 1], [0.5, 0.5]) for _ in range(3)]
    measures = ("accuracy", "log_likelihood", "entropy")
    curves = {
        f"{regime}/{measure}": c for regime in ("default", name) for measure, c in zip(measures, flat, strict=True)
    }
    metrics = {f"default_minus_{name}": 0.5, f"default_minus_{name}_p": 0.5, f"{name}/accuracy_at_max": 0.5}
    for seed in (1, 2):
        settings = {"note": [name, seed]}
        write_run(tmp_path / f"a{seed}", "diagnosis", diagnosis, model=name, dataset=name, seed=seed, settings=settings)
    write_run(tmp_path / "b", "label_relationships", Result(metrics, curves=curves), model=name, dataset=name)
    write_run(tmp_path / "c", name, Result({name: 0.5}), model=name, dataset=name)
    write_unfinished(tmp_path / "d", error=text)
    assert cli.main(["report", str(tmp_path)]) == 0
    out = tmp_path / "report"
    shown = [capsys.readouterr().out, *(path.read_text() for path in out.rglob("*.md"))]
    for path in out.rglob("*"):
        assert len(path.name) < 120
    for content in shown:
        assert "<script" not in content
        assert "x" * 1000 not in content
        assert all(line.isprintable() for line in content.splitlines())
    for path in out.rglob("*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            for line in csv.reader(file):
                assert not any(cell.startswith(("=", "@")) for cell in line)
    assert len(list(out.rglob("*.png"))) >= 4


def test_problems_are_told_and_the_rest_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "good", "saliency", made_up("saliency", known()))
    write_run(tmp_path / "later", "saliency", Result({}), seed=2, schema=2)
    write_run(tmp_path / "bare", "saliency", Result({"accuracy": 0.5}), model="bare")  # without any curve
    half = write_run(tmp_path / "half", "saliency", Result({}), seed=3)
    (half / "result.json").write_text(json.dumps({"schema": 1})[:-4])
    for name, accuracy in (("this", 0.5), ("that", 0.6)):
        write_run(tmp_path / name, "classification", Result({"accuracy": accuracy}), identity="aaaa")
    (tmp_path / "empty").mkdir()
    assert cli.main(["report", str(tmp_path), str(tmp_path / "empty"), "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# 2 runs in 2 cells, 0 incomplete, 11 problems\n")
    for part in (
        "later/result.json is left out: its schema is 2",
        "half/result.json is left out",
        "empty: there is no run",
    ):
        assert part in out
    assert "identity aaaa and different numbers are left out" in out
    page = (tmp_path / "out" / "report.md").read_text()
    for name in ("S_wp", "S_pq", "S_ww", "S_wp_share", "S_pq_share", "S_ww_share"):  # each once, whatever asks for it
        lacks = f"the view of saliency uses the curve '{name}', which this result does not have; it has: none"
        assert page.count(f"* problem: bare, sst2: {lacks}\n") == 1
    assert "* problem: gpt2, sst2: the view of saliency uses the metric 'accuracy'" in page
    assert (tmp_path / "out" / "figures" / "saliency_shares.png").exists()
