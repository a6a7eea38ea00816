"""The flow view of one run as a page of its own, in a browser or a notebook: the same picture as in a report."""

import html
import sys
import tempfile
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from anchorflow.errors import UserError
from anchorflow.experiments.flows import FlowExample, read_examples
from anchorflow.report.collect import Run, collect
from anchorflow.report.page.data import of_flows
from anchorflow.report.page.page import flow_page
from anchorflow.report.view import View, names_with_flows
from anchorflow.results import write_atomically

LISTED = 10
"""Runs below a path that are named where one has to be chosen."""
HEIGHT = 900
"""Pixels of the frame in a notebook; it scrolls."""
IN_TERMINAL = ("www-browser", "lynx", "links", "elinks", "w3m")
"""Browsers that draw no pictures and would take the terminal."""


@dataclass(frozen=True)
class FlowView:
    """A page with the flow view of one run. A notebook shows it where it is the last value of a cell."""

    title: str
    page: str = field(repr=False)
    """The whole page; it needs no network."""

    def save(self, path: str | Path) -> Path:
        """Write the page to this file. UserError where it cannot be written."""
        path = Path(path).expanduser()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, self.page)
        except OSError as error:
            raise UserError(
                f"the flow view cannot be written to {path} ({error.strerror}); choose another file."
            ) from error
        return path

    def open(self) -> Path:
        """Open the page in the browser, if there is one that draws pictures; the page's temporary file comes back."""
        path = self.save(Path(tempfile.mkdtemp(prefix="anchorflow-")) / "flow.html")
        try:
            browser = webbrowser.get()
        except webbrowser.Error:  # there is none
            return path
        if getattr(browser, "name", "") not in IN_TERMINAL:
            browser.open(path.as_uri())
        return path

    def _repr_html_(self) -> str:
        return (
            f'<iframe title="{html.escape(self.title)}" srcdoc="{html.escape(self.page)}" width="100%" height="{HEIGHT}" '
            'style="border: 0" sandbox="allow-scripts allow-downloads"></iframe>'
        )


def show(path: Path, out: Path | None = None) -> tuple[Path, list[str]]:
    """Open the flow view of the run at or below the path, or write it to `out`.

    Returns the page's file, and a message for each damaged example, which it leaves out. UserError where there is not
    exactly one complete run, or one that has no flow view.
    """
    run = _only(path)
    _refuse_without_flows(run.view, run.experiment)
    examples, problems = read_examples(run.path)
    if problems and not examples:
        raise UserError(" ".join(problems))
    view = flow_view(run.experiment, run.model, run.dataset, run.seed, examples, run.view, str(run.path))
    return view.open() if out is None else view.save(out), problems


def flow_view(
    experiment: str, model: str, dataset: str, seed: int, examples: Sequence[FlowExample], view: View, place: str = ""
) -> FlowView:
    """The flow view of these examples of a run. UserError where its experiment has none, or it kept no example."""
    _refuse_without_flows(view, experiment)
    if not examples:
        where = place or "the run"
        raise UserError(f"{where} kept no example of its flows; run it with experiment.keep_examples=1 or more.")
    title = f"{model}, {dataset}, seed {seed}"
    shown = of_flows(experiment, model, dataset, seed, examples, place)
    return FlowView(title, flow_page(f"{title}: information flow", shown))


def in_notebook() -> bool:
    """Whether a notebook shows what a cell ends with."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def _refuse_without_flows(view: View, experiment: str) -> None:
    if not view.flows:
        raise UserError(f"{experiment} has no flow view; experiments that have one: {', '.join(names_with_flows())}.")


def _only(path: Path) -> Run:
    found = collect([path])
    of_paths = {run.path: run for run in reversed(found.runs)}
    if len(of_paths) == 1:
        return next(iter(of_paths.values()))
    if not of_paths:
        reasons = [*found.problems, *(f"{run.path}: {run.reason}" for run in found.incomplete)]
        raise UserError("\n".join([f"no complete run lies at or below {path}.", *reasons[:LISTED]]))
    names = sorted(map(str, of_paths))
    more = [f"… and {len(names) - LISTED} more"] * (len(names) > LISTED)
    raise UserError("\n".join([f"{len(names)} runs lie below {path}; choose one:", *names[:LISTED], *more]))
