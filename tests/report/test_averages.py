"""Figures averaged over datasets: sums by hand, and a panel for each model."""

import math

import pytest

from anchorflow.report.averages import averages, over_datasets
from anchorflow.report.views.attention_prediction import averaged
from anchorflow.results import Curve, Result
from tests.report.made_up import known, made_up
from tests.report.test_grids import cell, drawn, texts


def of(*notes: str, **curves: Curve) -> Result:
    return Result({}, curves=curves, notes=notes)


def test_the_mean_over_datasets_by_hand() -> None:
    one = of(
        "shared", "own", kept=Curve("k", [1, 3, 5], [0.2, 0.4, 0.9], [0.3, 0.1, 0.1]), alone=Curve("k", [1], [1.0])
    )
    two = of("shared", kept=Curve("k", [1, 3, 7], [0.6, math.nan, 0.0], [0.4, math.nan, 0.0]))
    found = over_datasets({"sst2": one, "trec": two})
    assert list(found.curves) == ["kept"]
    curve = found.curves["kept"]
    assert (curve.x, list(curve.at)) == ("k", [1, 3])
    assert curve.values == pytest.approx([0.4, 0.4])
    assert curve.stderr == pytest.approx([0.25, 0.1])  # √(0.3² + 0.4²) / 2; one dataset alone
    assert found.notes == [
        "shared",
        "sst2: own",
        "kept is partly undefined for trec, and left out of the mean there",
    ]
    assert math.isnan(over_datasets({"a": two, "b": two}).curves["kept"].values[1])


def test_r_is_that_of_the_mean_area_and_not_the_mean_of_rs() -> None:
    areas = {"sst2": [0.6, 0.9], "trec": [0.4, 0.5]}
    ratios = {"sst2": [0.2, 1.0], "trec": [math.nan, math.nan]}
    results = {
        name: of(AUCROC=Curve("layer", [1, 2], area), R=Curve("layer", [1, 2], ratios[name]))
        for name, area in areas.items()
    }
    found = averaged(results)
    assert found.curves["AUCROC"].values == pytest.approx([0.5, 0.7])
    assert found.curves["R"].values == pytest.approx([0.0, 1.0])
    assert found.notes == []


@pytest.mark.parametrize("experiment", ["isolation", "attention_prediction"])
def test_every_model_on_several_datasets_has_a_panel(experiment: str) -> None:
    places = [("gpt2", "sst2"), ("gpt2", "trec"), ("gpt-j", "sst2"), ("gpt-j", "trec"), ("tiny", "sst2")]
    cells = [cell(experiment, *place, made_up(experiment, known())) for place in places]
    problems: list[str] = []
    found = list(averages(cells, {}, problems))
    assert [each.name for each in found] == [
        f"{name}_mean_over_datasets"
        for name in {
            "isolation": ["isolation_label_loyalty", "isolation_word_loyalty"],
            "attention_prediction": ["AUCROC", "R"],
        }[experiment]
    ]
    for each in found:
        assert texts(drawn(each)) == ["gpt2, mean over sst2, trec", "gpt-j, mean over sst2, trec"]
    assert problems == []
    assert not list(averages(cells[-1:], {}, problems))
    assert not list(averages([cell("saliency", "gpt2", d, made_up("saliency", known())) for d in "ab"], {}, problems))


def test_r_of_a_mean_is_undefined_where_it_is_for_every_dataset() -> None:
    undefined, defined = (
        of(AUCROC=Curve("layer", [1, 2], [0.5, 0.7]), R=Curve("layer", [1, 2], r)) for r in ([math.nan] * 2, [0.0, 1.0])
    )
    assert all(map(math.isnan, averaged({"one": undefined, "other": undefined}).curves["R"].values))
    assert averaged({"one": undefined, "other": defined}).curves["R"].values == pytest.approx([0, 1])
