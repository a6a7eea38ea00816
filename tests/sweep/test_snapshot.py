"""Jobs run the code that was submitted, and results name the code that ran."""

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from anchorflow.errors import UserError
from anchorflow.runs import execute, provenance
from anchorflow.runs.provenance import Revision, note_revision
from anchorflow.sweep import snapshot
from anchorflow.sweep.cells import Cell
from tests.sweep.test_plan import cells

WHICH = """
import anchorflow, mine
from anchorflow.runs.provenance import revision
print(mine.VALUE, anchorflow.__file__, revision())
"""


def cell(folder: Path, **config: Any) -> Cell:
    return Cell(folder, config, {}, ())


def test_a_job_runs_the_copy_whatever_is_edited_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine.py").write_text("VALUE = 'as submitted'")
    theirs = [{"_target_": "json.JSONDecoder"}, {"_target_": "no_such_module.Thing"}]
    configs = [{"experiment": {"_target_": "mine.Thing", "parts": {"_target_": "anchorflow.runs.Job"}}}]
    given = [cell(tmp_path / "run", **config) for config in (*configs, *({"model": one} for one in theirs))]
    code = snapshot.take(tmp_path / "sweep", given)
    assert {path.name for path in code.iterdir()} == {"anchorflow", "mine.py", snapshot.START, provenance.SNAPSHOT}
    (tmp_path / "mine.py").write_text("VALUE = 'edited'")
    (tmp_path / "which.py").write_text(WHICH)

    def said(command: str) -> list[str]:
        typed = [*shlex.split(command), "-u", "-m", "which"]
        done = subprocess.run(typed, cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.rsplit(maxsplit=2)

    value, file, named = said(snapshot.python(code))
    assert (value, named) == ("as submitted", str(provenance.revision()).split()[-1])
    assert Path(file).is_relative_to(code)
    assert said(snapshot.python(None))[0] == "edited"


def test_a_place_where_the_code_cannot_be_copied_is_named(tmp_path: Path) -> None:
    (tmp_path / "code").write_text("in the way")
    with pytest.raises(UserError, match=r"the code cannot be copied to .*code .*; choose another hydra.sweep.dir"):
        snapshot.take(tmp_path, [])


def test_an_installed_package_has_a_version_and_no_commit(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    package = tmp_path / "anchorflow" / "runs"
    package.mkdir(parents=True)
    (package / "provenance.py").write_text("1")
    (tmp_path / "launch.py").write_text("another project's")
    git("init")
    git("add", "launch.py")
    git("commit", "-m", "another project")
    assert provenance._git_commit(tmp_path) is None
    assert str(Revision("1.2", None)) == "version 1.2"

    git("add", ".")
    git("commit", "-m", "a checkout of its own")
    commit = provenance._git_commit(tmp_path)
    assert commit is not None
    assert len(commit) == 40
    edited = set()
    for text in ("2", "3"):
        (package / "provenance.py").write_text(text)
        edited.add(provenance._git_commit(tmp_path))
    assert len(edited) == 2
    assert all(str(one).startswith(f"{commit}+") for one in edited)


def test_a_mix_of_revisions_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def now(revision: str) -> list[str]:
        monkeypatch.setattr(provenance, "revision", lambda: Revision("1.0", revision))
        return note_revision(tmp_path)

    assert now("a") == ["a"]
    assert now("b") == ["b"]  # nothing was computed by a
    (tmp_path / "records.jsonl").write_text("{}\n")
    assert now("b") == ["b"]
    assert now("c") == ["b", "c"]
    assert now("b") == ["c", "b"]
    shard = tmp_path / "shards" / "1-of-2"
    shard.mkdir(parents=True)
    (shard / "records.jsonl").write_text("{}\n")
    assert now("b") == ["c", "unknown", "b"]


def test_a_run_that_another_revision_goes_on_with_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (made,) = cells(tmp_path, ["model=tiny", "dataset=novel", "tracking=none", "experiment.n_queries=3"])
    config = made.config
    found = execute(config, tmp_path)
    assert found is not None
    assert found["environment"]["revisions"] == [str(provenance.revision())]
    (tmp_path / "result.json").unlink()
    monkeypatch.setattr(provenance, "revision", lambda: Revision("1.0", "another"))
    again = execute(config, tmp_path)
    assert again is not None
    assert again["environment"]["revisions"] == [*found["environment"]["revisions"], "another"]
    assert any("several revisions of the code" in note for note in again["notes"])
    assert json.loads((tmp_path / "result.json").read_text())["environment"]["git"] == "another"
