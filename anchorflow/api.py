"""The public Python API. It does not use Hydra, and writes files only into a `folder` that you give it.

import anchorflow as af

lm = af.load_model("smollm2-135m")
task = af.load_task("sst2")
result = af.run(af.Saliency(n_queries=20), lm, task, seed=42)
result.plot()
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import get_protocol_members

from anchorflow import attention, experiments
from anchorflow.attention import Attend, Attention, Isolate, Tap, attention_weights
from anchorflow.conf_files import conf_dir, option_groups
from anchorflow.data import Dataset, Example, Novel, Source, Task, Template
from anchorflow.errors import UserError
from anchorflow.experiments import *  # noqa: F403
from anchorflow.experiments import Experiment
from anchorflow.experiments.flows import FlowExample, read_examples
from anchorflow.models import LanguageModel, Model, Pretrained, Tiny, choose_device, choose_dtype
from anchorflow.paths import expanded
from anchorflow.prompts import Prompt, PromptBuilder, TooLong
from anchorflow.results import Curve, Record, Result, Table
from anchorflow.runs import Budget, Job, KeptModel, Memory, RunDirectory, Settings, assemble, execute_settings
from anchorflow.runs.compute import compute
from anchorflow.settings import build, configurable, setting, target_of, to_node
from anchorflow.tracking import Tracking

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from anchorflow.report.show import FlowView

__all__ = [
    "Attend",
    "Attention",
    "Curve",
    "Dataset",
    "Example",
    "Isolate",
    "LanguageModel",
    "Novel",
    "Pretrained",
    "Prompt",
    "PromptBuilder",
    "Record",
    "Result",
    "RunResult",
    "Table",
    "Tap",
    "Task",
    "Template",
    "Tiny",
    "UserError",
    "attention_weights",
    "configurable",
    "load_model",
    "load_task",
    "read_runs",
    "run",
    "setting",
    "tapped",
]
__all__ += experiments.__all__

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunResult(Result):
    """A `Result` that also holds its experiment and its records, and can draw its figures."""

    experiment: Any = None
    model: str = ""
    dataset: str = ""
    seed: int = 0
    """What the run's queries, demonstrations and random controls were drawn from."""
    records: Sequence[Record] = field(default=(), repr=False)
    """The records that it was reduced from, one per query or repetition."""
    examples: Sequence[FlowExample] = field(default=(), repr=False)
    """The prompts whose flows the run kept, for `show`."""

    @property
    def title(self) -> str:
        """Model, dataset and seed, as in the titles of its figures."""
        return f"{self.model}, {self.dataset}, seed {self.seed}"

    def figures(self) -> dict[str, Figure]:
        """The experiment's figures by name, the same as a run saves in its directory."""
        from anchorflow.report.figures import draw
        from anchorflow.report.view import view_of

        return draw(view_of(self.experiment.name, target_of(type(self.experiment))), self, self.title)

    def plot(self, name: str | None = None) -> Figure:
        """The figure with this name, or the experiment's first figure.

        Raises:
            UserError: the experiment has no figure with this name.
        """
        found = self.figures()
        chosen = name or next(iter(found), "")
        if chosen not in found:
            raise UserError(
                f"{self.experiment.name} has no figure {chosen!r}; allowed: {', '.join(found) or 'none here'}."
            )
        return found[chosen]

    def show(self) -> FlowView:
        """The information-flow view of the kept prompts, as the report's page has it: opened in the browser, or shown as the
        last value of a notebook's cell. `show().save(FILE)` writes it.

        Raises:
            UserError: for an experiment that has no flow view, or a run that kept no example.
        """
        from anchorflow.report.show import flow_view, in_notebook
        from anchorflow.report.view import view_of

        view = view_of(self.experiment.name, target_of(type(self.experiment)))
        found = flow_view(self.experiment.name, self.model, self.dataset, self.seed, self.examples, view)
        if not in_notebook():
            found.open()
        return found


def load_model(model: str | Path | Model, *, device: str = "auto", dtype: str = "auto") -> LanguageModel:
    """Load a decoder language model.

    Args:
        model: an option of conf/model ("smollm2-135m", "tiny"), a hub id, a directory, a .gguf file, or an object that
            describes a model (`Pretrained`, `Tiny`).
        device: auto (an accelerator if the machine has one), cpu, cuda, ...
        dtype: auto (float32 on the CPU, bfloat16 on a GPU), float32, ...

    Raises:
        UserError: the model cannot be found or loaded, or does not fit the device.
    """
    if isinstance(model, str | Path):
        name = str(model)
        model = _option("model", name) or Pretrained(path=name)
    chosen = choose_device(device)
    return attention.checked(model.load(chosen, choose_dtype(dtype, chosen)))


def load_task(task: str | Path | Source, **settings: Any) -> Task:
    """Load a task: labelled examples and the template that writes them.
    Args:
        task: an option of conf/dataset ("sst2", "sentence_answer/sst2"), a file (.jsonl, .csv, .parquet, ...), a directory
            with train and test files, or an object that describes a dataset (`Dataset`, `Hosted`, `Novel`).
        settings: settings that override those of the option or of the directory's dataset.yaml: template, label_words, ...

    Raises:
        UserError: no source has the dataset, or a row is invalid.
    """
    if isinstance(task, str | Path):
        name = str(task)
        found = _option("dataset", name, settings)
        task = found or Dataset(**{"path": name, "source": "directory", **settings})
    elif settings:
        raise UserError(
            f"load_task takes settings ({', '.join(settings)}) only with a name or a path; this object has its own."
        )
    return task.load()


def run(
    experiment: Experiment,
    lm: LanguageModel | str | Path,
    task: Task | str | Path,
    *,
    seed: int = 42,
    batch_tokens: Budget = "auto",
    too_long: TooLong = "refuse",
    folder: str | Path | None = None,
) -> RunResult:
    """Run an experiment and return its result.

    Args:
        experiment: an experiment with its settings, such as `Saliency(n_queries=20)`, or an object of your own class.
        lm: a loaded model, or what `load_model` takes.
        task: a task, or what `load_task` takes.
        seed: the seed of all random draws: queries, demonstrations and random controls.
        batch_tokens: the padded tokens in a batch; auto is as many as fit a GPU, 1024 on the CPU.
        too_long: for a prompt longer than the model's context: refuse the run, or skip the query and count it.
        folder: the run's directory, for result.json, records.jsonl and figures. An interrupted run in it is resumed, a
            complete one is read. The source of the weights identifies the model: do not modify them after loading. With
            None, nothing is written.

    Raises:
        UserError: the data or the model cannot satisfy the settings.
    """
    if isinstance(experiment, type) or not all(hasattr(experiment, name) for name in get_protocol_members(Experiment)):
        raise UserError(f"experiment is {experiment!r:.60}; allowed: an object such as Saliency(n_queries=20).")
    if not isinstance(lm, LanguageModel | str | Path):
        raise UserError(f"lm is {lm!r:.60}; allowed: what load_model returns or accepts.")
    if not isinstance(task, Task | str | Path):
        raise UserError(f"task is {task!r:.60}; allowed: what load_task returns or accepts.")
    lm = lm if isinstance(lm, LanguageModel) else load_model(lm)
    task = task if isinstance(task, Task) else load_task(task)
    job = Job(seed=seed, batch_tokens=batch_tokens, too_long=too_long)
    if folder is not None:
        return _run_in(expanded(folder), experiment, lm, task, job)
    experiment.check(task, lm.shape)
    with tempfile.TemporaryDirectory() as scratch:
        store = Memory(Path(scratch))
        computed = compute(experiment, lm, task, store, seed=seed, batch_tokens=batch_tokens, too_long=too_long)
        examples, _ = read_examples(Path(scratch))
    assembled = assemble(experiment, lm, computed.records, task.labels)
    return _known(assembled.result, experiment, lm, task, seed, assembled.records, examples)


def tapped(lm: LanguageModel, *taps: Tap) -> AbstractContextManager[None]:
    """Within the block, the attention of every layer passes through the taps; the first tap is the outermost.

    A tap takes an `Attention` and the function that computes it, and returns the output [batch, head, query, dim].
    The block restores the model at its end, also after an exception.

    Raises:
        UserError: at the first forward pass in which a layer bypasses the taps.
    """
    return attention.tapped(lm.model, *taps)


def read_runs(*paths: str | Path) -> pd.DataFrame:
    """A table of all complete runs at or below the paths: one row per run, with its settings and metrics.

    Runs with the same `cell` differ only in their seed: group by it for means over seeds. Settings have the names that
    `anchorflow report --where` takes, those of the experiment with `experiment.` in front. Each metric NAME has its standard
    error in `NAME_stderr`. Runs that are left out are logged and listed with the reason in `attrs["problems"]`.

    Raises:
        UserError: a path does not exist.
    """
    from anchorflow.report.collect import collect
    from anchorflow.report.frame import frame

    found = collect([expanded(path) for path in paths])
    table = frame(found)
    problems = [*found.problems, *(f"incomplete: {each.path} ({each.reason})" for each in found.incomplete)]
    for problem in problems:
        log.warning("%s", problem)
    table.attrs["problems"] = problems
    return table


def _option(group: str, name: str, settings: Mapping[str, Any] | None = None) -> Any:
    """The object that an option of conf/ describes, with these settings; None if there is no such option."""
    if name not in option_groups([conf_dir()])[group] or name == "local":
        return None
    from anchorflow.sweep import compose_node

    return build({**compose_node(group, name), **(settings or {})}, group)


@dataclass(frozen=True)
class _Given:
    """A task that is already loaded."""

    task: Task

    @property
    def name(self) -> str:
        return self.task.name

    def load(self) -> Task:
        return self.task


def _run_in(folder: Path, experiment: Experiment, lm: LanguageModel, task: Task, job: Job) -> RunResult:
    if attention.in_force():
        raise UserError("a run in a folder cannot be made within tapped(...): taps are not part of a run's identity.")
    if lm.source is None:
        raise UserError("a run in a folder needs a model that load_model loaded: its weights are part of the identity.")
    device, dtype = str(lm.device), str(lm.dtype).removeprefix("torch.")
    job = build({**to_node(job), "device": device, "dtype": dtype}, "", Job)
    settings = Settings(job, lm.source, _Given(task), experiment, Tracking(mode="none"))
    written = {key: value for key, value in task.description().items() if key in ("name", "template", "label_words")}
    nodes = {"model": to_node(lm.source), "dataset": written, "experiment": to_node(experiment)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"folder is {str(folder)!r}, which cannot be made ({error.strerror}).") from error
    found = execute_settings(settings, {**to_node(job), **nodes}, folder, KeptModel(lm, lm.source, device, dtype))
    assert found is not None, "only a shard returns None"
    records = RunDirectory(folder, experiment.unit.key).records()
    examples, _ = read_examples(folder)
    return _known(Result.from_json(found), experiment, lm, task, job.seed, records, examples)


def _known(
    result: Result,
    experiment: Any,
    lm: LanguageModel,
    task: Task,
    seed: int,
    records: Iterable[Record],
    examples: Sequence[FlowExample],
) -> RunResult:
    found = {**vars(result), "model": lm.name, "dataset": task.shown, "seed": seed}
    return RunResult(**found, experiment=experiment, records=tuple(records), examples=tuple(examples))
