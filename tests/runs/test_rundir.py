"""What is finished is never lost: cut-off lines, two processes, another run's records, half-written files."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from anchorflow.errors import UserError
from anchorflow.results import Curve, Result, Table, dumps, write_atomically
from anchorflow.runs import RunDirectory


def test_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    assert directory.records() == []
    rows = [{"query": i, "probs": [0.1 + i, 1e-17], "text": "ü\u2028\n"} for i in range(3)]
    directory.append(rows[:2])
    directory.append(rows[2:])
    assert RunDirectory(tmp_path).records() == rows


def test_a_line_cut_off_by_a_kill_is_removed_and_the_rest_kept(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.append([{"query": 0}, {"query": 1}])
    with (tmp_path / "records.jsonl").open("a") as file:
        file.write('{"query": 2, "la')
    assert [r["query"] for r in directory.records()] == [0, 1]
    directory.append([{"query": 2}])
    assert [r["query"] for r in directory.records()] == [0, 1, 2]


def test_a_record_written_twice_counts_once(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.append([{"query": 0, "n": 1}])
    directory.append([{"query": 0, "n": 2}])
    assert directory.records() == [{"query": 0, "n": 1}]


@pytest.mark.parametrize("line", ["garbage", '{"no": "query"}', "[]", "3"])
def test_a_damaged_record_is_named_by_file_and_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "records.jsonl").write_text('{"query": 0}\n' + line + "\n")
    with pytest.raises(UserError, match=r"records.jsonl, line 2 is damaged"):
        RunDirectory(tmp_path).records()


def test_the_records_of_another_run_are_not_touched(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.claim("aaaa")
    directory.report("running")
    directory.append([{"query": 0}])
    RunDirectory(tmp_path).claim("aaaa")
    with pytest.raises(UserError, match="another run \\(aaaa, this one is bbbb\\)"):
        RunDirectory(tmp_path).claim("bbbb")


def test_a_start_that_fails_early_does_not_part_the_records_from_their_run(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.claim("aaaa")
    directory.append([{"query": 0}])
    directory.report("running")
    before = (tmp_path / "status.json").read_text()
    RunDirectory(tmp_path).report_end("failed", error="no data today")  # before it knew who it was
    with pytest.raises(UserError, match="another run"):
        RunDirectory(tmp_path).claim("bbbb")
    assert (tmp_path / "status.json").read_text() == before
    RunDirectory(tmp_path).claim("aaaa")
    (tmp_path / "status.json").write_text("garbage")
    RunDirectory(tmp_path).claim("aaaa")
    RunDirectory(tmp_path).report("running")


def test_an_empty_directory_may_be_taken_over(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.claim("aaaa")
    directory.report("failed")
    RunDirectory(tmp_path).claim("bbbb")


def test_a_second_process_is_turned_away_and_a_dead_one_is_not_in_the_way(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from anchorflow.runs import RunDirectory
with RunDirectory(Path({str(tmp_path)!r})).locked():
    pass
"""
    with RunDirectory(tmp_path).locked():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "another process is working" in done.stderr
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_status_says_who_where_and_how_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "17")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    directory = RunDirectory(tmp_path)
    directory.claim("aaaa")
    directory.report("running", progress={"done": 3, "total": 10})
    directory.report("running", force=False, progress={"done": 4, "total": 10})  # too soon to be written
    status = json.loads((tmp_path / "status.json").read_text())
    assert status["progress"] == {"done": 3, "total": 10}
    assert (status["state"], status["identity"], status["job_id"]) == ("running", "aaaa", "17_3")


@pytest.mark.parametrize("content", ["{", "{}", "[]", '{"identity": "a"}'])
def test_a_damaged_result_is_named_and_the_run_can_go_on_without_it(tmp_path: Path, content: str) -> None:
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(UserError, match=r"result.json is damaged .* resumes from its records"):
        RunDirectory(tmp_path).result()


def test_a_result_without_its_hidden_files_says_itself_whose_it_is(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.complete({"identity": "aaaa", "metrics": {}})
    with pytest.raises(UserError, match=r"records of another run \(aaaa, this one is bbbb\)"):
        directory.claim("bbbb")
    directory.claim("aaaa")
    (tmp_path / ".identity").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="records of another run"):
        directory.claim("aaaa")


def test_numbers_that_are_none_are_an_error_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nan or infinite: they overflow in its dtype \(try dtype=float32\)"):
        RunDirectory(tmp_path).append([{"query": 3, "S_wp": [float("nan")]}])


def test_a_folder_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()
    with (
        pytest.raises(UserError, match=r"\.lock cannot be written \(Is a directory\)"),
        RunDirectory(tmp_path).locked(),
    ):
        pass


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new \ud800")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_results_are_json_and_what_is_undefined_is_null() -> None:
    import numpy as np

    result = Result(
        metrics={"a": float("nan"), "b": np.float32(0.5)},
        curves={"c": Curve("layer", range(1, 3), np.array([0.25, np.inf]))},
        tables={"t": Table(["r"], ["c"], np.array([[1.0]]))},
    )
    found = json.loads(dumps(result.to_json()))
    assert found["metrics"] == {"a": None, "b": 0.5}
    assert found["curves"]["c"] == {"x": "layer", "at": [1, 2], "values": [0.25, None], "stderr": None}
    assert found["tables"]["t"]["values"] == [[1.0]]


def test_a_curve_with_too_few_values_is_refused() -> None:
    with pytest.raises(ValueError, match="over 2 positions has 1 values"):
        Curve("layer", [1, 2], [0.5])
