"""Results that the version before wrote, of real runs of a tiny model, are read as they were."""

import csv
import json
import math
from pathlib import Path
from statistics import mean

import pytest

from anchorflow.report.collect import collect
from anchorflow.report.compare import columns, differences
from anchorflow.report.write import report
from anchorflow.results import Record

STORED = Path(__file__).with_name("stored")
REGIMES = '["default", "random", "flipped", {"flip_after": 2}]'


def records(name: str) -> list[Record]:
    return [json.loads(line) for line in (STORED / name / "records.jsonl").read_text(encoding="utf-8").splitlines()]


def likelihood(record: Record, regime: str) -> float:
    return float(record["regimes"][regime]["log_probabilities"][-1][record["labels"][-1]])


def test_a_report_of_them_has_their_numbers(tmp_path: Path) -> None:
    said = report([STORED], tmp_path)
    assert said.startswith("# 3 runs in 2 cells, 0 incomplete, 0 problems\n")
    with (tmp_path / "tables" / "classification.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    written = json.loads((STORED / "classification" / "result.json").read_text(encoding="utf-8"))
    assert {name: float(row[name]) for name in written["metrics"]} == written["metrics"]
    assert float(row["accuracy stderr"]) == written["stderr"]["accuracy"]
    assert row["stderr over"] == "queries"

    # Seed 43 has five of the six repetitions of seed 42, and one more.
    (last,) = [record for record in records("label_relationships-43") if record["repetition"] == 5]
    values = [likelihood(record, "default") for record in (*records("label_relationships-42"), last)]
    with (tmp_path / "tables" / "label_relationships.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["variant"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"guessing", "default", "random", "flipped", "flip_after_2"}
    assert "n_demonstrations" not in rows["default"]
    assert rows["default"]["stderr over"] == "repetitions"
    assert float(rows["default"]["log_likelihood_at_max"]) == pytest.approx(mean(values))
    with (tmp_path / "tables" / "settings.csv").open(encoding="utf-8", newline="") as file:
        settings = {(row["of"], row["setting"]): row["value"] for row in csv.DictReader(file)}
    assert settings["label_relationships", "regimes"] == REGIMES
    assert settings["label_relationships", "n_demonstrations"] == "6"
    assert settings["classification", "n_queries"] == "20"
    assert not {("classification", name) for name in ("shards", "_target_", "version")} & set(settings)
    drawn = [path.name for path in (tmp_path / "figures").iterdir()]
    assert "reliability_version-1_n_queries-20.png" in drawn
    for name in ("label_relationships_accuracy", "flip_after_2_accuracy"):
        assert any(each.startswith(f"{name}_version-1_") for each in drawn)


def test_they_are_compared_by_their_records() -> None:
    sides = [collect([STORED / f"label_relationships-{seed}"]) for seed in (42, 43)]
    sheet, _ = differences(*sides)
    rows = {row[4]: dict(zip(columns("A", "B"), row, strict=True)) for row in sheet.rows}
    assert rows["default_minus_random"]["pairs"] == "none (1 and 1 seeds)"  # of different seeds

    same = collect([STORED / "label_relationships-42"])
    sheet, notes = differences(same, same)
    assert notes == []
    rows = {row[4]: dict(zip(columns("A", "B"), row, strict=True)) for row in sheet.rows}
    found = rows["default_minus_random"]
    lines = records("label_relationships-42")
    expected = mean(likelihood(line, "default") - likelihood(line, "random") for line in lines)
    assert (found["pairs"], found["of A"], found["B − A"]) == ("6 repetitions", pytest.approx(expected), 0)
    assert not math.isnan(float(found["low"]))  # type: ignore[arg-type]
    assert "n_demonstrations" not in rows
    assert not [name for name in rows if str(name).startswith("guessing/")]

    one = collect([STORED / "classification"])
    sheet, _ = differences(one, one)
    assert [row[4] for row in sheet.rows] == ["accuracy", "macro_f1", "ece"]
    assert sheet.rows[0][-1] == "20 queries, 1 seed"
