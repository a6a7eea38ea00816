"""One run, from a composed configuration to a result on disk. Beside sweep/ the only code that sees Hydra."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from anchorflow.errors import UserError, of_system
from anchorflow.results import SCHEMA, Record, Result
from anchorflow.runs.provenance import environment, peak_memory
from anchorflow.runs.rundir import RunDirectory
from anchorflow.runs.stopping import Stopped, stop_signals
from anchorflow.settings import NAMED, NO_NUMBER, SWEEP_WIDE, Job, build, digest, require

if TYPE_CHECKING:
    from anchorflow.data import Dataset, Task
    from anchorflow.experiments import Experiment, Unit
    from anchorflow.models import LanguageModel, Pretrained, Tiny
    from anchorflow.tracking import Names, Tracking

T = TypeVar("T", bound="Unit")

log = logging.getLogger(__name__)
tracebacks = logging.getLogger("anchorflow.tracebacks")
"""Goes to the log file, not to the screen (conf/config.yaml)."""

UNITS = {"query": ("test row", "queries"), "repetition": ("repetition", "repetitions")}
"""What one unit of work is called, and several."""

GROUPS = ("model", "dataset", "experiment", "tracking")


def run_job(config: DictConfig) -> None:
    """Run what `config` describes in Hydra's directory for it.

    A user's mistake ends as one or two sentences and exit code 1.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    logging.raiseExceptions = False  # a log that cannot be written (a full disk) is no reason for a traceback
    try:
        with stop_signals():
            execute(OmegaConf.to_container(config, resolve=True), folder)  # type: ignore[arg-type]
    except UserError as error:
        tracebacks.error("%s", error, exc_info=True)
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except Stopped as stop:
        print(f"stopped; {folder} keeps the finished records, the same command goes on from them", file=sys.stderr)
        sys.exit(128 + stop.signal)


class Shard(NamedTuple):
    """Part `number` (from 1) of `of` parts of a run's batches, worked on in a directory of its own below the run's."""

    number: int
    of: int


class KeptModel:
    """The language model that was used last, for the next run that asks for the same."""

    def __init__(self) -> None:
        self._key: Any = None
        self._lm: LanguageModel | None = None

    def load(self, model: Pretrained | Tiny, device: str, dtype: str) -> tuple[LanguageModel, bool]:
        """The model, and whether it had to be loaded."""
        key = (model, device, dtype)
        if self._lm is not None and self._key == key:
            return self._lm, False
        self._lm = self._key = None  # frees the last one's memory first
        self._lm = model.load(device, dtype)
        self._key = key
        return self._lm, True


@dataclass(frozen=True)
class Settings:
    """A configuration as objects, each checked by its own class."""

    job: Job
    model: Pretrained | Tiny
    dataset: Dataset
    experiment: Experiment
    tracking: Tracking


def settings(config: Mapping[str, Any]) -> Settings:
    """Check a resolved configuration. Loads no torch; UserError for what is unknown or impossible."""
    require(config, (*GROUPS, *NAMED))
    parts = {group: build(config[group], group) for group in GROUPS}
    rest = {key: value for key, value in config.items() if key not in (*GROUPS, *SWEEP_WIDE)}
    return Settings(job=build(rest, "", Job), **parts)


def execute(
    config: Mapping[str, Any], folder: Path, kept: KeptModel | None = None, shard: Shard | None = None
) -> dict[str, Any] | None:
    """Run a resolved configuration in `folder` and give back the content of its result.json.

    Goes on from the records that are there; a finished run is given back as it is. With `shard` only that part of the
    run is computed; whichever shard is the last to end puts all together (the others give back None).
    """
    kept = kept or KeptModel()
    config = {key: value for key, value in config.items() if key not in SWEEP_WIDE}
    chosen = settings(config)
    if shard is None:
        return _run(chosen, config, RunDirectory(folder, chosen.experiment.key), kept)
    whole = RunDirectory(folder, chosen.experiment.key)
    if whole.result() is None:
        _run(chosen, config, whole.shard(*shard), kept, shard)
        if not whole.shards_complete(shard.of):
            return None
    return _run(chosen, config, whole, kept)


def _run(
    chosen: Settings, config: Mapping[str, Any], directory: RunDirectory, kept: KeptModel, shard: Shard | None = None
) -> dict[str, Any] | None:
    with directory.locked(), _told(directory, chosen.job):
        return _execute(chosen, config, directory, kept, shard)


@contextlib.contextmanager
def _told(directory: RunDirectory, job: Job) -> Iterator[None]:
    """How the block ends early is said in status.json; what the machine ran out of becomes a sentence."""
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

        known = _explain(error, job)
        directory.report_end("failed", error=str(known or error), traceback=traceback.format_exc())
        if known is not None:
            raise known from error
        raise


def identify(chosen: Settings, task: Task, dtype: str) -> str:
    """The hash of everything that can change a number."""
    return digest(_what_counts(chosen, task, dtype))


def _execute(
    chosen: Settings, config: Mapping[str, Any], directory: RunDirectory, kept: KeptModel, shard: Shard | None
) -> dict[str, Any] | None:
    from anchorflow.models import choose_device, choose_dtype
    from anchorflow.tracking import Content, Names
    from anchorflow.tracking.samples import draw_sample

    started = time.perf_counter()
    job, experiment = chosen.job, chosen.experiment
    task = chosen.dataset.load()
    device = choose_device(job.device)
    dtype = choose_dtype(job.dtype, device)
    identity = identify(chosen, task, dtype)
    directory.claim(identity)
    done = directory.result()
    if done is not None:
        log.info("already complete: %s", directory.path / "result.json")
        _show(done["metrics"], done.get("stderr", {}))
        return done
    experiment.check(task, chosen.model.shape())
    directory.report("running", progress={"done": 0, "total": None})
    if shard is not None:
        lm, _ = kept.load(chosen.model, device, dtype)
        _map(chosen, lm, task, directory, shard)
        directory.report("completed")
        return None
    names = Names(experiment.name, chosen.model.name, task.name, job.seed)
    tracking = chosen.tracking.run(directory.path, identity, {**config, "identity": identity}, names)
    with tracking as tracker, _told(directory, job):  # told before the tracker ends, which may take a while
        lm, new = kept.load(chosen.model, device, dtype)
        log.info("model: %s (%s, %s, %d layers)", lm.name, lm.device, dtype, lm.shape.layers)
        loaded = time.perf_counter()
        units, records, computed = _map(chosen, lm, task, directory)
        fitting = [record for record in records if "skipped" not in record]
        if not fitting:
            raise UserError(f"all {len(records)} prompts are longer than the {lm.max_length} tokens of {lm.name}.")
        finished = experiment.finish(fitting)
        if finished != fitting:
            directory.rewrite([*finished, *(record for record in records if "skipped" in record)])
        result = experiment.reduce(finished, task.labels)
        if left_out := len(records) - len(fitting):
            note = f"{left_out} of {len(records)} {UNITS[experiment.key][1]} are longer than the context and left out"
            result = replace(result, notes=[*result.notes, note])
        run_s = time.perf_counter() - loaded
        found = {
            "schema": SCHEMA,
            "experiment": experiment.name,
            "identity": identity,
            "identity_of": json.loads(json.dumps(_what_counts(chosen, task, dtype))),  # as it will be read
            "seed": job.seed,
            **result.to_json(),
            "counts": {UNITS[experiment.key][1]: len(fitting), "skipped": len(records) - len(fitting)},
            "config": dict(config),
            "data": vars(task.provenance),
            "environment": {**environment(str(lm.device), dtype), "weights": lm.revision},
            "timing": {
                "load_s": round(loaded - started, 3),
                "model_loads": int(new),
                "run_s": round(run_s, 3),
                "queries_per_s": round(computed / run_s, 3),
                "peak_memory_bytes": peak_memory(),
            },
        }
        content = Content(
            result=result,
            sample=draw_sample(units, finished, task.labels, lm.tokenizer.decode),
            dataset=task.description(),
            figures=_draw(result, names, directory),
            files=sorted(directory.path.glob("*.safetensors")),
        )
        tracker.log(content)
        directory.complete(found)
        directory.report("completed", progress={"done": len(records), "total": len(records)})
    _show(found["metrics"], found["stderr"])
    for note in result.notes:
        log.info("note: %s", note)
    log.info("result: %s", directory.path / "result.json")
    return found


def _map(
    chosen: Settings, lm: LanguageModel, task: Task, directory: RunDirectory, shard: Shard | None = None
) -> tuple[Sequence[Unit], list[Record], int]:
    """The units of the work (of a shard, those of its part), a record for each, and how many were computed now."""
    from tqdm import tqdm

    from anchorflow.prompts import PromptBuilder

    experiment, job, key = chosen.experiment, chosen.job, chosen.experiment.key
    builder = PromptBuilder(lm.tokenizer, task.template, task.label_words, task.separator, lm.max_length)
    work = experiment.prepare(task, builder, job.seed)
    units = work.units
    fitting, skipped = _sort_out(units, lm, job, *UNITS[key])
    training, _ = _sort_out(work.training, lm, job, "training example", "training examples")
    if {prompt.label for prompt in training} < {prompt.label for prompt in work.training}:
        raise UserError(f"all training examples of a class are longer than the {lm.max_length} tokens of {lm.name}.")
    work = replace(work, training=tuple(training), batch_tokens=job.batch_tokens)
    batches = experiment.plan(fitting, job.batch_tokens)
    if shard is not None:
        batches, skipped = batches[shard.number - 1 :: shard.of], []
        units = [unit for batch in batches for unit in batch]
    done = {record[key]: record for record in directory.records()}
    numbers = {unit.number for unit in units}
    new = {record[key]: record for record in (*directory.elsewhere(), *skipped) if record[key] in numbers - done.keys()}
    if new:
        directory.append(list(new.values()))
        done |= new
    # A batch is computed whole if any record of it is missing: then every number is what it would
    # have been without the interruption.
    todo = [batch for batch in batches if any(unit.number not in done for unit in batch)]
    if len(done) > len(skipped):
        log.info("going on from %d of %d records", len(done), len(units))
    began, before = time.perf_counter(), len(done)
    with tqdm(total=len(units), initial=before, desc=experiment.name, unit=key, mininterval=0.5) as bar:
        for records in experiment.map(lm, work, todo, directory.run):
            found = [record for record in records if record[key] not in done]
            directory.append(found)
            done |= {record[key]: record for record in found}
            bar.update(len(found))
            rate = (len(done) - before) / (time.perf_counter() - began)
            progress = {"done": len(done), "total": len(units)}
            left = round((len(units) - len(done)) / rate, 1) if rate else None
            directory.report("running", force=False, progress=progress, queries_per_s=round(rate, 3), left_s=left)
    return units, [done[unit.number] for unit in units], len(done) - before


def _sort_out(units: Sequence[T], lm: LanguageModel, job: Job, one: str, several: str) -> tuple[list[T], list[Record]]:
    """The units that fit the model's context, and records of those that do not (or a UserError, as configured)."""
    limit = lm.max_length
    fitting, skipped = [], []
    for unit in units:
        if limit is None or unit.length <= limit:
            fitting.append(unit)
            continue
        reason = f"{unit.length} tokens, the context is {limit}"
        if job.too_long == "refuse":
            raise UserError(
                f"the prompt for {one} {unit.number} has {unit.length} tokens; the context of {lm.name} is {limit}. "
                "Use fewer demonstrations, or too_long=skip to leave such prompts out and count them."
            )
        skipped.append({**unit.head, "skipped": reason})
    if skipped:
        log.warning("skipping %d of %d %s, longer than the context", len(skipped), len(units), several)
    return fitting, skipped


def _draw(result: Result, names: Names, directory: RunDirectory) -> list[Path]:
    from anchorflow.report.views import figures

    title = f"{names.model}, {names.dataset}, seed {names.seed}"
    return figures.save(figures.draw(names.experiment, result, title), directory.path / "figures")


def _what_counts(chosen: Settings, task: Task, dtype: str) -> dict[str, Any]:
    """Everything that can change a number, and nothing else: not where, when, how fast, or who is told."""
    experiment = {key: value for key, value in chosen.experiment.fingerprint().items() if key not in NO_NUMBER}
    return {
        "schema": SCHEMA,
        "model": chosen.model.fingerprint(),
        "data": task.provenance.sha256,
        "prompts": [task.name, task.template.source, list(task.label_words), task.separator],  # an instruction names it
        "experiment": experiment,
        "seed": chosen.job.seed,
        "dtype": dtype,
        "too_long": chosen.job.too_long,
    }


def _explain(error: BaseException, job: Job) -> UserError | None:
    """A sentence for what the machine ran out of; None where the error is not of that kind."""
    if isinstance(error, OSError):
        return of_system(error)
    if isinstance(error, (MemoryError, RuntimeError)) and (
        type(error).__name__ in ("MemoryError", "OutOfMemoryError") or "can't allocate memory" in str(error)
    ):
        half = max(1, job.batch_tokens // 2)
        return UserError(
            f"out of memory with batch_tokens={job.batch_tokens}; try batch_tokens={half}, or a smaller dtype."
        )
    return None


def _show(metrics: Mapping[str, float | None], stderr: Mapping[str, float | None]) -> None:
    """A line for each variant, which is what stands before the last / of a metric's name (but a word may hold a /)."""
    lines: dict[str, list[str]] = {}
    for name, value in metrics.items():
        variant, _, measure = ("", "", name) if "_minus_" in name else name.rpartition("/")
        error = stderr.get(name)
        shown = "undefined" if value is None else f"{value:.3f}" if abs(value) < 1000 else f"{value:,.0f}"
        lines.setdefault(variant, []).append(f"{measure} {shown}" + (f" ± {error:.3f}" if error else ""))
    for variant, found in lines.items():
        log.info("%s%s", f"{variant}: " if variant else "", ", ".join(found))
