"""Runs as a pandas table: one row per run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anchorflow.report.collect import Collection, Run
from anchorflow.report.run_settings import SCOPES, as_text, typed, varying_settings

if TYPE_CHECKING:
    import pandas as pd


def frame(found: Collection) -> pd.DataFrame:
    """The runs with all settings and metrics. Rows of one `cell` differ only in their seed."""
    import pandas as pd

    cells: dict[int, str] = {}
    for experiment in dict.fromkeys(run.experiment for run in found.runs):
        together = [run for run in found.runs if run.experiment == experiment]
        for run, settings in zip(together, varying_settings(together), strict=True):
            cells[id(run)] = ", ".join([experiment, run.model, run.dataset, *filter(None, [typed(settings)])])
    rows = []
    for run in found.runs:
        result = run.numbers
        named = {"experiment": run.experiment, "model": run.model, "dataset": run.dataset, "seed": run.seed}
        errors = {f"{name}_stderr": value for name, value in result.stderr.items()}
        path = {"path": str(run.path)}
        rows.append({**named, "cell": cells[id(run)], **_settings(run), **result.metrics, **errors, **path})
    return pd.DataFrame(rows)


def _settings(run: Run) -> dict[str, Any]:
    """Those of its experiment, job, model and dataset. Lists are text, so that they can be grouped by."""
    found = {}
    for scope in SCOPES:
        for name, value in scope.settings(run).items():
            shown = f"experiment.{name}" if name in run.settings else name
            found[shown] = as_text(value) if isinstance(value, list | dict) else value
    return found
