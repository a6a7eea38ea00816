"""The effect of labels in the context (In-Context Learning Learns Label Relationships): curves and null hypotheses."""

from anchorflow.experiments.contrasts import SECOND_HALF
from anchorflow.report.view import View
from anchorflow.report.views.label_relationships.curves import both_sides, curves, panels
from anchorflow.report.views.label_relationships.hypotheses import differing, heat_maps, sheets
from anchorflow.report.views.label_relationships.repetitions import pool, scores
from anchorflow.results import Result

GUESSING = "guessing"


def headline(result: Result) -> list[str]:
    """The differences at one number of examples, as in the paper; tables also have accuracy and second halves."""
    return [name for name in differing(result) if not name.endswith(SECOND_HALF) and "_accuracy" not in name]


def rows(result: Result) -> dict[str, tuple[str, str]]:
    """One row per regime. The number of examples is a setting, and differences have their own table."""
    apart = {name for difference in differing(result) for name in (difference, f"{difference}_p")}
    parts = {name: name.rpartition("/") for name in result.metrics if name not in apart}  # a word may contain a /
    return {
        name: (regime, f"{measure}_at_max" if regime == GUESSING else measure)  # the same at every number of examples
        for name, (regime, _, measure) in parts.items()
        if regime
    }


VIEW = View(
    figures={"label_relationships": curves, "changing_labels": both_sides},
    panels=panels,
    headline=headline,
    rows=rows,
    sheets=sheets,
    drawings=heat_maps,
    pool=pool,
    scores=scores,
    given=tuple(f"{GUESSING}/{measure}" for measure in ("accuracy", "log_likelihood", "entropy")),
)
