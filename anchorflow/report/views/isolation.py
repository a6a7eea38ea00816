"""The effect of isolating label words (Label Words are Anchors, figs. 4 and 8, table 5)."""

from collections.abc import Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anchorflow.report.averages import over_datasets
from anchorflow.report.cells import Cell, setting_names
from anchorflow.report.collect import Run
from anchorflow.report.drawing import AMBER, BLUE, Bars, canvas, filled, grouped_bars, hatched, legend_below
from anchorflow.report.tables.sheets import Row, Sheet
from anchorflow.report.view import Panel, View
from anchorflow.results import Result

STYLES = {
    "label_first": ("label words, first k layers", filled(BLUE)),
    "label_last": ("label words, last k layers", hatched(BLUE, "////")),
    "random_first": ("random positions, first k layers", filled(AMBER)),
    "random_last": ("random positions, last k layers", hatched(AMBER, "....")),
}
MEASURES = {"label_loyalty": "label loyalty", "word_loyalty": "word loyalty"}


def loyalty(result: Result, title: str) -> Figure:
    """Label loyalty and word loyalty side by side, for every k."""
    ks = result.curves["label_first/label_loyalty"].at
    width = min(14.0, 3.2 + 0.9 * len(ks))
    figure, panels = canvas(title, width=width, height=3.4, columns=2, sharey=True)
    for axes, (measure, name) in zip(panels, MEASURES.items(), strict=True):
        bars(axes, result, measure)
        axes.set_title(name, fontsize=9)
    panels[0].set_ylabel("loyalty")
    legend_below(figure, panels[0], columns=2)
    return figure


def bars(axes: Axes, result: Result, measure: str) -> None:
    """A bar for every k and kind of isolation."""
    series = []
    for kind, (label, look) in STYLES.items():
        curve = result.curves[f"{kind}/{measure}"]
        series.append(Bars(label, curve.values, look, curve.stderr))
    grouped_bars(axes, [f"{k:g}" for k in curve.at], series)
    axes.set(xlabel="k (isolated layers)", ylim=(0, 1.05))


def headline(result: Result) -> list[str]:
    """The word loyalty with isolated label words, if k = 5 was run."""
    names = ("label_first_5/word_loyalty", "label_last_5/word_loyalty")
    return [name for name in names if name in result.metrics]


def five_words(cells: Sequence[Cell]) -> list[Sheet]:
    """Table 5: the most probable next words of queries with saved words, before and after isolation."""
    names = setting_names(cells)
    columns = ["model", "dataset", *names, "seed", "query", "label", "isolated", "predicted", "most probable words"]
    rows: list[Row] = []
    for cell in cells:
        run = cell.runs[0]
        kept = [record for record in run.records() if "words" in record]
        ks = cell.result.curves["label_first/label_loyalty"].at
        k = 5 if 5 in ks else max(ks)
        for record in kept:
            labels = _label_words(run)
            for kind, what in {
                "full": "nothing",
                **{f"{kind}_{k:g}": label for kind, (label, _) in STYLES.items()},
            }.items():
                probs, words = record["variants"][kind]["probs"], ", ".join(map(repr, record["words"][kind]))
                where = [*cell.head(names), str(run.seed), str(record["query"]), labels[record["label"]]]
                rows.append([*where, what.replace(" k ", f" {k:g} "), labels[probs.index(max(probs))], words])
    title = "Most probable next words before and after isolation (Label Words are Anchors, table 5)"
    return [Sheet("isolation_words", title, columns, rows)] if rows else []


def _label_words(run: Run) -> list[str]:
    _, _, words, _ = run.result["identity_of"]["prompts"]
    return [word.strip() for word in words]


VIEW = View(
    figures={"isolation": loyalty},
    panels={
        f"isolation_{measure}": Panel(partial(bars, measure=measure)) for measure in ("label_loyalty", "word_loyalty")
    },
    headline=headline,
    default_variant="full",
    sheets=five_words,
    averaged=over_datasets,
)
