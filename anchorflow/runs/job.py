"""One run, from a resolved configuration to a result on disk: open, compute, assemble, publish."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anchorflow.errors import UserError, of_system
from anchorflow.results import SCHEMA, Record, Result
from anchorflow.runs.budget import out_of_memory
from anchorflow.runs.compute import Assembled, Computed, Shard, Store, assemble, compute
from anchorflow.runs.memory import refuse_too_large
from anchorflow.runs.provenance import environment, note_revision, peak_memory, revision
from anchorflow.runs.rundir import RunDirectory
from anchorflow.runs.settings import SWEEP_WIDE, Settings, read_settings
from anchorflow.runs.stopping import Stopped
from anchorflow.settings import as_written, target_of, values

if TYPE_CHECKING:
    from anchorflow.data import Task
    from anchorflow.models import LanguageModel, Model
    from anchorflow.tracking import Content, Names, Recorder

log = logging.getLogger(__name__)


class KeptModel:
    """Keeps the last language model for the next run with the same model."""

    def __init__(self, lm: LanguageModel | None = None, *key: Any) -> None:
        """Start with a loaded model; `key` are the arguments of `load` that it answers."""
        self._key: Any = key
        self._lm = lm

    def load(self, model: Model, device: str, dtype: str) -> tuple[LanguageModel, bool]:
        """The model, and whether it had to be loaded."""
        from anchorflow.attention import checked

        key = (model, device, dtype)
        if self._lm is not None and self._key == key:
            return self._lm, False
        self._lm = self._key = None  # free the memory of the last model first
        self._lm = checked(model.load(device, dtype))
        self._key = key
        return self._lm, True


@dataclass(frozen=True)
class OpenRun:
    """A run whose data is loaded and whose directory is claimed. `config` has its settings as in result.json."""

    settings: Settings
    config: Mapping[str, Any]
    directory: RunDirectory
    task: Task
    device: str
    dtype: str
    identity: str
    revisions: list[str] = field(default_factory=list)
    """The revisions of the code that made its records; the current one is last."""

    @property
    def names(self) -> Names:
        """The names of the run."""
        from anchorflow.tracking import name_run

        settings, job = self.settings, self.settings.job
        return name_run(
            *(settings.experiment.name, settings.model.name, self.task.name, job.seed),
            replicates=not settings.experiment.unit.shared,
            counts=settings.identity_of(self.task, self.dtype),
            dtype=job.dtype,
        )

    def compute(self, lm: LanguageModel, store: Store, shard: Shard | None = None) -> Computed:
        """Compute a record for each unit of its work in `store`."""
        job = self.settings.job
        return compute(
            self.settings.experiment,
            lm,
            self.task,
            store,
            seed=job.seed,
            batch_tokens=job.batch_tokens,
            too_long=job.too_long,
            shard=shard,
        )


@dataclass(frozen=True)
class Timing:
    """Start and end times of parts of a run (seconds on one clock), and the number of models loaded for it."""

    started: float
    loaded: float
    ended: float
    loads: int

    def to_json(self, computed: Computed) -> dict[str, Any]:
        """The timing as in result.json."""
        run_s = self.ended - self.loaded
        return {
            "load_s": round(self.loaded - self.started, 3),
            "model_loads": self.loads,
            "run_s": round(run_s, 3),
            "queries_per_s": round(computed.new / run_s, 3),
            "peak_memory_bytes": peak_memory(),
            "batch_tokens": computed.batch_tokens,
        }


def execute(
    config: Mapping[str, Any],
    folder: Path,
    kept: KeptModel | None = None,
    shard: Shard | None = None,
    recorded: Mapping[str, Any] | None = None,
) -> dict[str, Any] | None:
    """Run a resolved configuration in `folder` and return the content of its result.json.

    `recorded` is the configuration that result.json and the tracker get; it names the environment variable instead of a
    secret.

    A run resumes from its records; a complete one is returned unchanged. With `shard`, only that part of the run is
    computed; the last shard to end assembles the result, the others return None.
    """
    config = {key: value for key, value in config.items() if key not in SWEEP_WIDE}
    settings = read_settings(config)
    config = {key: value for key, value in (recorded or config).items() if key not in SWEEP_WIDE}
    config |= {"model": {**config["model"], "name": settings.model.name}}  # the name includes the model's variant
    return execute_settings(settings, config, folder, kept or KeptModel(), shard)


def execute_settings(
    settings: Settings, config: Mapping[str, Any], folder: Path, kept: KeptModel, shard: Shard | None = None
) -> dict[str, Any] | None:
    """The same for settings that are already objects; `config` has them as in result.json."""
    whole = RunDirectory(folder, settings.experiment.unit.key)
    if shard is not None and whole.result() is None:
        with _owned(whole.shard(*shard)) as part:
            _execute_shard(settings, config, part, kept, shard)
        if not whole.shards_complete(shard.of):
            return None
    with _owned(whole) as directory:
        return _execute(settings, config, directory, kept)


def _execute(settings: Settings, config: Mapping[str, Any], directory: RunDirectory, kept: KeptModel) -> dict[str, Any]:
    from anchorflow.tracking import Followed, recording, tell_agent

    started = time.perf_counter()
    run = open_run(settings, config, directory)
    if (done := directory.result()) is not None:
        _say_complete(done, run)
        tell_agent(settings.tracking, directory.path)
        return done
    _check(run)
    whole_config = {**run.config, "identity": run.identity, "data": run.task.shown, "revision": str(revision())}
    counting = as_written(values(settings.experiment, "number"), run.config["experiment"])

    def begin() -> AbstractContextManager[Recorder]:
        return settings.tracking.run(directory.path, run.identity, whole_config, run.names, counting)

    # Write the final status before the tracker ends, which may take a while.
    with recording(begin) as tracker, _told(directory):
        if tracker.url:
            directory.report("running", url=tracker.url)
        lm, new = _load(run, kept)
        loaded = time.perf_counter()
        computed = run.compute(lm, Followed(directory, tracker))
        try:
            assembled = assemble(settings.experiment, lm, computed.records, run.task.labels)
        except KeyError as error:
            raise _incomplete(directory, computed.records, error.args[0]) or error from error
        timing = Timing(started, loaded, time.perf_counter(), int(new))
        if list(assembled.finished) != [record for record in computed.records if "skipped" not in record]:
            directory.rewrite(assembled.records)
        found = describe(run, lm, assembled, timing.to_json(computed))
        tracker.log(_content(run, lm, assembled, computed, found))
        directory.complete(found)
        total = len(computed.records)
        directory.report("completed", progress={"done": total, "total": total})
    _show_metrics(found["metrics"], found["stderr"])
    for note in found["notes"]:
        log.info("note: %s", note)
    log.info("result: %s", directory.path / "result.json")
    _show_figures(directory)
    return found


def _execute_shard(
    settings: Settings, config: Mapping[str, Any], directory: RunDirectory, kept: KeptModel, shard: Shard
) -> None:
    run = open_run(settings, config, directory)
    _check(run)
    lm, _ = kept.load(settings.model, run.device, run.dtype)
    run.compute(lm, directory, shard)
    directory.report("completed")


def open_run(settings: Settings, config: Mapping[str, Any], directory: RunDirectory) -> OpenRun:
    """Load the data and claim the directory. UserError if it holds another run."""
    from anchorflow.models import choose_device, choose_dtype

    task = settings.dataset.load()
    device = choose_device(settings.job.device)
    dtype = choose_dtype(settings.job.dtype, device)
    identity = settings.identity(task, dtype)
    directory.claim(identity)
    revisions = [] if directory.result() is not None else note_revision(directory.path)
    return OpenRun(settings, config, directory, task, device, dtype, identity, revisions)


def _incomplete(directory: RunDirectory, records: Sequence[Record], field: str) -> UserError | None:
    """An error that names the record without a field that others have; None if no record lacks it."""

    def has(node: Any) -> bool:
        return isinstance(node, Mapping) and (field in node or any(map(has, node.values())))

    lacking = [record for record in records if "skipped" not in record and not has(record)]
    if not lacking or not any(map(has, records)):
        return None
    return UserError(
        f"{directory.path / 'records.jsonl'} is damaged: its record of {directory.key} {lacking[0][directory.key]} has no "
        f"{field!r}; delete that line, and the record is computed again."
    )


def describe(run: OpenRun, lm: LanguageModel, assembled: Assembled, timing: Mapping[str, Any]) -> dict[str, Any]:
    """The content of result.json."""
    settings, unit = run.settings, run.settings.experiment.unit
    found = assembled.result.to_json()
    if len(run.revisions) > 1:
        found["notes"] = [
            *found["notes"],
            f"its records come from several revisions of the code: {', '.join(run.revisions)}",
        ]
    return {
        "schema": SCHEMA,
        "experiment": settings.experiment.name,
        "unit": unit.key,
        "identity": run.identity,
        "identity_of": _identity_of(run),
        "seed": settings.job.seed,
        **found,
        "counts": {unit.several: len(assembled.finished), "skipped": len(assembled.skipped)},
        "config": dict(run.config),
        "data": {"shown": run.task.shown, **vars(run.task.provenance)},
        "environment": {
            **environment(str(lm.device), run.dtype, run.revisions),
            "weights": lm.revision,
            "layers": lm.shape.layers,
            "parameters": lm.parameters,
        },
        "timing": dict(timing),
    }


def _identity_of(run: OpenRun) -> dict[str, Any]:
    """The content that the identity hashes; values from environment variables as written in the configuration."""
    found: dict[str, Any] = json.loads(json.dumps(run.settings.identity_of(run.task, run.dtype)))
    return {**found, **{group: as_written(found[group], run.config[group]) for group in ("model", "experiment")}}


def draw(run: OpenRun, result: Result) -> list[Path]:
    """Draw the result's figures in the run's directory; returns the paths of the PNGs."""
    from anchorflow.report import figures
    from anchorflow.report.view import view_of

    experiment = run.settings.experiment
    view = view_of(experiment.name, target_of(type(experiment)))
    title = f"{run.names.model}, {run.task.shown}, seed {run.names.seed}"
    return figures.save(figures.draw(view, result, title), run.directory.path / "figures")


def _check(run: OpenRun) -> None:
    settings = run.settings
    settings.experiment.check(run.task, settings.model.shape())
    refuse_too_large(settings.model, settings.experiment, run.device, run.dtype)
    run.directory.report("running", progress={"done": 0, "total": None})


def _load(run: OpenRun, kept: KeptModel) -> tuple[LanguageModel, bool]:
    lm, new = kept.load(run.settings.model, run.device, run.dtype)
    log.info("model: %s (%s, %s, %d layers)", lm.name, lm.device, run.dtype, lm.shape.layers)
    return lm, new


def _content(
    run: OpenRun, lm: LanguageModel, assembled: Assembled, computed: Computed, found: Mapping[str, Any]
) -> Content:
    from anchorflow.tracking import Content, draw_sample

    unit, labels = run.settings.experiment.unit, run.task.labels
    return Content(
        result=assembled.result,
        sample=draw_sample(unit, computed.units, assembled.finished, labels, lm.tokenizer.decode),
        dataset=run.task.description(),
        figures=draw(run, assembled.result),
        files=sorted(run.directory.path.glob("*.safetensors")),
        records=run.directory.path / "records.jsonl",
        described=found,
    )


@contextlib.contextmanager
def _owned(directory: RunDirectory) -> Iterator[RunDirectory]:
    """Lock the directory for this process, and record in its status how the block ends."""
    with directory.locked(), _told(directory):
        yield directory


@contextlib.contextmanager
def _told(directory: RunDirectory) -> Iterator[None]:
    """Record an early end in status.json; turn an exhausted resource into a UserError."""
    try:
        yield
    except Stopped as stop:
        directory.report_end(stop.state)
        raise
    except SystemExit:  # submitit has requeued the job
        directory.report_end("preempted")
        raise
    except BaseException as error:
        import traceback

        known = _explain(error)
        directory.report_end("failed", error=str(known or error), traceback=traceback.format_exc())
        if known is not None:
            raise known from error
        raise


def _explain(error: BaseException) -> UserError | None:
    """A UserError for an exhausted resource (disk, memory); None for any other error."""
    if isinstance(error, OSError):
        return of_system(error)
    if out_of_memory(error):
        return UserError("out of memory; use a smaller dtype or model, or a device with more memory.")
    return None


def _say_complete(done: Mapping[str, Any], run: OpenRun) -> None:
    """Log that the run is complete, its metrics, and the `shown` settings that differ from those it ran with."""
    log.info("already complete: %s", run.directory.path / "result.json")
    before = done.get("config", {}).get("experiment", {})
    shown = values(run.settings.experiment, "shown")
    for name, value in shown.items():
        if name in before and before[name] != value:
            log.info("it was run with experiment.%s=%s, not %s; delete it to run it again", name, before[name], value)
    _show_metrics(done["metrics"], done.get("stderr", {}))
    _show_figures(run.directory)


def _show_figures(directory: RunDirectory) -> None:
    for figure in sorted((directory.path / "figures").glob("*.png")):
        log.info("figure: %s", figure)


def _show_metrics(metrics: Mapping[str, float | None], stderr: Mapping[str, float | None]) -> None:
    """Log a line for each variant (the part of a metric's name before the last /, but words may contain a /), and for each
    difference with its p.
    """
    from anchorflow.report.tables.sheets import with_error

    lines: dict[str, list[str]] = {}
    for name, value in metrics.items():
        variant, _, measure = name.rpartition("/")
        if "_minus_" in name:
            variant, measure = name.removesuffix("_p"), "p" if name.endswith("_p") else ""
        error = stderr.get(name)
        shown = "undefined" if value is None else with_error(value, math.nan if error is None else error)
        lines.setdefault(variant, []).append(f"{measure} {shown}".strip())
    for variant, found in lines.items():
        log.info("%s%s", f"{variant}: " if variant else "", ", ".join(found))
