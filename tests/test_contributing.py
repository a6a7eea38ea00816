"""CONTRIBUTING's list of what an addition touches is complete: in a copy, a model, a dataset, a preset and an experiment."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow
EXAMPLE = ROOT / "examples" / "own_project"
LISTING = (
    *("tests/test_architecture.py", "tests/test_settings.py", "tests/test_presets.py", "tests/data/test_files.py"),
    *("tests/experiments/test_devices.py", "tests/experiments/test_recency.py", "tests/report/test_views.py"),
    "tests/test_documentation.py",
)
PAGE = """
# recency

**Question.** Does the prediction repeat the label of a late demonstration?

## Definition
## Options

<!-- options: experiment anchorflow.experiments.Recency -->
<!-- end -->

## Outputs
## Choices
"""
TEST = '''
"""The label of the last demonstration, repeated."""

from anchorflow.experiments import Recency
from anchorflow.models import LanguageModel
from anchorflow.data import Task
from tests.conftest import mapped, toy_work


def test_the_curve_counts_how_often_a_shown_label_is_predicted(lm: LanguageModel, task: Task) -> None:
    experiment = Recency(n_queries=5, shots_per_class=1, at_most=2)
    result = experiment.reduce(mapped(experiment, lm, toy_work(experiment, lm, task)), task.labels)
    assert list(result.curves["repeats"].at) == [1, 2]
    assert result.metrics["repeats_last"] == result.curves["repeats"].values[0]
'''


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The repository's files as git knows them, those of the working tree."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout: there is no list of the repository's files")
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_additions_touch_what_contributing_says_and_nothing_else(copy: Path) -> None:
    says = (ROOT / "CONTRIBUTING.md").read_text().split("## To add")[1].split("## Rules")[0]
    promised = {path.replace("NAME", "recency") for path in re.findall(r"`([\w/.]*NAME\.\w+)`", says)}
    added = {
        "anchorflow/experiments/recency.py": (EXAMPLE / "my_experiments" / "recency.py").read_text(),
        "anchorflow/report/views/recency.py": (EXAMPLE / "my_experiments" / "recency_view.py").read_text(),
        "conf/experiment/recency.yaml": "_target_: anchorflow.experiments.Recency\n",
        "conf/model/recency.yaml": "_target_: anchorflow.models.Tiny\nname: recency\nlayers: 3\n",
        "conf/dataset/recency.yaml": (EXAMPLE / "conf" / "dataset" / "weather.yaml")
        .read_text()
        .replace("weather", "recency"),
        "conf/sweep/recency.yaml": (EXAMPLE / "conf" / "sweep" / "recency.yaml").read_text(),
        "tests/experiments/test_recency.py": TEST,
        "docs/experiments/recency.md": PAGE,
    }
    assert set(added) == promised
    for name, content in added.items():
        content = content.replace('    view: ClassVar[str] = "my_experiments.recency_view"\n', "")
        (copy / name).write_text(content)
    door = copy / "anchorflow" / "experiments" / "__init__.py"
    text = door.read_text()
    line = "from anchorflow.experiments.reweighting import Reweighting\n"
    assert line in text
    text = text.replace(line, "from anchorflow.experiments.recency import Recency\n" + line)
    door.write_text(text.replace('    "Reweighting",\n', '    "Recency",\n    "Reweighting",\n'))
    for name, line in (
        ("mkdocs.yml", "      - saliency: experiments/saliency.md\n"),
        ("docs/experiments/index.md", "| `fig3_saliency` | figures 3 and 7 |\n"),
    ):
        text = (copy / name).read_text()
        assert line in text
        (copy / name).write_text(text.replace(line, line + re.sub("fig3_saliency|saliency", "recency", line)))
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    subprocess.run([sys.executable, "-m", "tests.documentation"], cwd=copy, env=environment, check=True)
    # The tests that list what there is: rooms, settings, presets, data, devices, views. The others know nothing of additions.
    quick = ["-q", "-p", "no:cacheprovider", "-m", "not (slow or slurm or browser or real)", *LISTING]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *quick],
        cwd=copy,
        capture_output=True,
        text=True,
        timeout=600,
        env=environment,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[-1]) > 100
