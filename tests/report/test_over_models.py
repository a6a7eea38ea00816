"""Models side by side: curves over relative depth and metrics over size."""

from pathlib import Path

import pytest

from anchorflow.report.cells import into_cells
from anchorflow.report.collect import collect
from anchorflow.report.over_models import over_models
from anchorflow.results import Curve, Result
from tests.report.runs import write_run


def add(folder: Path, model: str, layers: int, parameters: int | None, dataset: str = "sst2") -> None:
    flows = {
        f"S_{flow}_share": Curve("layer", range(1, layers + 1), [i / layers for i in range(layers)])
        for flow in ("wp", "pq", "ww")
    }
    environment = {"device": "cpu", "dtype": "float32", "layers": layers}
    environment |= {} if parameters is None else {"parameters": parameters}
    result = Result({"accuracy": layers / 10}, {"accuracy": 0.01}, flows)
    write_run(folder / f"{model}-{dataset}", "saliency", result, model=model, dataset=dataset, environment=environment)


def figures(folder: Path) -> dict[str, dict[str, dict[str, Curve]]]:
    """The curves of each panel of each figure, by their names."""
    cells, problems = into_cells(collect([folder]).runs)
    assert not problems
    drawn = list(over_models(cells, {}))
    assert all(grid.draw(problems) is not None for grid in drawn)
    assert not problems
    return {
        grid.name: {panel[0]: dict(panel[1].curves) for row in grid.panels for panel in row if panel} for grid in drawn
    }


def test_layers_of_models_of_any_depth_are_from_0_to_1(tmp_path: Path) -> None:
    for dataset in ("sst2", "trec"):
        add(tmp_path, "small", 2, None, dataset)
        add(tmp_path, "large", 4, None, dataset)
    found = figures(tmp_path)
    assert found.keys() == {"saliency_S_wp_share_by_depth", "saliency_S_pq_share_by_depth"}
    for panels in found.values():
        assert panels.keys() == {"sst2", "trec"}
        for curves in panels.values():
            assert {name: list(curve.at) for name, curve in curves.items()} == {
                "small": [0.5, 1],
                "large": [0.25, 0.5, 0.75, 1],
            }
            assert list(curves["large"].values) == [0, 0.25, 0.5, 0.75]


def test_a_metric_is_drawn_over_the_number_of_weights_a_line_for_each_dataset(tmp_path: Path) -> None:
    add(tmp_path, "large", 4, 2_000_000)
    add(tmp_path, "small", 2, 1_000)
    add(tmp_path, "small", 2, 1_000, "trec")
    add(tmp_path, "of an older version", 3, None)
    (panels,) = [found for name, found in figures(tmp_path).items() if name == "saliency_accuracy_by_size"]
    ((_, curves),) = panels.items()
    assert {name: (list(curve.at), list(curve.values)) for name, curve in curves.items()} == {
        "sst2": ([1_000, 2_000_000], [0.2, 0.4]),
        "trec": ([1_000], [0.2]),
    }


@pytest.mark.parametrize("models", [["one"], ["one", "another"]])
def test_models_of_one_size_have_no_figure_over_size(tmp_path: Path, models: list[str]) -> None:
    for model in models:
        add(tmp_path, model, 2, 1_000)
    assert len(figures(tmp_path)) == (0 if len(models) == 1 else 2)
