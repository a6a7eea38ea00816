"""The numbers and pictures of docs/, made from the runs of `sweep=readme`: `make docs-results RUNS=outputs`.

A part of docs/results.md between `<!-- results: EXPERIMENT -->` and `<!-- end -->` is a table of an experiment's claims, made
from its runs. Where there are none, the part stays as it is, and the command says so; likewise a picture.
"""

import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from anchorflow.report import figures
from anchorflow.report.cells import Cell, into_cells
from anchorflow.report.collect import collect
from anchorflow.report.drawing import known
from anchorflow.report.tables.overview import ends, over_seeds
from anchorflow.report.tables.sheets import Sheet, to_markdown, with_error
from anchorflow.report.views.label_relationships.hypotheses import hypotheses
from anchorflow.report.write import report
from anchorflow.results import Result, counted

DOCS = Path(__file__).parents[1] / "docs"
PART = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end -->)", re.S)
LOSS = 0.05
"""By how much compressed demonstrations may lower the accuracy and still count as keeping it."""


class Claim(NamedTuple):
    """What a paper says of two numbers, which `both` reads in the result of one seed: that the second is the larger one, or
    with `falls` the smaller one, but for `tolerance`.
    """

    sentence: str
    both: Callable[[Result], tuple[float, float]]
    falls: bool = False
    tolerance: float = 0

    def of(self, cell: Cell) -> str:
        """The two numbers over seeds, and in how many seeds the claim holds."""
        first, second = zip(*(self.both(run.numbers) for run in cell.runs), strict=True)
        sign = -1 if self.falls else 1
        known = [(a, b) for a, b in zip(first, second, strict=True) if not (math.isnan(a) or math.isnan(b))]
        held = f"{sum(sign * (b - a) > -self.tolerance for a, b in known)} of {counted(len(known), 'seed')}"
        undefined = f", undefined in {len(first) - len(known)}" if len(known) < len(first) else ""
        return f"{_over_seeds(first)} against {_over_seeds(second)} ({held}{undefined})"


def _over_seeds(values: Sequence[float]) -> str:
    if set(values) == {0}:  # a level, not a measurement
        return "0"
    means, errors = over_seeds([[value] for value in values])
    return with_error(float(means[0]), float(errors[0]))


def _thirds(curve: str) -> Callable[[Result], tuple[float, float]]:
    """Means over the first and the last third of the layers."""
    return lambda result: ends(known(result.curves[curve].values).tolist())


def _metrics(first: str, second: str) -> Callable[[Result], tuple[float, float]]:
    return lambda result: (result.metrics[first], result.metrics[second])


def _isolation(measure: str, other: str, key: str) -> Claim:
    sentence = f"{measure.replace('_', ' ')}: lower with label words isolated in the first 5 layers than {other}"
    return Claim(sentence, _metrics(f"label_first_5/{measure}", f"{key}/{measure}"))


def _compression(measure: str, other: str) -> Claim:
    sentence = f"{measure.replace('_', ' ')}: lower with {other} than with hidden_anchor"
    return Claim(sentence, _metrics(f"{other}/{measure}", f"hidden_anchor/{measure}"))


LOYALTIES = ("word_loyalty", "label_loyalty")
OTHERS = (("in the last 5", "label_last_5"), ("with random words isolated there", "random_first_5"))
CLAIMS: Mapping[str, Sequence[Claim]] = {
    "saliency": (
        Claim(
            "S_wp's share is larger in the first third of the layers than in the last",
            _thirds("S_wp_share"),
            falls=True,
        ),
        Claim("S_pq's share is smaller in the first third of the layers than in the last", _thirds("S_pq_share")),
    ),
    "isolation": tuple(_isolation(measure, *other) for measure in LOYALTIES for other in OTHERS),
    "attention_prediction": (
        Claim("AUCROC is lower in the first third of the layers than in the last", _thirds("AUCROC")),
    ),
    "reweighting": (
        Claim("accuracy: lower without re-weighting than with it", _metrics("vanilla/accuracy", "reweighted/accuracy")),
    ),
    "compression": (
        *(_compression(measure, other) for measure in LOYALTIES for other in ("hidden_random", "text_anchor")),
        Claim(
            f"accuracy: with full prompts at most {LOSS} higher than with hidden_anchor",
            _metrics("full/accuracy", "hidden_anchor/accuracy"),
            tolerance=LOSS,
        ),
    ),
    "diagnosis": (
        Claim(
            "Spearman's correlation of confusion and its prediction: above 0",
            lambda found: (0, found.metrics.get("spearman", float("nan"))),
        ),
    ),
}


class Picture(NamedTuple):
    """A PNG in docs/: one of the figures of an experiment's cell on this dataset, with this regime where it has any."""

    file: str
    experiment: str
    dataset: str
    figure: str
    regime: str = ""


PICTURES = (
    Picture("saliency-smollm2-135m-sst2", "saliency", "sst2", "saliency_shares"),
    Picture("saliency-smollm2-135m-trec", "saliency", "trec", "saliency_shares"),
    Picture("isolation-smollm2-135m-trec", "isolation", "trec", "isolation"),
    Picture("attention-prediction-smollm2-135m-trec", "attention_prediction", "trec", "attention_prediction"),
    Picture("classification-smollm2-135m-trec", "classification", "trec", "confusion"),
    Picture("beta-smollm2-135m-trec", "reweighting", "trec", "beta"),
    Picture("confusion-smollm2-135m-trec", "diagnosis", "trec", "confusion_matrices"),
    Picture("nh1-smollm2-135m-sst2", "label_relationships", "sst2", "label_relationships", "random"),
    Picture("nh2-smollm2-135m-agnews", "label_relationships", "agnews", "label_relationships", "replaced"),
    Picture("nh3-smollm2-135m-sst2", "label_relationships", "sst2", "changing_labels", "flipped"),
)
OF_REPORT = {"report-isolation": "isolation_word_loyalty", "report-nh1": "default_minus_random"}
"""Pictures that are figures of a report over all runs."""


def parts(cells: Sequence[Cell]) -> dict[str, str]:
    """The content of each part of docs/results.md that these cells have numbers for."""
    of_names: dict[str, list[Cell]] = {}
    for cell in cells:
        of_names.setdefault(cell.experiment, []).append(cell)
    found = {}
    for name, own in of_names.items():
        table = _hypotheses(own) if name == "label_relationships" else _claims(name, own) if name in CLAIMS else None
        if table is not None:
            found[name] = f"{to_markdown(table)}\n\n{_made_from(own)}\n"
    return found


def _claims(name: str, cells: Sequence[Cell]) -> Sheet:
    columns = [f"claim of {name}", *(cell.dataset for cell in cells)]
    rows = [[claim.sentence, *(claim.of(cell) for cell in cells)] for claim in CLAIMS[name]]
    return Sheet(name, name, columns, rows)


def _hypotheses(cells: Sequence[Cell]) -> Sheet:
    """A row for each difference of log-likelihood: a column for each dataset."""
    datasets = sorted({cell.dataset for cell in cells})
    rows = []
    for one in hypotheses(cells):
        if "log-likelihood" in one.of_what and not one.name.startswith("default_minus_guessing"):
            of = {test.cell.dataset: f"{test} ± {test.cell.result.stderr[test.name]:.2f}" for test in one.tests}
            rows.append([one.title, *(of.get(dataset, "") for dataset in datasets)])
    shared = set.intersection(*(set(row[0].split(", ")[1:]) for row in rows)) if len(rows) > 1 else set()
    for row in rows:
        row[0] = ", ".join(part for part in row[0].split(", ") if part not in shared)
    return Sheet("hypotheses", "hypotheses", ["difference of log-likelihood", *datasets], rows)


def _made_from(cells: Sequence[Cell]) -> str:
    """Which runs they are."""
    runs = [run for cell in cells for run in cell.runs]
    seeds = sorted({run.seed for run in runs})
    counts = sorted({f"{number} {unit}" for run in runs for unit, number in run.result["counts"].items() if number})
    revisions = sorted({str(run.result["environment"].get("git"))[:10] for run in runs})
    version = runs[0].settings.get("version", "1")
    return (
        f"Made from {counted(len(runs), 'run')} of {cells[0].model}: {', '.join(counts)}, seed{'s' * (len(seeds) > 1)} "
        f"{', '.join(map(str, seeds))}, version {version}, commit {', '.join(revisions)}."
    )


def updated(page: str, cells: Sequence[Cell]) -> str:
    """The page with the parts that these cells have numbers for."""
    made = parts(cells)
    return PART.sub(
        lambda part: part[1] + (made[part[2]] + part[3] if part[2] in made else part[0][len(part[1]) :]), page
    )


def pictures(cells: Sequence[Cell]) -> Iterator[tuple[str, Figure]]:
    """Each picture of which there are runs, with its file's name."""
    for picture in PICTURES:
        cell = next(filter(partial(_shown_by, picture), cells), None)
        if cell is not None:
            title = f"{cell.model}, {cell.dataset}, {len(cell.runs)} seed{'s' * (len(cell.runs) > 1)}"
            yield picture.file, figures.draw(cell.view, cell.result, title)[picture.figure]


def _shown_by(picture: Picture, cell: Cell) -> bool:
    regimes: Any = cell.runs[0].result["config"]["experiment"].get("regimes", [])
    dataset = cell.runs[0].result["config"]["dataset"]["name"]
    names = [name for regime in regimes for name in (regime if isinstance(regime, dict) else [regime])]
    return (cell.experiment, dataset) == picture[1:3] and (not picture.regime or picture.regime in names)


def pictures_of_report(folder: Path) -> dict[str, bytes]:
    """Those of `OF_REPORT` that a report of the runs below the folder has."""
    with TemporaryDirectory() as out:
        report([folder], Path(out))
        files = {name: sorted((Path(out) / "figures").glob(f"{figure}*.png")) for name, figure in OF_REPORT.items()}
        return {name: found[0].read_bytes() for name, found in files.items() if found}


def main(folder: Path) -> None:
    """Update docs/ from the runs below the folder."""
    told = sys.stderr.write
    cells, problems = into_cells(collect([folder]).runs)
    for problem in problems:
        told(f"problem: {problem}\n")
    page = DOCS / "results.md"
    page.write_text(updated(page.read_text(), cells))
    drawn = dict(pictures(cells))
    figures.save(drawn, DOCS, ["png"])
    of_report = pictures_of_report(folder)
    for name, png in of_report.items():
        (DOCS / f"{name}.png").write_bytes(png)
    missing = [name for _, name, _ in PART.findall(page.read_text()) if name not in parts(cells)]
    every = [*(picture.file for picture in PICTURES), *OF_REPORT]
    missing += [f"{name}.png" for name in every if name not in drawn and name not in of_report]
    for name in missing:
        told(f"no runs for {name}: it stays as it is\n")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "outputs"))
