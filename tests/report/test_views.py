"""Views: where they are found, what stands in for them, and that nothing else knows an experiment."""

import json
import logging
import re
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import anchorflow.report
from anchorflow.report import View, figures
from anchorflow.report.collect import collect
from anchorflow.report.compare import differences
from anchorflow.report.view import view_of
from anchorflow.report.views import saliency
from anchorflow.report.write import report
from anchorflow.results import Curve, Result, Table
from tests.report.runs import EXPERIMENTS, write_run

SOURCES = Path(anchorflow.report.__file__).parent
ECHO = """
from typing import ClassVar

class Echo:
    view: ClassVar[str] = "{package}.echo_view"
"""
VIEW = """
from functools import partial

from anchorflow.report import Panel, Place, View
from anchorflow.report.drawing import BLUE, canvas, line

def curve(axes, result, name):
    line(axes, result.curves[name], color=BLUE)

def figure(result, title):
    drawn, (axes,) = canvas(title)
    curve(axes, result, "{curve}")
    return drawn

VIEW = View(
    figures={{"echo": figure}},
    panels={{"echo_of_all": Panel(partial(curve, name="{curve}"), errors=False, remark="as loud as it is")}},
    headline=("loudness",),
    thirds=("{curve}",),
    headings={{"echoes": "from wall to wall"}},
    place=lambda name: Place("all echoes", name, log=True),
)
"""
RESULT = Result(
    {"n_echoes": 3.0, "loudness": 0.5, "full/delay": 0.25},
    {"loudness": 0.1},
    {
        "S_x": Curve("layer", [1, 2, 3], [0.1, 0.5, 0.3], [0.1, 0.1, 0.1]),
        "a/S_y": Curve("wall", [0.5, 1.5], [0.1, 0.5]),
        "b/S_y": Curve("wall", [0.5, 1.5], [0.2, float("nan")]),
    },
    {"echoes": Table(["a", "b"], ["a", "b"], [[1.0, 0.5], [0.5, 1.0]])},
)
SHOWN = "_n_echoes-null_walls-2"
"""The settings in the names of its figures: of this class no defaults are known."""
Package = Callable[..., str]
numbers = count()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """Makes a package of one's own with an experiment and, with these texts, further modules; its name comes back."""
    monkeypatch.syspath_prepend(tmp_path / "own")

    def make(**modules: str) -> str:
        name = f"own_package_{next(numbers)}"
        folder = tmp_path / "own" / name
        folder.mkdir(parents=True)
        for module, text in {"__init__": "", "echo": ECHO.format(package=name), **modules}.items():
            (folder / f"{module}.py").write_text(text)
        return name

    return make


def echo(folder: Path, target: str, result: Result = RESULT, **more: Any) -> Path:
    settings = {"_target_": target, "n_echoes": None, "walls": 2}
    return write_run(folder, "echo", result, settings=settings, **more)


def written(tmp_path: Path) -> tuple[str, Path]:
    """What a report of all runs says on the screen, and where it is."""
    return report([tmp_path / "runs"], tmp_path / "out"), tmp_path / "out"


def names(out: Path, kind: str) -> set[str]:
    return {path.stem for path in (out / kind).iterdir()}


def page(out: Path) -> dict[str, Any]:
    text = (out / "index.html").read_text(encoding="utf-8")
    (data,) = re.findall(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', text, flags=re.DOTALL)
    return json.loads(data)  # type: ignore[no-any-return]


def test_without_a_view_there_is_a_table_of_all_metrics_and_a_figure_for_each_measure(
    tmp_path: Path, package: Package
) -> None:
    own = package(echo="class Echo:\n    pass")
    for seed in (1, 2):
        echo(tmp_path / "runs" / str(seed), f"{own}.echo.Echo", seed=seed)
    said, out = written(tmp_path)
    assert said.startswith("# 2 runs in 1 cell, 0 incomplete, 0 problems\n")
    assert "| echo | gpt2 | sst2 |  | 2 | loudness 0.500 ± 0.071, full/delay 0.250 |" in said
    assert names(out, "figures") == {f"echo_S_x{SHOWN}", f"echo_S_y{SHOWN}"}
    header, without, full = (out / "tables" / "echo.csv").read_text().splitlines()
    assert header.split(",") == [
        *("model", "dataset", "variant", "seeds", "stderr over"),
        *("loudness", "loudness stderr", "loudness remark", "delay", "delay stderr"),
    ]
    assert "over queries" in without  # as both seeds agree
    assert without.startswith("gpt2,sst2,,2,seeds,0.5,0.0707106781")
    assert full.endswith(",0.25,")
    assert "echo,n_echoes,3.0" in (out / "tables" / "settings.csv").read_text()  # as it was decided, and no measure


def test_a_single_run_without_a_view_has_the_same_figures() -> None:
    drawn = figures.draw(view_of("echo"), RESULT, "title")
    assert set(drawn) == {"S_x", "S_y"}
    (axes,) = drawn["S_y"].axes
    assert [line.get_label() for line in axes.lines] == ["a", "b"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("wall", "S y")


@pytest.mark.parametrize("name", ["echo", "saliency"])
def test_an_experiment_brings_its_own_view(tmp_path: Path, package: Package, name: str) -> None:
    own = package(echo_view=VIEW.format(curve="S_x"))
    view = view_of(name, f"{own}.echo.Echo")
    assert (view.experiment, view.problem, view.headline) == (name, "", ("loudness",))
    echo(tmp_path / "runs" / "one", f"{own}.echo.Echo")
    said, out = written(tmp_path)
    assert said.startswith("# 1 run in 1 cell, 0 incomplete, 0 problems\n")
    assert "| loudness 0.50 ± 0.10 |" in said
    assert names(out, "figures") == {f"echo_of_all{SHOWN}"}
    assert names(out, "tables") == {"overview", "thirds", "echo", "settings"}
    found = page(out)
    assert found["experiments"][0]["panels"] == ["all echoes"]
    assert found["runs"][0]["matrices"][0]["heading"] == "from wall to wall"
    assert set(figures.draw(view, RESULT, "title")) == {"echo"}


def test_what_a_view_asks_for_in_vain_is_a_sentence(
    tmp_path: Path, package: Package, caplog: pytest.LogCaptureFixture
) -> None:
    own = package(echo_view=VIEW.format(curve="S_xx"))
    echo(tmp_path / "runs" / "one", f"{own}.echo.Echo", Result({"delay": 0.5}, curves=RESULT.curves))
    said, out = written(tmp_path)
    asks = "the view of echo uses the"
    curve = f"{asks} curve 'S_xx', which this result does not have; it has: S_x, a/S_y, b/S_y"
    assert [line for line in said.splitlines() if line.startswith("*")] == [
        f"* problem: gpt2, sst2: {asks} metric 'loudness', which this result does not have; it has: delay",
        f"* problem: gpt2, sst2: {curve}",
        f"* problem: gpt2, sst2: {asks} table 'echoes', which this result does not have; it has: none",
    ]
    assert f"gpt2, sst2: {curve}" in page(out)["problems"]
    assert not (out / "figures").exists()
    with caplog.at_level(logging.WARNING):
        assert figures.draw(view_of("echo", f"{own}.echo.Echo"), RESULT, "title") == {}
    assert caplog.messages == [curve]


def test_a_view_that_fails_is_told_and_the_rest_is_drawn(tmp_path: Path, package: Package) -> None:
    broken = "def fail(*_):\n    return 1 / 0\n"
    parts = "headline=fail, rows=fail, sheets=fail, drawings=fail, pool=fail, place=fail, scores=fail"
    view = f"VIEW = View(panels={{'bad': Panel(fail)}}, {parts})"
    own = package(echo_view=f"from anchorflow.report import Panel, View\n{broken}\n{view}")
    for seed in (1, 2):
        echo(tmp_path / "runs" / str(seed), f"{own}.echo.Echo", seed=seed)
    write_run(tmp_path / "runs" / "other", "classification", Result({"accuracy": 0.5, "macro_f1": 0.5, "ece": 0.5}))
    _, out = written(tmp_path)
    said = (out / "report.md").read_text(encoding="utf-8")
    told = "cannot be made (ZeroDivisionError: division by zero)"
    for what in ("headline of echo", "table of echo", "further tables of echo", "further figures of echo"):
        assert f"the {what} {told}" in said
    assert f"gpt2, sst2: the figure bad{SHOWN} {told}" in said
    assert f"the place of echo's curve 'S_x' {told}" in said
    assert page(out)["experiments"][1]["panels"] == ["S_x", "S_y"]
    assert "represents its cell: queries cannot be pooled (division by zero)" in said
    assert {"echo", "classification"} < names(out, "tables")
    assert set(figures.draw(view_of("echo", f"{own}.echo.Echo"), RESULT, "title")) == {"S_x", "S_y"}
    same = collect([tmp_path / "runs" / "1"])
    _, notes = differences(same, same)
    assert notes == [f"not paired by query: the records of {same.runs[0].path} cannot be used (division by zero)"]


@pytest.mark.parametrize(
    ("modules", "target", "why"),
    [
        ({}, "nowhere_to_be_found.Echo", r"its class nowhere_to_be_found.Echo cannot be imported \(No module named"),
        ({}, "{own}.echo.Ohce", r"its class \w+.echo.Ohce cannot be imported \(module .* has no attribute 'Ohce'"),
        ({}, "no path", r"its class no path cannot be imported \("),
        ({"echo": "raise SystemExit(3)"}, "{own}.echo.Echo", r"cannot be imported \(it exits with 3\)"),
        ({}, "{own}.echo.Echo", r"its own, \w+.echo_view, cannot be used \(No module named"),
        (
            {"echo_view": ""},
            "{own}.echo.Echo",
            r"its own, \w+.echo_view, cannot be used \(module .* no attribute 'VIEW'",
        ),
        ({"echo_view": "VIEW = 3"}, "{own}.echo.Echo", r"cannot be used \(its VIEW is a int\)"),
        ({"echo_view": "1 +"}, "{own}.echo.Echo", r"its own, \w+.echo_view, cannot be used \(invalid syntax"),
        ({"echo": "class Echo:\n    view = 3"}, "{own}.echo.Echo", r"its own, 3, cannot be used \("),
    ],
)
def test_what_cannot_be_imported_has_the_plain_view_and_one_problem(
    tmp_path: Path, package: Package, modules: dict[str, str], target: str, why: str
) -> None:
    target = target.format(own=package(**modules))
    for seed in (1, 2):
        echo(tmp_path / "runs" / str(seed), target, seed=seed)
    said, out = written(tmp_path)
    (problem,) = [line for line in said.splitlines() if line.startswith("*")]
    assert re.match(rf"\* problem: echo has the plain view: .*{why}.*; allowed: ", problem.replace("\\", ""))
    assert names(out, "figures") == {f"echo_S_x{SHOWN}", f"echo_S_y{SHOWN}"}
    (sheet, notes) = differences(*[collect([tmp_path / "runs" / str(seed)]) for seed in (1, 2)])
    assert [note for note in notes if "plain view" in note]
    assert [row[4] for row in sheet.rows] == ["loudness", "full/delay"]


@pytest.mark.parametrize(
    "name", ["", "..", "views", "__init__", "label_relationships.curves", "a b", "\ud800", "x" * 9999]
)
def test_no_other_module_is_taken_for_a_view(name: str) -> None:
    assert view_of(name) == View(experiment=name)


@pytest.mark.parametrize(
    "target", [None, "anchorflow.experiments.Saliency", "anchorflow.experiments.saliency", "gone.Saliency"]
)
def test_this_package_s_views_are_found_by_the_experiment_s_name(target: str | None) -> None:
    found = view_of("saliency", target)
    assert (found.figures, found.problem) == (saliency.VIEW.figures, "")


def test_nothing_but_views_knows_an_experiment() -> None:
    assert len(EXPERIMENTS) >= 8
    known = re.compile(
        "|".join(rf"(?<![a-z]){name.replace('_', '[ _]?')}(?![a-z])" for name in EXPERIMENTS), re.IGNORECASE
    )
    assert known.search("from anchorflow.experiments import LabelRelationships")
    for path in SOURCES.rglob("*"):
        if path.is_file() and path.suffix not in (".pyc", ".yaml") and SOURCES / "views" not in path.parents:
            assert not known.findall(path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_views_do_not_know_each_other(name: str) -> None:
    others = re.compile("|".join(rf"(?:views|experiments)\.{other}\b" for other in EXPERIMENTS if other != name))
    places = [SOURCES / "views" / f"{name}.py", *(SOURCES / "views" / name).glob("*.py")]
    texts = [path.read_text(encoding="utf-8") for path in places if path.exists()]
    assert texts
    assert not any(others.search(text) for text in texts)
