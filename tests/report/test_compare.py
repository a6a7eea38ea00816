"""Two sets of runs: what is paired with what, by what, and with which interval."""

import csv
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from anchorflow import cli
from anchorflow.experiments import Classification, Isolation, LabelRelationships, Reweighting
from anchorflow.report.collect import collect
from anchorflow.report.compare import columns, differences
from anchorflow.report.per_query import scores
from anchorflow.results import Curve, Record, Result
from tests.report.runs import write_run
from tests.report.test_cells import label_records

Rows = dict[tuple[str, ...], dict[str, Any]]


def predictions(seed: int, variants: Sequence[str] = ("full",), rows: range = range(20)) -> list[Record]:
    draw = np.random.default_rng(seed)

    def said() -> dict[str, Any]:
        return {"probs": draw.dirichlet([1, 1, 1]).tolist(), "top5": draw.permutation(8)[:5].tolist()}

    return [{"query": row, "label": row % 3, "variants": {name: said() for name in variants}} for row in rows]


def classified(folder: Path, seed: int, noise: int, rows: range = range(20), **names: Any) -> list[Record]:
    records = predictions(noise, rows=rows)
    write_run(folder, "classification", Classification().reduce(records, ("a", "b", "c")), records, seed=seed, **names)
    return records


def right(records: Sequence[Record]) -> list[float]:
    return [float(np.argmax(r["variants"]["full"]["probs"]) == r["label"]) for r in records]


def compared(a: Path, b: Path) -> tuple[Rows, list[str]]:
    sheet, notes = differences(collect([a]), collect([b]))
    rows = [dict(zip(columns("A", "B"), row, strict=True)) for row in sheet.rows]
    return {(row["A"], row["B"], row["metric"]): row for row in rows}, notes


def test_the_same_queries_are_paired(tmp_path: Path) -> None:
    one = classified(tmp_path / "a" / "run", 42, 1, model="gpt2")
    other = classified(tmp_path / "b" / "run", 42, 2, model="gpt2-xl")
    found, notes = compared(tmp_path / "a", tmp_path / "b")
    assert notes == ["classification: compared by model"]
    row = found["model=gpt2", "model=gpt2-xl", "accuracy"]
    apart = np.array(right(other)) - right(one)
    test = stats.ttest_1samp(apart, 0)
    interval = test.confidence_interval(0.95)
    assert row["pairs"] == "20 queries, 1 seed"
    assert (row["of A"], row["of B"]) == (statistics.mean(right(one)), statistics.mean(right(other)))
    expected = [apart.mean(), interval.low, interval.high, test.pvalue]
    assert [row[name] for name in ("B − A", "low", "high", "p")] == pytest.approx(expected)
    ece = found["model=gpt2", "model=gpt2-xl", "ece"]
    assert (ece["pairs"], math.isnan(ece["low"])) == ("1 seed, no interval", True)


def test_seeds_are_clusters_of_their_queries(tmp_path: Path) -> None:
    for seed in (42, 43, 44):
        classified(tmp_path / "a" / str(seed), seed, seed, settings={"shots_per_class": 1})
        classified(tmp_path / "b" / str(seed), seed, -seed % 97, settings={"shots_per_class": 5})
    found, _ = compared(tmp_path / "a", tmp_path / "b")
    for metric, pairs in (("accuracy", "3 seeds (60 queries)"), ("ece", "3 seeds")):
        row = found["shots_per_class=1", "shots_per_class=5", metric]
        values = [[run.result["metrics"][metric] for run in collect([tmp_path / name]).runs] for name in "ab"]
        test = stats.ttest_rel(values[1], values[0])
        assert row["pairs"] == pairs
        assert [row["p"], row["low"]] == pytest.approx([test.pvalue, test.confidence_interval(0.95).low])


def answered(folder: Path, seed: int, right: int, **names: Any) -> None:
    """A run on 100 queries, the first `right` of which are answered right."""
    said = ({"probs": [1.0, 0.0] if row < right else [0.0, 1.0], "top5": []} for row in range(100))
    records: list[Record] = [{"query": row, "label": 0, "variants": {"full": each}} for row, each in enumerate(said)]
    write_run(folder, "classification", Classification().reduce(records, ("a", "b")), records, seed=seed, **names)


def test_three_hundred_queries_of_three_seeds_are_three(tmp_path: Path) -> None:
    """The differences of the seeds are -0.31, 0.05 and 0.25: with t(2) = 4.3027 their mean is known to 0.705."""
    for seed, one, other in ((42, 80, 49), (43, 50, 55), (44, 50, 75)):
        answered(tmp_path / "a" / str(seed), seed, one, model="gpt2")
        answered(tmp_path / "b" / str(seed), seed, other, model="gpt2-xl")
    sheet, _ = differences(collect([tmp_path / "a"]), collect([tmp_path / "b"]))
    row = next(dict(zip(columns("A", "B"), row, strict=True)) for row in sheet.rows if "accuracy" in row)
    assert row["pairs"] == "3 seeds (300 queries)"
    assert [row["B − A"], row["low"], row["high"]] == pytest.approx([-0.01 / 3, -0.7083, 0.7016], abs=1e-4)
    assert float(row["p"]) > 0.9


def test_many_comparisons_are_corrected_and_it_says_how(tmp_path: Path) -> None:
    classified(tmp_path / "a" / "run", 42, 1, model="gpt2")
    for model in ("gpt2-medium", "gpt2-large", "gpt2-xl"):
        classified(tmp_path / "b" / model, 42, len(model), model=model)
    sheet, _ = differences(collect([tmp_path / "a"]), collect([tmp_path / "b"]))
    rows = [dict(zip(columns("A", "B"), row, strict=True)) for row in sheet.rows]
    tested = sorted((float(row["p"]), float(row["p over all"])) for row in rows if not math.isnan(float(row["p"])))
    assert len(tested) == 3
    assert tested[0][1] == pytest.approx(min(1, 3 * tested[0][0]))
    assert sheet.notes[-1] == "p over all: corrected over the 3 differences of this table with a p (Holm)."


def test_seeds_that_differ_alike_prove_nothing(tmp_path: Path) -> None:
    for seed in (42, 43):
        answered(tmp_path / "a" / str(seed), seed, 50, model="gpt2")
        answered(tmp_path / "b" / str(seed), seed, 60, model="gpt2-xl")
    found, _ = compared(tmp_path / "a", tmp_path / "b")
    row = found["model=gpt2", "model=gpt2-xl", "accuracy"]
    assert (row["B − A"], math.isnan(row["low"]), math.isnan(row["p"])) == (pytest.approx(0.1), True, True)


def test_only_common_queries_count(tmp_path: Path) -> None:
    classified(tmp_path / "a" / "run", 42, 1, range(20), settings={"n_queries": 20})
    classified(tmp_path / "b" / "run", 42, 2, range(5, 30), settings={"n_queries": 25})
    found, _ = compared(tmp_path / "a", tmp_path / "b")
    assert found["n_queries=20", "n_queries=25", "accuracy"]["pairs"] == "15 of 25 queries, 1 seed"


def test_other_data_are_not_paired_by_query(tmp_path: Path) -> None:
    classified(tmp_path / "a" / "run", 42, 1, dataset="sst2")
    classified(tmp_path / "b" / "run", 42, 2, dataset="trec")
    found, notes = compared(tmp_path / "a", tmp_path / "b")
    assert notes == ["classification: compared by dataset"]
    assert found["dataset=sst2", "dataset=trec", "accuracy"]["pairs"] == "1 seed, no interval"


def test_without_common_seeds_the_means_are_compared(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        classified(tmp_path / "a" / str(seed), seed, seed)
        classified(tmp_path / "b" / str(seed), seed + 10, seed + 10)
    found, _ = compared(tmp_path / "a", tmp_path / "b")
    row = found["", "", "accuracy"]
    values = [[run.result["metrics"]["accuracy"] for run in collect([tmp_path / name]).runs] for name in "ab"]
    test = stats.ttest_ind(values[1], values[0], equal_var=False)
    interval = test.confidence_interval(0.95)
    assert row["pairs"] == "none (3 and 3 seeds)"
    expected = [np.mean(values[1]) - np.mean(values[0]), interval.low, interval.high, test.pvalue]
    assert [row[name] for name in ("B − A", "low", "high", "p")] == pytest.approx(expected)


def test_runs_without_a_counterpart_are_listed(tmp_path: Path) -> None:
    classified(tmp_path / "a" / "one", 42, 1)
    classified(tmp_path / "a" / "trec", 42, 1, dataset="trec")
    classified(tmp_path / "b" / "one", 42, 2)
    classified(tmp_path / "b" / "seed", 43, 2)
    write_run(tmp_path / "b" / "else", "saliency", Result({"accuracy": 0.5}))
    found, notes = compared(tmp_path / "a", tmp_path / "b")
    assert set(found) == {("", "", name) for name in ("accuracy", "macro_f1", "ece")}
    assert set(notes) == {
        f"only in A: {tmp_path / 'a' / 'trec'}",
        f"only in B: {tmp_path / 'b' / 'seed'}",
        f"only in B: {tmp_path / 'b' / 'else'}",
    }


def test_several_settings_of_one_side_stand_against_the_other_each(tmp_path: Path) -> None:
    for model in ("gpt2", "gpt2-medium"):
        classified(tmp_path / "a" / model, 42, 1, model=model, settings={"shots_per_class": 1})
    classified(tmp_path / "b" / "run", 42, 2, model="gpt-j", settings={"shots_per_class": 1})
    found, _ = compared(tmp_path / "a", tmp_path / "b")
    sides = {(a, b) for a, b, _ in found}
    assert sides == {("model=gpt2", "model=gpt-j"), ("model=gpt2-medium", "model=gpt-j")}


def test_damaged_records_are_named_and_seeds_compared_instead(tmp_path: Path) -> None:
    for seed in (42, 43):
        classified(tmp_path / "a" / str(seed), seed, seed)
        classified(tmp_path / "b" / str(seed), seed, seed + 7)
    (tmp_path / "b" / "42" / "records.jsonl").write_text('{"query": 1, "la')
    (tmp_path / "b" / "43" / "records.jsonl").write_text('{"query": 1}\n')
    found, notes = compared(tmp_path / "a", tmp_path / "b")
    assert found["", "", "accuracy"]["pairs"] == "2 seeds"
    assert len(notes) == 2
    assert all(note.startswith("not paired by query: the records of ") for note in notes)


@pytest.mark.parametrize("experiment", ["isolation", "reweighting", "label_relationships"])
def test_the_scores_of_queries_have_the_metrics_as_their_means(tmp_path: Path, experiment: str) -> None:
    if experiment == "isolation":
        kinds = ["label_first", "label_last", "random_first", "random_last"]
        draws = ["random_first_2_2", "random_last_2_2"]
        isolation = Isolation(first_or_last_k=(2,), random_draws=2)
        records = predictions(1, ["full", *(f"{kind}_2" for kind in kinds), *draws])
        result, settings = isolation.reduce(records, ()), {}
    elif experiment == "reweighting":
        records, settings = predictions(1, ["vanilla", "reweighted"]), {}
        result = Reweighting().reduce(records, ())
    else:
        settings = {"regimes": ["default", "random"], "n_demonstrations": 3}
        records = label_records(range(42, 47))
        result = LabelRelationships(**settings).reduce(records, ())
    write_run(tmp_path / "run", experiment, result, records, settings=settings)
    (run,) = collect([tmp_path]).runs
    found = scores(run)
    means = {name: statistics.mean(of_units.values()) for name, of_units in found.items()}
    expected = {
        name: value
        for name, value in result.metrics.items()
        if not name.endswith("_p") and not name.startswith("guessing") and name != "n_demonstrations"
    }
    assert means == pytest.approx(expected)
    assert {len(of_units) for of_units in found.values()} == {len(records)}


def test_repetitions_that_seeds_share_are_one_pair(tmp_path: Path) -> None:
    settings = {"regimes": ["default", "random"], "n_demonstrations": 3}
    for side, model in (("a", "gpt2"), ("b", "gpt2-xl")):
        for seed in (42, 43):
            records = label_records(range(seed, seed + 4))
            result = LabelRelationships(**settings).reduce(records, ())
            folder = tmp_path / side / str(seed)
            write_run(folder, "label_relationships", result, records, seed=seed, model=model, settings=settings)
    found, _ = compared(tmp_path / "a", tmp_path / "b")
    for metric in ("default/accuracy_at_max", "default_minus_random"):
        row = found["model=gpt2", "model=gpt2-xl", metric]
        assert (row["pairs"], row["B − A"]) == ("5 repetitions, 2 seeds", 0)


def test_seeds_that_share_repetitions_have_no_interval_of_their_own(tmp_path: Path) -> None:
    settings = {"regimes": ["default", "random"], "n_demonstrations": 3}
    for side, seeds in (("a", (42, 43, 44)), ("b", (45, 46, 47))):
        for seed in seeds:
            records = label_records(range(seed, seed + 4))
            result = LabelRelationships(**settings).reduce(records, ())
            write_run(tmp_path / side / str(seed), "label_relationships", result, records, seed=seed, settings=settings)
    found, _ = compared(tmp_path / "a", tmp_path / "b")
    row = found["", "", "default/accuracy_second_half"]
    assert row["pairs"] == "none (3 and 3 seeds), which share repetitions: no interval"
    assert all(math.isnan(row[name]) for name in ("low", "high", "p", "p over all"))


def test_thirds_of_curves_are_compared_over_seeds(tmp_path: Path) -> None:
    for side, at_the_end in (("a", 0.3), ("b", 0.5)):
        for seed in (1, 2):
            curve = Curve("layer", range(1, 7), [0.1, 0.1, 0, 0, at_the_end, at_the_end + seed / 10])
            write_run(tmp_path / side / str(seed), "saliency", Result({}, curves={"S_pq_share": curve}), seed=seed)
    found, _ = compared(tmp_path / "a", tmp_path / "b")
    assert found["", "", "S_pq_share, first third"]["B − A"] == 0
    assert found["", "", "S_pq_share, last third"]["B − A"] == pytest.approx(0.2)


def test_the_command_prints_a_table_and_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    classified(tmp_path / "a" / "run", 42, 1, model="gpt2")
    classified(tmp_path / "b" / "run", 42, 2, model="gpt2-xl")
    sides = [str(tmp_path / name) for name in "ab"]
    assert cli.main(["compare", *sides, "--csv", str(tmp_path / "found.csv")]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"* A: {sides[0]} (1 run), B: {sides[1]} (1 run)\n* classification: compared by model\n")
    assert "| classification | sst2 | model=gpt2 | model=gpt2-xl | accuracy |" in out
    with (tmp_path / "found.csv").open(encoding="utf-8", newline="") as file:
        assert [row["metric"] for row in csv.DictReader(file)] == ["accuracy", "macro_f1", "ece"]
    assert cli.main(["compare", *sides, "--csv", str(tmp_path / "nowhere" / "found.csv")]) == 2
    assert "found.csv cannot be written (No such file" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert cli.main(["compare", sides[0], str(tmp_path / "empty")]) == 2
    assert f"no complete run lies at or below {tmp_path / 'empty'}." in capsys.readouterr().err
    write_run(tmp_path / "c", "saliency", Result({"accuracy": 0.5}))
    assert cli.main(["compare", sides[0], str(tmp_path / "c")]) == 2
    assert "they share no experiment" in capsys.readouterr().err


def test_sets_are_chosen_by_settings_and_may_be_more_than_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for shots in (1, 2, 5):
        for seed in (1, 2):
            found = Result({"accuracy": shots / 10 + seed / 100})
            settings = {"shots_per_class": shots}
            write_run(tmp_path / f"{shots}-{seed}", "saliency", found, seed=seed, settings=settings)
    first = ["compare", str(tmp_path), "--where", "shots_per_class=1"]
    assert cli.main([*first, "--with", "shots_per_class=5"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("* A: shots_per_class=1 (2 runs), B: shots_per_class=5 (2 runs)\n")
    assert "| of shots\\_per\\_class=1 | of shots" in said or "| of shots_per_class=1 | of shots_per_class=5 |" in said
    assert cli.main([*first, "--with", "shots_per_class=2", "seed=1", "--with", "shots_per_class=5"]) == 0
    said = capsys.readouterr().out
    assert "| of A | of B | B − A |" in said
    rows = [line.split(" | ")[2:5] for line in said.splitlines() if "| accuracy |" in line]
    assert [row[1].replace("\\", "") for row in rows] == ["shots_per_class=2, seed=1", "shots_per_class=5"]
    for wrong, error in (
        ([*first], "--where selects the first set of runs, and --with each other set"),
        (["compare", str(tmp_path)], "there is only one set of runs"),
        ([*first, "--with", "shots_per_class=7"], "no run has shots_per_class=7; allowed: 1, 2, 5."),
        ([*first, "--with", "shots=7"], "no run has the setting shots; allowed: version, shots_per_class, "),
        ([*first, "--with", "model"], "'model' selects no runs; allowed: NAME=VALUE"),
        ([*first, "--with", "shots_per_class=5", "seed=1", "seed=3"], "no run has seed=3; allowed: 1, 2."),
    ):
        assert cli.main(wrong) == 2
        assert error in capsys.readouterr().err


def test_a_dataset_is_chosen_by_the_name_of_its_option_or_in_full(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option, data in (("sst2", {"shown": "sst2, phrases (StaICC)"}), ("trec", {})):
        folder = tmp_path / "runs" / option
        write_run(folder, "classification", Result({"accuracy": 0.5}), dataset=option, data={"sha256": option, **data})
    given = ["report", str(tmp_path / "runs"), "--where"]
    for chosen in ("sst2", "sst2, phrases (StaICC)"):
        assert cli.main([*given, f"dataset={chosen}"]) == 0
        assert capsys.readouterr().out.startswith("# 1 run in 1 cell")
    assert cli.main([*given, "dataset=sst3"]) == 2
    assert "no run has dataset=sst3; allowed: trec, 'sst2, phrases (StaICC)'." in capsys.readouterr().err


def test_a_report_of_chosen_runs_and_of_complete_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for model, seed in (("gpt2", 1), ("gpt2", 2), ("gpt2-xl", 1), ("gpt-j", 1)):
        write_run(
            tmp_path / "runs" / f"{model}{seed}", "classification", Result({"accuracy": 0.5}), model=model, seed=seed
        )
    given = ["report", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    assert cli.main([*given, "--where", "model=gpt2", "model=gpt2-xl"]) == 0
    assert capsys.readouterr().out.startswith("# 3 runs in 2 cells")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "report.md").write_text("my notes")
    assert cli.main([*given[:3], str(tmp_path / "mine")]) == 2
    assert "mine has a report.md that no report wrote" in capsys.readouterr().err
    assert [path.read_text() for path in (tmp_path / "mine").iterdir()] == ["my notes"]
    assert cli.main([*given, "--only-complete"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("# 2 runs in 1 cell")
    assert "classification, gpt2-xl, sst2: left out because it lacks 1 seed of 2 (2)" in said
    assert cli.main([*given, "--where", "model=gpt2-xl", "seed=2"]) == 2
    assert "no run has model=gpt2-xl and seed=2 together" in capsys.readouterr().err
