"""`anchorflow workspace PATH...`: W&B pages for comparisons: a saved view of each experiment, and a report of all."""

import importlib.util
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anchorflow.errors import UserError, first_line
from anchorflow.report.collect import Run, collect
from anchorflow.report.tables.overview import FIRST
from anchorflow.report.view import Place, View
from anchorflow.results import Result
from anchorflow.tracking.afterwards import names_of, offline
from anchorflow.tracking.names import safe
from anchorflow.tracking.sync import check_access

REPORT, VIEWS = "anchorflow report", "anchorflow"
"""The title of the report and the prefix of view titles (`anchorflow: saliency`), by which they are found and replaced."""
EDGES = ("", "_low", "_high")
"""The suffixes of a curve with its band."""
MOST = 50
"""The most runs or groups in a plot; W&B's own limit is 10."""
INTRODUCTION = (
    "Made by `anchorflow workspace`, which replaces this report when it runs again: copy it before you edit it."
)
OVER_SEEDS = (
    "Each row, line and bar is a cell (runs that differ in the seed alone): the mean over its seeds, with one standard "
    "error."
)
OF_ITS_OWN = (
    "Seeds share repetitions and are no replicates: each run is shown alone, its curves with one standard error over "
    "repetitions (_low, _high)."
)
TESTS = "Paired differences, each with the p-value (_p) of its test over repetitions."
HEADLINE, HYPOTHESES = "headline", "null hypotheses"


@dataclass(frozen=True)
class Plot:
    """Curves in one plot over an axis, by their W&B names."""

    axis: str
    title: str
    log: bool
    curves: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """The content of an experiment's page, by W&B names.

    `replicates`: whether a mean over seeds has a standard error. `hypotheses` are differences, each followed by its p.
    """

    experiment: str
    replicates: bool
    headline: tuple[str, ...]
    hypotheses: tuple[str, ...]
    plots: tuple[Plot, ...]

    @staticmethod
    def columns(numbers: Sequence[str]) -> list[str]:
        """The columns of a table of runs with these metrics."""
        named = [f"config:{part}_name.value" for part in ("model", "dataset")]
        return ["run:displayName", *named, *(f"summary:{name}" for name in numbers)]


def workspace(paths: Sequence[Path]) -> list[str]:
    """Create or update the pages of the runs at or below the paths, in each W&B project of these runs.

    Returns labelled links. UserError without complete runs, wandb-workspaces, credentials, a network, or a project.
    """
    runs = collect(paths).runs
    if not runs:
        raise UserError(f"there is no complete run at or below {', '.join(map(str, paths))}.")
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise UserError("this needs wandb-workspaces; run: pip install 'anchorflow[wandb]'.")
    check_access()
    import wandb
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError

    api = wandb.Api()
    by_place: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs:
        labels = offline(run.result["config"]).labels(names_of(run.result))
        by_place[labels["entity"] or api.default_entity, labels["project"]].append(run)
    links = []
    for (entity, project), here in by_place.items():
        names = dict.fromkeys(run.experiment for run in here)
        pages = [_page([run for run in here if run.experiment == name]) for name in names]
        try:
            links.append(f"report: {_save_report(api, entity, project, pages)}")
            links += [f"{page.experiment}: {_save_view(entity, project, page)}" for page in pages]
        except (wandb.Error, WandbApiFailedError, ValueError) as error:
            raise UserError(
                f"W&B did not accept the pages for {entity}/{project} ({first_line(error)}); the project must exist, contain "
                "runs (anchorflow sync), and be writable for you."
            ) from error
    return links


def _page(runs: Sequence[Run]) -> Page:
    """The page of one experiment's runs; metrics and curves in their order of appearance."""
    headline: dict[str, None] = {}
    hypotheses: dict[str, None] = {}
    plots: dict[tuple[str, Place], dict[str, None]] = defaultdict(dict)
    for run in runs:
        names, view, result = names_of(run.result), run.view, run.numbers
        headline |= dict.fromkeys(map(names.number, _headline(view, result)))
        for name in result.metrics:
            if f"{name}_p" in result.metrics:
                hypotheses |= dict.fromkeys(map(names.number, (name, f"{name}_p")))
        for name, curve in result.curves.items():
            place = view.place_of(name, [])._replace(variant="")
            edges = EDGES if curve.stderr is not None and not names.replicates else EDGES[:1]
            of_curve = dict.fromkeys(names.number(name + edge) for edge in edges)
            for axis in (curve.x, "depth") if curve.x == "layer" else (curve.x,):
                plots[axis, place] |= of_curve
    return Page(
        runs[0].experiment,
        names_of(runs[0].result).replicates,
        tuple(name for name in headline if name not in hypotheses),
        tuple(hypotheses),
        tuple(Plot(safe(axis), place.panel, place.log, tuple(found)) for (axis, place), found in plots.items()),
    )


def _headline(view: View, result: Result) -> list[str]:
    named = view.headline_of(result, [])
    return list(result.metrics)[:FIRST] if named is None else [name for name in named if name in result.metrics]


def _save_view(entity: str, project: str, page: Page) -> str:
    """Save the experiment's view; returns its link."""
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces.expr import Config
    from wandb_workspaces.workspaces.internal import View as Saved

    axes = dict.fromkeys(plot.axis for plot in page.plots)
    sections = {
        HEADLINE: _bars(page, page.headline),
        HYPOTHESES: _bars(page, page.hypotheses),
        **{f"over {axis}": _lines(page, axis) for axis in axes},
    }
    view = ws.Workspace(
        entity=entity,
        project=project,
        name=f"{VIEWS}: {page.experiment}",
        sections=[ws.Section(name=name, panels=panels, is_open=True) for name, panels in sections.items() if panels],
        settings=ws.WorkspaceSettings(max_runs=MOST),
        runset_settings=ws.RunsetSettings(
            filters=[Config("experiment_name") == page.experiment],
            groupby=[Config("cell")] if page.replicates else [],
            pinned_columns=page.columns([*page.headline, *page.hypotheses]),
        ),
    )
    # The library invents a name for each new view; a fixed name lets us find it again.
    view._internal_name = f"nw-{VIEWS}{''.join(filter(str.isalnum, page.experiment))}-v"
    with suppress(ValueError):  # it does not exist yet
        view._internal_id = Saved.from_name(entity, project, view._internal_name).id
    return str(view.save().url)


def _save_report(api: Any, entity: str, project: str, pages: Sequence[Page]) -> str:
    """Save the report; returns its link."""
    import wandb_workspaces.reports.v2 as wr

    def grid(page: Page, name: str, numbers: Sequence[str], panels: Sequence[Any]) -> Any:
        columns = page.columns(numbers)
        runs = wr.Runset(
            entity=entity,
            project=project,
            name=name,
            filters=f"Config('experiment_name') = '{page.experiment}'",
            groupby=["config.cell"] if page.replicates else [],
            pinned_columns=columns,
            visible_columns=columns,
            lock_columns=True,
        )
        return wr.PanelGrid(runsets=[runs], panels=list(panels))

    blocks = [wr.MarkdownBlock(INTRODUCTION), wr.TableOfContents()]
    for page in pages:
        axes = dict.fromkeys(plot.axis for plot in page.plots)
        panels = [*_bars(page, page.headline), *(line for axis in axes for line in _lines(page, axis))]
        blocks += [wr.H1(page.experiment), wr.MarkdownBlock(OVER_SEEDS if page.replicates else OF_ITS_OWN)]
        blocks.append(grid(page, page.experiment, page.headline, panels))
        if page.hypotheses:
            blocks += [wr.H2(HYPOTHESES.capitalize()), wr.MarkdownBlock(TESTS)]
            blocks.append(grid(page, HYPOTHESES, page.hypotheses, _bars(page, page.hypotheses)))
    report = wr.Report(entity=entity, project=project, title=REPORT, width="fluid", blocks=blocks)
    earlier = [each.id for each in api.reports(f"{entity}/{project}") if each.display_name == REPORT]
    report.id = next(iter(earlier), "")
    return str(report.save().url)


def _bars(page: Page, numbers: Sequence[str]) -> list[Any]:
    """A plot for each metric that is not a p-value."""
    import wandb_workspaces.reports.v2 as wr

    shown = [name for name in numbers if not (name.endswith("_p") and name.removesuffix("_p") in numbers)]
    return [wr.BarPlot(title=name, metrics=[name], max_runs_to_show=MOST, **_aggregated(page)) for name in shown]


def _lines(page: Page, axis: str) -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    return [
        wr.LinePlot(
            title=plot.title or page.experiment,
            x=axis,
            y=list(plot.curves),
            log_y=plot.log,
            max_runs_to_show=MOST,
            **_aggregated(page),
        )
        for plot in page.plots
        if plot.axis == axis
    ]


def _aggregated(page: Page) -> dict[str, Any]:
    """Settings that draw each group as its mean and standard error; groups exist only if seeds are replicates."""
    return {"groupby_aggfunc": "mean", "groupby_rangefunc": "stderr"} if page.replicates else {}
