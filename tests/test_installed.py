"""From outside of the repository: `anchorflow run`, and a project with its own experiment, model, dataset, preset, tracker.

With ANCHORFLOW_INSTALLED=PYTHON these run in that environment, where the wheel is installed (.ci/run), else in this one.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow

PYTHON = os.environ.get("ANCHORFLOW_INSTALLED", sys.executable)
TINY = ("model=tiny", "dataset=novel", "experiment.n_queries=4", "tracking=none")


def anchorflow(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [PYTHON, "-m", "anchorflow", *arguments], cwd=cwd, capture_output=True, text=True, env=kept, timeout=300
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The example's folder, away from the repository."""
    return Path(shutil.copytree(ROOT / "examples" / "own_project", tmp_path / "project"))


def test_one_run_and_a_sweep_and_a_report_without_the_repository(tmp_path: Path) -> None:
    done = anchorflow("run", *TINY, "experiment=classification", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (result,) = (tmp_path / "outputs").rglob("result.json")
    assert json.loads(result.read_text())["environment"]["packages"]["anchorflow"]
    sweep = ("-m", *TINY, "experiment=classification,saliency", "seed=1,2", "launcher=local")
    done = anchorflow("run", *sweep, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "outputs").rglob("result.json"))) == 5
    done = anchorflow("report", "outputs", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "outputs" / "report" / "index.html").stat().st_size > 100_000


def test_a_project_of_ones_own(project: Path) -> None:
    listed = anchorflow("options", "recency", "--config-dir", "conf", cwd=project)
    assert "experiment.at_most = 4" in listed.stdout, listed.stderr
    assert "The number of last demonstrations to look at." in listed.stdout
    assert "recency" in anchorflow("run", "--help", "--config-dir", "conf", cwd=project).stdout

    own = ("run", "--config-dir", "conf", "experiment=recency", "model=toy-gpt2", "dataset=weather", "tracking=csv")
    done = anchorflow(*own, "experiment.n_queries=6", "experiment.at_most=3", cwd=project)
    assert done.returncode == 0, done.stderr
    (found,) = (project / "outputs").rglob("result.json")
    result = json.loads(found.read_text())
    assert result["curves"]["repeats"]["at"] == [1, 2, 3]
    assert result["identity_of"]["experiment"]["at_most"] == 3
    assert (found.parent / "figures" / "recency.png").exists()
    assert (project / "runs.csv").read_text().startswith("recency,toy-gpt2,weather,42,")

    done = anchorflow("run", "--config-dir", "conf", "-m", "sweep=recency", "launcher=local", cwd=project)
    assert done.returncode == 0, done.stderr
    assert len(list((project / "outputs").rglob("result.json"))) == 5
    done = anchorflow("report", "outputs", cwd=project)
    assert done.returncode == 0, done.stderr
    assert "problem" not in done.stdout.replace("0 problems", "")
    report = project / "outputs" / "report"
    assert list((report / "figures").glob("recency*.png"))
    assert "repeats_last" in (report / "report.md").read_text()
    done = anchorflow("compare", "outputs/recency", "outputs/recency", cwd=project)
    assert "repeats_last" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            ("def map(", "def mapped("),
            "experiment._target_ is 'my_experiments.recency.Recency', which lacks map; needed: ",
        ),
        (('name: ClassVar[str] = "recency"', "pass"), "which lacks name; needed: "),
        (("@configurable\nclass Recency", "class Recency"), "allowed: a class with @configurable"),
        (("@configurable\nclass Recency", "class Recency:\n"), "which cannot be imported (IndentationError: "),
        (("class Recency", "class Recent"), "'my_experiments.recency.Recency', which cannot be imported"),
    ],
)
def test_a_class_that_lacks_something_is_told_what(project: Path, change: tuple[str, str], complaint: str) -> None:
    module = project / "my_experiments" / "recency.py"
    module.write_text(module.read_text().replace(*change))
    own = ("run", "--config-dir", "conf", "experiment=recency", "model=toy-gpt2", "dataset=weather", "tracking=none")
    done = anchorflow(*own, cwd=project)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert complaint in done.stderr, done.stderr
    assert not (project / "outputs").exists()


def test_an_option_that_an_own_class_does_not_have_is_refused_by_name(project: Path) -> None:
    own = ("run", "--config-dir", "conf", "experiment=recency", "model=toy-gpt2", "dataset=weather", "tracking=none")
    done = anchorflow(*own, "experiment.most=3", cwd=project)
    assert done.returncode == 1
    assert "there is no experiment.most; allowed: at_most, n_queries, shards, shots_per_class." in done.stderr


def test_the_example_of_the_library_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [PYTHON, str(ROOT / "examples" / "library.py"), "tiny", "found"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "blind to the first token" in done.stdout
    assert (tmp_path / "found" / "saliency_shares.png").exists()
    assert len(list((tmp_path / "found").rglob("result.json"))) == 2


def test_the_version_is_that_of_the_package(tmp_path: Path) -> None:
    done = anchorflow("--version", cwd=tmp_path)
    assert done.stdout.startswith("anchorflow 0.")
