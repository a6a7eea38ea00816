"""The toy world: tiny GPT-2, GPT-J and LLaMA (grouped heads) built from configurations, and a toy task.

Nothing is downloaded. Shapes of the public tensor functions are checked at every call.
"""

import os

os.environ.update(HF_HUB_OFFLINE="1", WANDB_MODE="offline", WANDB_SILENT="true")
os.environ["OMP_NUM_THREADS"] = "1"  # models this small are slower on two threads, many times on a busy machine
os.environ.pop("ANCHORFLOW_DATA", None)

from jaxtyping import install_import_hook

install_import_hook(
    [
        "anchorflow.attention",
        "anchorflow.models.onednn",
        "anchorflow.scoring",
        "anchorflow.results.metrics",
        "anchorflow.results.statistics",
    ],
    "beartype.beartype",
)

import json
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from anchorflow.data import Example, Provenance, Task, Template
from anchorflow.experiments import FewShot, Queries
from anchorflow.experiments.reweighting import ReweightingWork
from anchorflow.experiments.saliency import SaliencyWork
from anchorflow.models import LanguageModel, Tiny
from anchorflow.prompts import Prompt, PromptBuilder
from anchorflow.results import Record
from anchorflow.scoring import plan

# A shell's job in the background ignores Ctrl-C, and so would every program that the tests start from there.
signal.signal(signal.SIGINT, signal.default_int_handler)

FAMILIES = ("gpt2", "gptj", "llama")
ROOT = Path(__file__).parent.parent


# While one edits, LLaMA (rotary positions, grouped heads) is enough; the others are for the whole suite.
@pytest.fixture(scope="session", params=[pytest.param(f, marks=[pytest.mark.slow] * (f != "llama")) for f in FAMILIES])
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    """A tiny model of each family in float64, where identities are exact and doubts settled."""
    return Tiny(family=request.param, layers=3).load("cpu", "float64")


@pytest.fixture(scope="session")
def task() -> Task:
    """Three classes, texts of many lengths, a label word of several tokens (Zebra)."""

    def rows(n: int, split: str) -> tuple[Example, ...]:
        return tuple(Example(i, f"{split} text number {i} " + "and so on " * (i % 5) + "!", i % 3) for i in range(n))

    return Task(
        name="toy",
        template=Template("Question: {text}\nAnswer Type:{label}"),
        separator="\n",
        label_words=(" Person", " Location", " Zebra"),
        train=rows(30, "train"),
        test=rows(12, "test"),
        provenance=Provenance("synthetic", None, {"train": "0", "test": "0"}),
    )


@pytest.fixture(autouse=True)
def _no_tracker_is_left_behind() -> Iterator[None]:
    """W&B's own process would be shared by the commands that later tests start."""
    yield
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()


def toy_prompts(lm: LanguageModel, task: Task, shots: int = 1, queries: int = 6) -> list[Prompt]:
    """Prompts of different lengths, with demonstrations of their own."""
    builder = PromptBuilder(lm.tokenizer, task.template, task.label_words, task.separator)
    return [builder.build(task.draw_demonstrations(shots, str(q.row)), q) for q in task.test[:queries]]


def toy_work(experiment: FewShot, lm: LanguageModel, task: Task, seed: int = 42) -> Queries:
    """What the experiment has to do on the toy task."""
    return experiment.prepare(task, PromptBuilder(lm.tokenizer, task.template, task.label_words, task.separator), seed)


def mapped(
    experiment: FewShot,
    lm: LanguageModel,
    work: Queries | list[Prompt],
    batch_tokens: int = 1024,
    folder: Path | None = None,
) -> list[Record]:
    """The experiment's records, in the prompts' order."""
    if isinstance(work, list):
        kind = {"saliency": SaliencyWork, "reweighting": ReweightingWork}.get(experiment.name, Queries)
        work = kind(prompts=tuple(work), seed=42)
    batches = plan(work.prompts, batch_tokens, shared=experiment.demonstrations == "per seed")
    with tempfile.TemporaryDirectory() as temporary:
        found = {
            r["query"]: r
            for rs in experiment.map(lm, work, batches, folder or Path(temporary), batch_tokens)
            for r in rs
        }
    return list(experiment.finish([found[p.query] for p in work.prompts]))


def write_dataset(folder: Path, train: int = 12, test: int = 8, **described: object) -> Path:
    """A local dataset of two classes with a dataset.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, n in (("train", train), ("test", test)):
        rows = [{"text": f"{split} sentence {i} " + "so " * (i % 4), "label": i % 2} for i in range(n)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    said = {"template": "Review: {text}\nSentiment:{label}", "label_words": [" Negative", " Positive"], **described}
    (folder / "dataset.yaml").write_text(json.dumps(said), encoding="utf-8")  # JSON is YAML
    return folder
