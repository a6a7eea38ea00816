"""What is written down of a run: no variable's value, no names that lead astray, no record without its fields."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from anchorflow.errors import UserError
from anchorflow.runs import KeptModel, execute
from anchorflow.settings import as_written
from anchorflow.sweep import pack
from tests.sweep.test_plan import cells

GIVEN = ("model=tiny", "dataset=novel", "tracking=none", "experiment.n_queries=4", "device=cpu")


def test_a_variable_of_the_environment_is_recorded_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIDDEN", "hush")
    monkeypatch.setenv("DEVICE", "cpu")
    monkeypatch.setenv("QUERIES", "3")
    (cell,) = cells(
        tmp_path,
        [
            *(*GIVEN, "experiment=classification", "device=${oc.env:DEVICE}"),
            "tracking.entity=a-${oc.env:HIDDEN}",
            "tracking.group='${tracking.entity}/${oc.env:ABSENT,${oc.env:HIDDEN}}'",
            "tracking.tags=['${oc.env:HIDDEN}',b]",
            "experiment.n_queries='${oc.decode:${oc.env:QUERIES}}'",
        ],
    )
    assert cell.config["tracking"]["entity"] == "a-hush"
    assert cell.config["tracking"]["group"] == "a-hush/hush"
    assert cell.config["experiment"]["n_queries"] == 3
    assert pack.run_cell(cell, KeptModel())
    result = json.loads((cell.folder / "result.json").read_text())
    kept = result["config"]["tracking"]
    assert kept["entity"] == "a-${oc.env:HIDDEN}"
    assert kept["group"] == "a-${oc.env:HIDDEN}/${oc.env:ABSENT,${oc.env:HIDDEN}}"
    assert kept["tags"] == ["${oc.env:HIDDEN}", "b"]
    assert result["config"]["device"] == "${oc.env:DEVICE}"
    assert "${oc.env:QUERIES}" in result["config"]["experiment"]["n_queries"]
    assert "${oc.env:QUERIES}" in result["identity_of"]["experiment"]["n_queries"]
    assert result["counts"]["queries"] == 3
    written = [path for path in cell.folder.rglob("*") if path.is_file()]
    assert not [path for path in written if b"hush" in path.read_bytes()]
    told = OmegaConf.to_container(OmegaConf.load(cell.folder / ".hydra" / "config.yaml"))
    assert told["tracking"]["entity"] == "a-${oc.env:HIDDEN}"  # type: ignore[index, call-overload]


def test_what_cannot_be_resolved_without_the_value_is_recorded_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHICH", "one")
    (cell,) = cells(
        tmp_path, [*GIVEN, "tracking.group='${by:tracking.entity,{one:x}}'", "tracking.entity=${oc.env:WHICH}"]
    )
    assert cell.config["tracking"]["group"] == "x"
    assert cell.recorded is not None
    assert cell.recorded["tracking"]["group"] == "${by:tracking.entity,{one:x}}"
    assert as_written({"a": 1, "b": 2}, {"a": "${oc.env:A}", "b": 3}) == {"a": "${oc.env:A}", "b": 2}


@pytest.mark.parametrize("name", ["..", ".", "ü" * 51, "x" * 300])
@pytest.mark.parametrize("of", ["model", "dataset"])
def test_a_name_that_no_folder_can_have_is_refused_at_composition(tmp_path: Path, name: str, of: str) -> None:
    (cell,) = cells(tmp_path, [*GIVEN, f"{of}.name='{name}'"])
    assert "cannot be the name of a folder; allowed for models and datasets: up to 100 bytes" in str(cell.problem)
    (good,) = cells(tmp_path, [*GIVEN, f"{of}.name='{'x' * 90}%j'"])
    assert good.problem is None
    assert "%" not in str(good.folder.relative_to(tmp_path))


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        (['{"query": 1}'], r"records.jsonl is damaged: its record of query 1 has no 'label'; delete that line"),
        (['{"query": 1, "label": 0}'], r"its record of query 1 has no 'variants'; delete that line"),
    ],
)
def test_a_record_without_its_fields_is_named(tmp_path: Path, lines: Sequence[str], complaint: str) -> None:
    (cell,) = cells(tmp_path / "outputs", [*GIVEN, "experiment=classification"])
    execute(cell.config, tmp_path)
    (tmp_path / "result.json").unlink()
    whole = (tmp_path / "records.jsonl").read_text().splitlines()
    number = json.loads(whole[1])["query"]
    damaged = [line.replace('"query": 1', f'"query": {number}') for line in lines]
    (tmp_path / "records.jsonl").write_text("\n".join([whole[0], *damaged, *whole[2:], ""]))
    with pytest.raises(UserError, match=complaint.replace("query 1", f"query {number}")):
        execute(cell.config, tmp_path)
