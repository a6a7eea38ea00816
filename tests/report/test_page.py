"""What the page is made of: numbers of the runs, thinned where there are many; nothing that its place could not hold."""

import hashlib
import importlib.util
import json
import re
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anchorflow import cli
from anchorflow.experiments.flows import FLOWS, FlowExample
from anchorflow.prompts import Demonstration
from anchorflow.report.cells import Cell, into_cells
from anchorflow.report.collect import Collection, Run, collect
from anchorflow.report.page import data as page_data
from anchorflow.report.page.data import content
from anchorflow.report.page.page import REPORT, embedded, page
from anchorflow.report.tables.sheets import Measured, Sheet
from anchorflow.results import Curve, Result, Table
from tests.report.runs import write_run


def example(query: int, flows: int = 4, layers: int = 2) -> FlowExample:
    return FlowExample(
        query=query,
        label=1,
        probs=[0.123456789, 0.876543211],
        tokens=["Review", " good", ":", " Yes", "\n", "Review", " <b>", ":"],
        demonstrations=[Demonstration(1, 0, 5, 3, (3,), (0, 2, 4))],
        strongest=[[(7, 3, 1 / (i + 3)) for i in range(flows)] for _ in range(layers)],
        totals=[2.0] * layers,
        means={flow: [0.5] * layers for flow in FLOWS},
    )


def saliency(folder: Path, seed: int, model: str = "gpt2", examples: int = 1, **of_example: int) -> Path:
    curves = {f"{flow}_share": Curve("layer", [1, 2], [1 / 3, float("nan")], [0.1, float("nan")]) for flow in FLOWS}
    write_run(folder, "saliency", Result({"accuracy": 2 / 3}, {"accuracy": 0.1}, curves), seed=seed, model=model)
    for query in range(examples):
        example(query, **of_example).write(folder)
    return folder


def shown(*paths: Path) -> dict[str, Any]:
    collection = collect(paths)
    found = content(collection, into_cells(collection.runs)[0], [])
    return json.loads(embedded(found))  # type: ignore[no-any-return]


def test_runs_curves_and_examples_with_the_numbers_of_the_files(tmp_path: Path) -> None:
    folder = saliency(tmp_path / "run", 42)
    found = shown(tmp_path)
    (run,) = found["runs"]
    assert (run["seed"], run["path"], run["queries"], run["metrics"]) == (42, str(folder), 100, [[0.6667, 0.1]])
    assert run["url"] is None
    (folder / "status.json").write_text('{"url": "http://127.0.0.1/run"}')
    assert shown(tmp_path)["runs"][0]["url"] == "http://127.0.0.1/run"
    axis, values, stderr = run["curves"]["S_wp_share"]
    assert (found["axes"][axis], values, stderr) == ([1, 2], [0.3333, None], [0.1, None])
    (experiment,) = found["experiments"]
    assert experiment["panels"] == ["share of saliency"]
    assert experiment["variants"] == list(FLOWS)
    (shown_example,) = found["examples"]
    assert shown_example["layers"][0] == [7, 3, 0.3333, 7, 3, 0.25, 7, 3, 0.2, 7, 3, 0.1667]
    assert shown_example["names"] == ["class 0", "Yes"]
    assert shown_example["demonstrations"] == [{"start": 0, "stop": 5, "anchor": 3, "tail": 2}]
    assert found["thinned"] == found["problems"] == []


def test_curves_of_variants_share_the_panel_of_their_measure(tmp_path: Path) -> None:
    curves = {name: Curve("k", [1], [0.5]) for name in ("label_first/accuracy", "label_last/accuracy", "R")}
    write_run(tmp_path / "run", "isolation", Result({"full/accuracy": 0.5}, curves=curves))
    (experiment,) = shown(tmp_path)["experiments"]
    assert experiment["panels"] == ["accuracy", "R"]
    assert experiment["variants"] == ["label_first", "label_last", ""]


def test_flows_have_a_panel_of_means_and_one_of_shares(tmp_path: Path) -> None:
    curves = {name: Curve("layer", [1], [0.5]) for name in ("S_wp_share", "S_wp", "a/R")}
    write_run(tmp_path / "run", "saliency", Result({"accuracy": 0.5}, curves=curves))
    (experiment,) = shown(tmp_path)["experiments"]
    assert experiment["panels"] == ["share of saliency", "mean saliency", "R"]
    assert experiment["variants"] == ["S_wp", "a"]
    assert [curve["log"] for curve in experiment["curves"].values()] == [False, True, False]


def test_long_curves_are_thinned_where_they_do_not_fit_and_keep_their_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    curve = Curve("n_demonstrations", range(1000), [i / 1000 for i in range(1000)])
    write_run(tmp_path / "run", "label_relationships", Result({"n": 1.0}, curves={"default/accuracy": curve}))
    assert len(shown(tmp_path)["axes"][0]) == 1000
    monkeypatch.setattr(page_data, "CURVES_BYTES", 1000)
    found = shown(tmp_path)
    (at,) = found["axes"]
    assert (len(at), at[0], at[-1]) == (100, 0, 999)
    assert found["runs"][0]["curves"]["default/accuracy"][1] == [float(f"{i / 1000:.4g}") for i in at]
    assert found["thinned"] == ["Curves of up to 1000 points are drawn with 100 of them; the tables use all."]


def test_of_many_examples_those_of_every_cell_s_first_seed_come_first_with_fewer_flows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for model in ("a", "b"):
        for seed in (42, 43):
            saliency(tmp_path / f"{model}{seed}", seed, model, flows=200)
    assert len(shown(tmp_path)["examples"][0]["layers"][0]) == 3 * 200
    monkeypatch.setattr(page_data, "EXAMPLES_BYTES", 4800)
    found = shown(tmp_path)
    assert [found["runs"][e["run"]]["path"][-3:] for e in found["examples"]] == ["a42", "b42"]
    assert len(found["examples"][0]["layers"][0]) == 3 * 60
    assert len(found["thinned"]) == 2


def test_signs_pairs_and_heads_of_examples_are_there_and_heads_go_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saliency(tmp_path / "run", 42, examples=0)
    few = example(0, flows=3)
    signs, heads = [[-1, 1, 1], [1, 1, 1]], [[[0.123456, -0.2]] * 3] * 2
    replace(few, signs=signs, heads=heads).write(folder)
    (found,) = shown(tmp_path)["examples"]
    assert found["signs"] == ["-++", "+++"]
    assert found["heads"][1] == [[0.123, -0.2]] * 3
    assert found["pairs"] == [3, 1, 8 * 7 // 2 - 4]
    assert found["text"] == "Review <b>"
    monkeypatch.setattr(page_data, "EXAMPLES_BYTES", 330)
    smaller = shown(tmp_path)
    assert smaller["examples"][0]["heads"] == []
    assert smaller["examples"][0]["signs"] == found["signs"]
    assert smaller["thinned"] == [
        "The heads of kept flows do not fit into the flow view; `anchorflow show RUN` has those of one run."
    ]


def test_matrices_that_do_not_fit_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(["a", "b"], ["a", "b"], [[0.5, float("nan")], [0.0, 1.0]])
    for seed in (42, 43):
        write_run(tmp_path / f"{seed}", "classification", Result({"ece": 0.1}, tables={"confusion": table}), seed=seed)
    whole = shown(tmp_path)
    assert [run["matrices"][0]["values"] for run in whole["runs"]] == [[[0.5, None], [0, 1]]] * 2
    monkeypatch.setattr(page_data, "MATRICES_BYTES", 50)
    found = shown(tmp_path)
    assert [len(run["matrices"]) for run in found["runs"]] == [1, 0]
    assert found["thinned"] == ["The confusion matrices of 1 of 2 runs are left out; their result.json has them."]


def test_a_damaged_example_is_a_problem_and_the_others_are_shown(tmp_path: Path) -> None:
    folder = saliency(tmp_path / "run", 42, examples=2)
    (folder / "examples" / "query1.json").write_text("{")
    found = shown(tmp_path)
    assert [e["query"] for e in found["examples"]] == [0]
    assert "query1.json is damaged" in found["problems"][0]


def test_tables_keep_their_first_rows_and_count_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_data, "ROWS", 2)
    sheet = Sheet(
        "t", "Title", ["a", "b"], [["x", Measured(0.5, 0.1, "2 of 3 seeds")], ["y", 0.25], ["z", 1.0]], ["note"]
    )
    (found,) = content(Collection(()), [], [sheet])["sheets"]
    assert found["rows"] == [["x", [0.5, 0.1, "2 of 3 seeds"]], ["y", 0.25]]
    assert found["more"] == 1


def test_nothing_in_the_data_can_leave_its_element() -> None:
    text = embedded(["</script><script>", "<!--", "{{scripts}}", "\ud800", "日本語"])
    assert "<" not in text
    assert text.isascii()
    assert json.loads(text)[2] == "{{scripts}}"


def test_every_script_is_allowed_by_its_hash_and_nothing_else_is() -> None:
    text = page(content(Collection((), problems=("{{scripts}}",)), [], []))
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    scripts = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    hashes = [f"'sha256-{b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts]
    assert len(hashes) == 1 + len(REPORT)
    assert f"default-src 'none'; script-src {' '.join(hashes)}; style-src" in policy
    assert not re.findall(r'(?:src|href)="(?!#|data:,)', text.replace(scripts[0], ""))
    assert text.count("{{scripts}}") == 1


@pytest.mark.slow
def test_a_page_of_1000_runs_is_below_20_mb() -> None:
    """Of the kind that holds most: many curves of many points, and a matrix of many classes."""
    measures = ("accuracy", "log_likelihood", "entropy")
    curve = {"x": "n_demonstrations", "at": list(range(200)), "values": [0.12345] * 200, "stderr": [0.01234] * 200}
    curves = {f"regime_{i}/{measure}": curve for i in range(9) for measure in measures}
    names = [f"class {i}" for i in range(20)]
    tables = {"confusion": {"rows": names, "columns": names, "values": [[0.12345] * 20] * 20}}
    found = {"metrics": {f"metric_{i}": 0.12345 for i in range(9)}, "stderr": {}, "curves": curves, "tables": tables}
    found["config"] = {"experiment": {}}
    runs = tuple(
        Run(Path(f"/some/directory/of/runs/{i}"), "classification", f"model {i}", "trec", 42, str(i), found)
        for i in range(1000)
    )
    result = Result.from_json(found)
    cells = [Cell(run.experiment, run.model, run.dataset, {}, (run,), result, "repetitions", {}) for run in runs]
    assert 6e6 < len(page(content(Collection(runs), cells, [])).encode()) < 20e6


def test_without_the_plotting_library_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert cli.main(["report", str(tmp_path)]) == 2
    assert capsys.readouterr().err == ("error: a report's page needs plotly; run: pip install 'anchorflow[report]'.\n")
