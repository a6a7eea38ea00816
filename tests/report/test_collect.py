"""What lies on disk is told apart: complete, incomplete, damaged, of another schema, twice."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from anchorflow.errors import UserError
from anchorflow.report.collect import collect
from anchorflow.results import Curve, Result
from tests.report.runs import write_run, write_unfinished

PLAIN = Result({"accuracy": 0.5}, curves={"S_wp": Curve("layer", [1, 2], [0.25, float("nan")])})


def test_a_complete_run_has_its_names_numbers_and_records(tmp_path: Path) -> None:
    records = [{"query": 1}, {"query": 2, "skipped": "too long"}, {"query": 1, "again": True}, {"query": 3}]
    write_run(tmp_path / "b" / "run", "saliency", PLAIN, records, model="gpt2-xl", dataset="trec", seed=43)
    write_run(tmp_path / "a" / "run", "saliency", PLAIN, model="gpt2", dataset="trec", seed=44)
    found = collect([tmp_path, tmp_path / "b"])
    assert [(run.model, run.dataset, run.seed) for run in found.runs] == [("gpt2", "trec", 44), ("gpt2-xl", "trec", 43)]
    assert (found.incomplete, found.problems) == ((), ())
    run = found.runs[1]
    assert run.path == tmp_path / "b" / "run"
    assert list(run.records()) == [{"query": 1}, {"query": 3}]
    assert run.numbers.metrics == {"accuracy": 0.5}
    assert run.numbers.curves["S_wp"].values == pytest.approx([0.25, float("nan")], nan_ok=True)


def test_a_run_says_what_its_records_are_of_and_one_of_before_it_did_counts_them(tmp_path: Path) -> None:
    counted = [{"queries": 2, "skipped": 0}, {"repetitions": 2, "skipped": 0}, {"skipped": 0, "echoes": 2}, {}]
    said = [None, None, "echo", None]
    for i, (unit, counts) in enumerate(zip(said, counted, strict=True)):
        write_run(tmp_path / str(i), "saliency", PLAIN, seed=i, unit=unit, counts=counts)
    found = [(run.unit, run.units) for run in collect([tmp_path]).runs]
    assert found == [("query", "queries"), ("repetition", "repetitions"), ("echo", "echoes"), ("query", "queries")]


def test_incomplete_runs_say_why(tmp_path: Path) -> None:
    write_unfinished(tmp_path / "a", progress={"done": 3, "total": 9})
    write_unfinished(tmp_path / "b", state="failed", error="out of memory\nand a traceback " + "x" * 10_000)
    write_unfinished(tmp_path / "c", state="queued", progress=None)
    (tmp_path / "d").mkdir()
    for content, name in ((b"", "d"), (b"[]", "e"), (b'{"state": "run', "f"), (b"\xff", "g")):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "status.json").write_bytes(content)
    found = collect([tmp_path])
    reasons = {run.path.name: run.reason for run in found.incomplete}
    assert {name: reasons[name] for name in "abc"} == {
        "a": "running, 3 of 9",
        "b": "failed, out of memory",
        "c": "queued",
    }
    assert all(reasons[name].startswith("status.json is damaged") for name in "defg")
    assert found.runs == ()


DAMAGE: dict[str, tuple[Any, str]] = {
    "cut off": (b'{"schema": 1, "experi', "Unterminated string"),
    "empty": (b"", "Expecting value"),
    "no text": (b"\xff\xfe", "can't decode"),
    "a list": (b"[1]", "not a JSON object"),
    "deep": (b"[" * 100_000, "recursion"),
    "another schema": ({"schema": 2}, "its schema is 2, this version reads 1"),
    "no schema": ({"schema": None}, "its schema is None"),
    "text for a number": ({"metrics": {"accuracy": "high"}}, "metrics.accuracy"),
    "infinite": ({"metrics": {"accuracy": float("inf")}}, "metrics.accuracy"),
    "no model": ({"config": {}}, "config.model"),
    "curve of two lengths": (
        {"curves": {"R": {"x": "layer", "at": [1, 2], "values": [1]}}},
        "2 positions has 1 values",
    ),
    "empty curve": ({"curves": {"R": {"x": "layer", "at": [], "values": []}}}, "curves.R.at"),
    "no settings": ({"identity_of": {"experiment": "x"}}, "identity_of.experiment"),
    "ragged table": (
        {"tables": {"confusion": {"rows": ["a"], "columns": ["b"], "values": [[1, 2]]}}},
        "not 1 rows of 1",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_is_damaged_is_named_and_the_rest_counted(tmp_path: Path, kind: str) -> None:
    content, reason = DAMAGE[kind]
    write_run(tmp_path / "good", "saliency", PLAIN)
    bad = write_run(tmp_path / "bad", "saliency", PLAIN, seed=43)
    if isinstance(content, bytes):
        (bad / "result.json").write_bytes(content)
    else:
        found = {**json.loads((bad / "result.json").read_text()), **content}
        (bad / "result.json").write_text(json.dumps(found))
    collection = collect([tmp_path])
    assert [run.path.name for run in collection.runs] == ["good"]
    (problem,) = collection.problems
    assert problem.startswith(f"{bad / 'result.json'} is left out: ")
    assert reason in problem
    assert len(problem) < 500
    assert "\n" not in problem


def test_a_copy_counts_once_and_runs_of_one_identity_with_other_numbers_not_at_all(tmp_path: Path) -> None:
    timed = {"full/accuracy": 0.5, "full/speedup": 1.5}
    write_run(tmp_path / "one", "compression", Result(timed), identity="aaaa")
    write_run(tmp_path / "copy", "compression", Result({**timed, "full/speedup": 2.5}), identity="aaaa")
    write_run(tmp_path / "near", "compression", Result({**timed, "full/accuracy": 0.500001}), identity="aaaa")
    write_run(tmp_path / "first", "saliency", PLAIN, identity="bbbb")
    write_run(tmp_path / "second", "saliency", Result({"accuracy": 0.6}, curves=PLAIN.curves), identity="bbbb")
    write_run(tmp_path / "third", "saliency", Result({"accuracy": 0.5}), identity="bbbb")
    found = collect([tmp_path])
    assert [run.path.name for run in found.runs] == ["copy"]
    copies = " and ".join(str(tmp_path / name) for name in ("copy", "near", "one"))
    assert found.merged == (f"{copies} are one run (identity aaaa), counted once",)
    (problem,) = found.problems
    differing = f"accuracy in {tmp_path / 'second'}; curve S_wp in {tmp_path / 'third'}"
    for part in ("the identity bbbb", f"{tmp_path / 'first'} differs from {differing}"):
        assert part in problem


def test_one_run_under_two_names_counts_in_the_cells_of_both(tmp_path: Path) -> None:
    for seed in (1, 2):
        for name in ("gpt2", "mine"):
            write_run(tmp_path / f"{name}{seed}", "saliency", PLAIN, model=name, seed=seed, identity=f"aaa{seed}")
    write_run(tmp_path / "gpt3", "saliency", PLAIN, model="gpt2", seed=3)
    found = collect([tmp_path])
    assert [(run.model, run.seed) for run in found.runs] == [("gpt2", s) for s in (1, 2, 3)] + [
        ("mine", 1),
        ("mine", 2),
    ]
    first, second = (f"{tmp_path / f'gpt2{seed}'} and {tmp_path / f'mine{seed}'} are one run" for seed in (1, 2))
    called = "under several names, counted once under each: saliency, gpt2, sst2 and saliency, mine, sst2"
    assert found.merged == (f"{first} (identity aaa1) {called}", f"{second} (identity aaa2) {called}")
    assert found.problems == ()


def test_directories_without_runs_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_run(tmp_path / "some" / "run", "saliency", PLAIN)
    found = collect([tmp_path / "empty", tmp_path / "some"])
    assert len(found.runs) == 1
    assert found.problems == (f"{tmp_path / 'empty'}: there is no run at or below it",)
    with pytest.raises(UserError, match="nowhere does not exist"):
        collect([tmp_path / "nowhere"])


@pytest.mark.parametrize(
    ("line", "problem"),
    [("garbage\n", "line 2 is damaged"), ('{"no": 1}\n', "line 2 is damaged"), ('{"query": 1', "line 2 is damaged")],
)
def test_a_damaged_record_is_named_by_file_and_line(tmp_path: Path, line: str, problem: str) -> None:
    folder = write_run(tmp_path / "run", "saliency", PLAIN, [{"query": 0}])
    with (folder / "records.jsonl").open("a") as file:
        file.write(line)
    (run,) = collect([tmp_path]).runs
    with pytest.raises(UserError, match=f"records.jsonl, {problem}"):
        list(run.records())
    (folder / "records.jsonl").unlink()
    with pytest.raises(UserError, match=r"records.jsonl cannot be read \(No such file"):
        list(run.records())


def test_collecting_loads_nothing_heavy() -> None:
    command = [sys.executable, "-X", "importtime", "-c", "import anchorflow.report.collect"]
    traced = subprocess.run(command, capture_output=True, text=True, env={**os.environ}, check=True)
    imported = {line.rsplit("|", 1)[-1].strip() for line in traced.stderr.splitlines()}
    assert "pydantic" in imported
    assert not imported & {"torch", "transformers", "matplotlib", "wandb", "scipy"}
