"""Figures from made-up results: they show the numbers, leave gaps for what is undefined, and overlap nowhere."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anchorflow.experiments.compression import VARIANTS
from anchorflow.experiments.isolation import KINDS, MEASURES
from anchorflow.experiments.label_relationships import MEASURES as MEASURES_OF_LABELS
from anchorflow.report import figures
from anchorflow.report.view import view_of
from anchorflow.report.views.label_relationships.curves import smooth
from anchorflow.results import Curve, Result, Table
from tests.report.made_up import MADE_UP, NAN, VALUES, known, made_up, undefined, with_gaps


def drawn(experiment: str, result: Result) -> dict[str, Figure]:
    return figures.draw(view_of(experiment), result, "smollm2-135m, medical_questions_pairs, seed 42")


@pytest.mark.parametrize("experiment", MADE_UP)
@pytest.mark.parametrize(
    ("values", "places", "classes", "stderr"),
    [
        ("known", 1, 2, False),
        ("nan in places", 8, 6, True),
        ("None in places", 8, 6, True),
        ("nan everywhere", 8, 2, True),
        ("None everywhere", 1, 2, True),
    ],
)
def test_every_experiment_draws_what_is_known(
    experiment: str, values: str, places: int, classes: int, stderr: bool
) -> None:
    found = drawn(experiment, made_up(experiment, VALUES[values](), places, classes, stderr))
    assert set(found) == set(view_of(experiment).figures or ())
    for figure in found.values():
        figure.draw_without_rendering()


@pytest.mark.parametrize("experiment", MADE_UP)
@pytest.mark.parametrize(("places", "classes"), [(1, 2), (4, 3), (30, 6)])
def test_nothing_is_written_over_anything(experiment: str, places: int, classes: int) -> None:
    for figure in drawn(experiment, made_up(experiment, known(), places, classes)).values():
        figure.draw_without_rendering()
        outside = [artist.get_window_extent() for artist in (*figure.legends, *figure.texts)]
        taken = [axes.get_tightbbox() for axes in figure.axes]
        for first, second in itertools.combinations([box for box in (*outside, *taken) if box is not None], 2):
            assert not first.overlaps(second)
        for axes in figure.axes:
            for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
                shown = [
                    label for label in labels if label.get_text() and label.get_visible() and not label.get_rotation()
                ]
                for first, second in itertools.combinations([label.get_window_extent() for label in shown], 2):
                    assert not first.overlaps(second)


@pytest.mark.parametrize("experiment", MADE_UP)
def test_figures_are_saved_as_png_and_pdf(tmp_path: Path, experiment: str) -> None:
    found = drawn(experiment, made_up(experiment, with_gaps(NAN)()))
    paths = figures.save(found, tmp_path / "figures")
    assert paths == [tmp_path / "figures" / f"{name}.png" for name in view_of(experiment).figures or ()]
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")


def test_an_experiment_without_figures_has_none() -> None:
    assert figures.draw(view_of("unheard of"), Result({}), "title") == {}


def test_a_saved_beta_has_no_training_to_show() -> None:
    result = made_up("reweighting", known())
    assert set(drawn("reweighting", Result({}, tables=result.tables))) == {"beta"}
    assert drawn("reweighting", Result({})) == {}


def test_beta_is_centred_at_zero_with_the_first_layer_at_the_bottom() -> None:
    table = Table(["1", "2", "3"], ["1", "2"], [[0.1, -0.4], [0.2, NAN], [0.0, 0.3]])
    axes = drawn("reweighting", Result({}, tables={"beta": table}))["beta"].axes[0]
    (image,) = axes.images
    assert image.get_clim() == (-0.4, 0.4)
    bottom, top = axes.get_ylim()
    assert bottom < top
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1", "2", "3"]
    assert np.ma.getmaskarray(image.get_array()).tolist() == [[False, False], [False, True], [False, False]]


@pytest.mark.parametrize("hole", [NAN, None])
def test_undefined_layers_are_gaps(hole: float) -> None:
    values = [0.6, hole, 0.8]
    result = Result({}, curves={name: Curve("layer", [1, 2, 3], values) for name in ("AUCROC", "R")})
    for axes in drawn("attention_prediction", result)["attention_prediction"].axes:
        assert curve_of(axes)[1] == pytest.approx([0.6, NAN, 0.8], nan_ok=True)
        assert not said(axes)


def test_a_curve_without_a_value_says_so_and_its_note_says_why() -> None:
    nothing, something = Curve("layer", [1, 2], [NAN, NAN]), Curve("layer", [1, 2], [0.5, 0.5])
    result = Result({}, curves={"AUCROC": something, "R": nothing}, notes=["because of this"])
    figure = drawn("attention_prediction", result)["attention_prediction"]
    assert [said(axes) for axes in figure.axes] == [False, True]
    assert figure.get_supxlabel() == "because of this"
    spearman = drawn("diagnosis", made_up("diagnosis", undefined(NAN)()))["spearman_by_layer"]
    assert said(spearman.axes[0])


def test_isolation_has_a_bar_for_every_k_and_kind_with_its_error() -> None:
    heights = iter(np.linspace(0.1, 0.9, 36))
    curves = {
        f"{kind}/{measure}": Curve("k", [1, 3, 5], [float(next(heights)) for _ in range(3)], [0.05, NAN, 0.0])
        for kind in KINDS
        for measure in MEASURES
    }
    figure = drawn("isolation", Result({}, curves=curves))["isolation"]
    for axes, measure in zip(figure.axes, ("label_loyalty", "word_loyalty"), strict=True):
        assert axes.get_title() == measure.replace("_", " ")
        wanted = [value for kind in KINDS for value in curves[f"{kind}/{measure}"].values]
        assert [bar.get_height() for bar in axes.patches] == wanted
        assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "3", "5"]
    (legend,) = figure.legends
    assert len(legend.get_texts()) == len(KINDS)


def test_compression_shows_every_variant_and_writes_its_cost() -> None:
    metrics = {f"{name}/label_loyalty": 0.1 * i for i, name in enumerate(VARIANTS)}
    metrics |= {f"{name}/{key}": 0.5 for name in VARIANTS for key in ("word_loyalty", "accuracy")}
    metrics |= {"full/kept_share": 1.0, "full/kept_tokens": 119.0, "text_anchor/speedup": 1.8, "full/speedup": NAN}
    found = drawn("compression", Result(metrics))
    loyalty = found["compression"].axes[0]
    assert [label.get_text() for label in loyalty.get_xticklabels()] == list(VARIANTS)
    assert [bar.get_height() for bar in loyalty.patches[:5]] == [metrics[f"{name}/label_loyalty"] for name in VARIANTS]
    kept, speed = ([text.get_text() for text in axes.texts] for axes in found["compression_cost"].axes)
    assert [text for text in kept if text] == ["1.00 (119 tokens)", *["–"] * 4]
    assert [text for text in speed if text] == ["1.80×", *["–"] * 9]


def test_diagnosis_shows_both_matrices_alike_and_marks_its_layer() -> None:
    names = ["b", "a"]
    tables = {
        "confusion": Table(names, names, [[1.0, NAN], [NAN, 1.0]]),
        "predicted_confusion": Table(names, names, [[1.0, 0.25], [0.25, 1.0]]),
    }
    curve = Curve("layer", [1, 2, 3], [0.1, NAN, 0.3])
    found = drawn("diagnosis", Result({"layer": 3}, curves={"spearman_by_layer": curve}, tables=tables))
    left, right = found["confusion_matrices"].axes[:2]
    assert [text.get_text() for text in left.texts] == ["1.00", "–", "–", "1.00"]
    assert [text.get_text() for text in right.texts] == ["1.00", "0.25", "0.25", "1.00"]
    assert "layer 3" in right.get_title()
    for axes in (left, right):
        assert axes.images[0].get_clim() == (0, 1)
        assert [label.get_text() for label in axes.get_xticklabels()] == names
    assert [label.get_text() for label in left.get_yticklabels()] == names
    spearman = found["spearman_by_layer"].axes[0]
    assert curve_of(spearman)[1] == pytest.approx([0.1, NAN, 0.3], nan_ok=True)
    assert any(list(line.get_xdata()) == [3, 3] for line in spearman.lines)


def curve_of(axes: Axes) -> tuple[list[float], list[float]]:
    """The points of the one line with markers."""
    (line,) = (line for line in axes.lines if line.get_marker() != "None")
    return list(line.get_xdata()), list(line.get_ydata())


def said(axes: Axes) -> bool:
    return any("undefined" in text.get_text() for text in axes.texts)


def test_curves_of_labels_are_drawn_as_moving_averages_and_flipped_labels_against_both_sides() -> None:
    result = made_up("label_relationships", known())
    figure = drawn("label_relationships", result)["label_relationships"]
    for axes, measure in zip(figure.axes, MEASURES_OF_LABELS, strict=True):
        lines = {line.get_label(): line for line in axes.lines if not str(line.get_label()).startswith("_")}
        names = ["default", "flipped", "flip after 2", "alternating 1", "replaced A B"]
        assert list(lines) == names + ["flipped, against flipped labels"] * (measure != "entropy")
        values = result.curves[f"default/{measure}"].values
        assert list(lines["default"].get_ydata())[2] == pytest.approx(np.mean(values[:5]))
        assert next(iter(lines["default"].get_ydata())) == values[0]
        assert list(lines["default"].get_xdata()) == list(range(8))
    assert smooth(Curve("x", range(3), [0.0, NAN, 4.0])).values == [0.0, 2.0, 4.0]


def test_a_change_of_side_is_marked_and_drawn_against_both() -> None:
    result = made_up("label_relationships", known())
    figure = drawn("label_relationships", result)["changing_labels"]
    assert [axes.get_title() for axes in figure.axes[:2]] == ["flip after 2", "alternating 1"]
    marked = [
        sorted({line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1}) for axes in figure.axes
    ]
    assert marked == [[2, 4], [], [2, 4], []]
    named = {line.get_label() for line in figure.axes[0].lines if not str(line.get_label()).startswith("_")}
    assert named == {"against the true labels", "against the flipped labels"}
    steady = {key: curve for key, curve in result.curves.items() if key.startswith("default/")}
    assert set(drawn("label_relationships", Result({}, curves=steady))) == {"label_relationships"}
