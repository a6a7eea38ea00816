"""`anchorflow show`: the flow view of one run as a page of its own, or why there is none."""

import webbrowser
from pathlib import Path
from types import SimpleNamespace

import pytest

from anchorflow import cli
from anchorflow.errors import UserError
from anchorflow.report.page.page import ASSETS, SHOW
from anchorflow.report.show import FlowView
from tests.report.page_material import classification, example, saliency
from tests.report.runs import write_run, write_unfinished


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = write_run(
        tmp_path / "runs" / "saliency", "saliency", saliency(), model="<b>\ud800", dataset="trec", identity="x"
    )
    example(3).write(folder)
    return folder


def test_it_opens_the_page_and_prints_where_it_lies(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(run.parents[1]))
    opened: list[str] = []
    browser = SimpleNamespace(name="firefox", open=opened.append)
    monkeypatch.setattr(webbrowser, "get", lambda: browser)
    assert cli.main(["show", str(run.parent)]) == 0, "the only run below a directory"
    path = Path(capsys.readouterr().out.strip())
    assert opened == [path.as_uri()]
    text = path.read_text()
    assert "<title>&lt;b&gt;&#55296;, trec, seed 42: information flow</title>" in text
    assert all((ASSETS / name).read_text() in text for name in SHOW)
    browser.name = "w3m"
    assert cli.main(["show", str(run)]) == 0
    assert len(opened) == 1, "a browser in the terminal draws no picture"

    def none() -> None:
        raise webbrowser.Error

    monkeypatch.setattr(webbrowser, "get", none)
    assert cli.main(["show", str(run)]) == 0
    assert Path(capsys.readouterr().out.splitlines()[-1]).read_text() == text


def test_out_writes_the_page_and_opens_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(webbrowser, "get", None)
    out = tmp_path / "made" / "flow.html"
    assert cli.main(["show", str(run), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert out.read_text().startswith("<!DOCTYPE html>")
    with pytest.raises(UserError, match=r"cannot be written to .* \(File exists\); choose another file"):
        FlowView("title", "page").save(out / "below")


def complaint(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["show", str(path)]) == 2
    return capsys.readouterr().err


def test_what_cannot_be_shown_is_said_with_what_can(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write_run(run.parent / "classification", "classification", classification())
    assert complaint(other, capsys) == (
        "error: classification has no flow view; experiments that have one: saliency.\n"
    )
    assert complaint(run.parent, capsys).splitlines() == [
        f"error: 2 runs lie below {run.parent}; choose one:",
        str(other),
        str(run),
    ]
    unfinished = write_unfinished(run.parent / "stopped", state="failed", error="out of memory")
    assert "no complete run lies at or below" in (said := complaint(unfinished, capsys))
    assert "out of memory" in said
    (run / "examples" / "query3.json").write_text("{")
    assert "query3.json is damaged" in complaint(run, capsys)
    example(4).write(run)
    page = run.parent / "page.html"
    assert cli.main(["show", str(run), "--out", str(page)]) == 0
    found = capsys.readouterr()
    assert found.out == f"{page}\n"
    assert "query3.json is damaged" in found.err
    for kept in (run / "examples").iterdir():
        kept.unlink()
    assert complaint(run, capsys) == (
        f"error: {run} kept no example of its flows; run it with experiment.keep_examples=1 or more.\n"
    )
