"""Figures over models and datasets: a panel for each cell at its place, nothing over anything."""

import itertools
import pickle
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from anchorflow.report.cells import Cell
from anchorflow.report.grids import MOST_COLUMNS, MOST_ROWS, Grid, panels_of
from anchorflow.report.grids import grids as grids_and_problems
from anchorflow.results import Curve, Result
from tests.report.made_up import MADE_UP, known, made_up


def cell(experiment: str, model: str, dataset: str, result: Result) -> Cell:
    return Cell(experiment, model, dataset, {}, (), result, "seeds", {})


def grids(cells: Sequence[Cell], settings: Mapping[str, str]) -> Iterator[Grid]:
    problems: list[str] = []
    yield from grids_and_problems(cells, settings, problems)
    assert problems == []


def drawn(found: Grid) -> Figure:
    problems: list[str] = []
    figure = found.draw(problems)
    assert problems == []
    assert figure is not None
    figure.draw_without_rendering()
    return figure


def texts(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.axison]


@pytest.mark.parametrize("experiment", MADE_UP)
@pytest.mark.parametrize(
    ("models", "datasets"),
    [(1, 1), pytest.param(2, 4, marks=pytest.mark.slow), pytest.param(3, 6, marks=pytest.mark.slow)],
)
def test_every_experiment_has_its_panels_and_nothing_is_written_over_anything(
    experiment: str, models: int, datasets: int
) -> None:
    places = list(itertools.product([f"model-{i}" for i in range(models)], [f"dataset-{i}" for i in range(datasets)]))
    cells = [cell(experiment, *place, made_up(experiment, known())) for place in places]
    found = list(grids(cells, {"shots_per_class": "2"}))
    assert [each.name for each in found] == [f"{name}_shots_per_class-2" for name in panels_of(cells, [])]
    assert found
    for each in found:
        figure = drawn(each)
        assert texts(figure) == [", ".join(place) for place in places]
        assert "shots_per_class=2" in each.title
        outside = [artist.get_window_extent() for artist in (*figure.legends, *figure.texts)]
        taken = [axes.get_tightbbox() for axes in figure.axes]
        for first, second in itertools.combinations([box for box in (*outside, *taken) if box is not None], 2):
            assert not first.overlaps(second), each.name


def test_a_cell_that_is_not_there_or_has_no_numbers_is_left_empty() -> None:
    full, bare = made_up("reweighting", known()), Result({"vanilla/accuracy": 0.5})
    cells = [
        cell("reweighting", "a", "x", full),
        cell("reweighting", "a", "y", bare),
        cell("reweighting", "b", "y", full),
    ]
    found = {each.name: each for each in grids(cells, {})}
    assert texts(drawn(found["train_loss"])) == ["a, x", "b, y"]
    assert texts(drawn(found["reweighting"])) == ["a, x", "a, y", "b, y"]
    (alone,) = [each for each in grids(cells[1:2], {}) if each.name == "train_loss"]
    problems: list[str] = []
    assert alone.draw(problems) is None
    assert problems == []


def test_a_panel_shows_the_numbers_of_its_cell() -> None:
    def flows(value: float) -> Result:
        return Result(
            {}, curves={f"{flow}_share": Curve("layer", [1, 2], [value, value]) for flow in ("S_wp", "S_pq", "S_ww")}
        )

    cells = [
        cell("saliency", model, dataset, flows(value))
        for model, dataset, value in (("a", "x", 0.1), ("b", "x", 0.2), ("b", "y", 0.3))
    ]
    (found,) = [each for each in grids(cells, {}) if each.name == "saliency_shares"]
    axes = {each.get_title(): each for each in drawn(found).axes if each.axison}
    assert {title: list(each.lines[0].get_ydata()) for title, each in axes.items()} == {
        "a, x": [0.1, 0.1],
        "b, x": [0.2, 0.2],
        "b, y": [0.3, 0.3],
    }


def test_many_models_and_datasets_go_on_several_pages() -> None:
    places = list(itertools.product(range(MOST_ROWS + 1), range(MOST_COLUMNS + 1)))
    result = made_up("diagnosis", known())
    cells = [cell("diagnosis", f"m{row}", f"d{column}", result) for row, column in places]
    found = list(grids(cells, {}))
    assert [each.name for each in found] == [f"spearman_by_layer{page}" for page in ("", "_page2", "_page3", "_page4")]
    shown = [panel[0] for each in found for row in each.panels for panel in row if panel is not None]
    assert sorted(shown) == sorted(f"m{row}, d{column}" for row, column in places)


def test_labels_that_change_side_and_entropy_have_figures_where_they_were_run() -> None:
    def names(results: Sequence[Result]) -> list[str]:
        cells = [cell("label_relationships", "a", str(i), result) for i, result in enumerate(results)]
        return [each.name for each in grids(cells, {})]

    steady = Result(
        {}, curves={f"default/{m}": Curve("x", [0], [0.5]) for m in ("accuracy", "log_likelihood", "entropy")}
    )
    plain = ["label_relationships_accuracy", "label_relationships_log_likelihood"]
    assert names([steady]) == plain
    changing = [f"{name}_{m}" for name in ("flip_after_2", "alternating_1") for m in ("accuracy", "log_likelihood")]
    assert names([steady, made_up("label_relationships", known())]) == [
        *plain,
        "label_relationships_entropy",
        *changing,
    ]


@pytest.mark.parametrize("experiment", MADE_UP)
def test_a_figure_can_be_drawn_by_another_process(experiment: str, tmp_path: Path) -> None:
    found = next(grids([cell(experiment, "a", "x", made_up(experiment, known()))], {}))
    again = pickle.loads(pickle.dumps(found)).draw([])
    assert again is not None
    assert texts(again) == ["a, x"]


def test_a_long_title_of_a_panel_takes_more_lines() -> None:
    datasets = ", ".join(["sst2, phrases (StaICC)", "trec, official splits mixed (StaICC)", "agnews, 120,000 news"])
    panel = panels_of([cell("isolation", "m", "d", made_up("isolation", known()))], [])["isolation_label_loyalty"]
    result = made_up("isolation", known())
    (title,) = texts(drawn(Grid("g", "Title", [[(f"gpt2-xl, mean over {datasets}", result)]], panel)))
    assert title.splitlines()[0] == "gpt2-xl"
    assert " ".join(title.splitlines()[1:]) == f"mean over {datasets}"
    (clipped,) = texts(drawn(Grid("g", "Title", [[(f"gpt2-xl, mean over {datasets * 5}", result)]], panel)))
    assert len(clipped.splitlines()) == 3
    assert clipped.endswith(" …")
