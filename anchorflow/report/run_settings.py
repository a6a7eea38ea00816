"""What tells runs apart: the settings of their experiment, model and dataset, with the names of the command line."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from anchorflow.report.collect import Run
from anchorflow.settings import digest

PLACES = ("_target_", "name", "device_map", "label_names", "source", "path", "root", "hub", "package")
"""Keys of a model or dataset for its location; the hash of its content identifies it instead."""
CONTENT = ("_target_", "files", "hub")
"""Keys of a model's identity about its weights, which `weights` summarises."""
HASHES = ("weights", "data")
NULL = "null"
OF_DATASET = ("template", "label_words", "separator")


def of_experiment(run: Run) -> Mapping[str, Any]:
    """The settings of its experiment that change a number, and `too_long` and `dtype`."""
    dtype = run.result.get("environment", {}).get("dtype")
    return {**run.settings, "too_long": run.result["config"].get("too_long"), "dtype": dtype}


def of_model(run: Run) -> Mapping[str, Any]:
    """The settings of its model, its path (for people), and a hash of its weights."""
    config, counted = run.result["config"]["model"], _counted(run, "model")
    if "_target_" in counted:
        found = {key: value for key, value in counted.items() if key not in CONTENT}
    else:  # from an older version, which did not record which settings of a model count
        found = {key: value for key, value in config.items() if key not in PLACES}
    found = {f"model.{key}": value for key, value in {"path": config.get("path"), **found}.items()}
    weights = run.result.get("environment", {}).get("weights") or digest(counted.get("files", counted))[:8]
    return {**found, "weights": weights}


def of_dataset(run: Run) -> Mapping[str, Any]:
    """Its prompt, and a hash of its examples."""
    config, data = run.result["config"]["dataset"], run.result.get("data", {})
    # A dataset.yaml may set what the configuration leaves open.
    shown = dict(zip(OF_DATASET, list(_counted(run, "prompts"))[1:], strict=False)) or {
        k: config.get(k) for k in OF_DATASET
    }
    return {**shown, "data": digest(data.get("sha256"))[:8]}


class Scope(NamedTuple):
    """A part of a run that has settings: its name in a run, and its settings there."""

    part: str
    name: Callable[[Run], str]
    settings: Callable[[Run], Mapping[str, Any]]

    def written(self, run: Run) -> dict[str, str]:
        """The settings as on a command line."""
        return {name: as_text(value) for name, value in self.settings(run).items()}


EXPERIMENT = Scope("experiment", lambda run: run.experiment, of_experiment)
MODEL = Scope("model", lambda run: run.model, of_model)
DATASET = Scope("dataset", lambda run: run.dataset, of_dataset)
SCOPES = (EXPERIMENT, MODEL, DATASET)


def settings_of(run: Run) -> dict[str, str]:
    """Everything that distinguishes a run from others with the same model, dataset and seed, as on a command line."""
    return {name: value for scope in SCOPES for name, value in scope.written(run).items()}


def varying_settings(runs: Sequence[Run]) -> list[dict[str, str]]:
    """For each run, the settings that differ between runs; those of a model or dataset only between runs with its name.

    A setting that a run lacks (it had no effect, given the others) counts as null. Hashes (of weights, of data) are left out
    where the other settings imply them.
    """
    varying: list[dict[str, str]] = [{} for _ in runs]
    for scope in SCOPES:
        found = [(None if scope is EXPERIMENT else scope.name(run), scope.written(run)) for run in runs]
        values: dict[tuple[Any, str], set[str]] = {}
        names = names_in(of_run for _, of_run in found)
        for name in names:
            for where, of_run in found:
                values.setdefault((where, name), set()).add(of_run.get(name, NULL))
        differing = [
            (where, {name: of_run.get(name, "") for name in names if len(values[where, name]) > 1})
            for where, of_run in found
        ]
        implied = {name for name in HASHES if name in names and _implied(name, differing)}
        for kept, (_, of_run) in zip(varying, differing, strict=True):
            kept.update({name: value for name, value in of_run.items() if name not in implied})
    return varying


def _implied(name: str, found: Sequence[tuple[Any, Mapping[str, str]]]) -> bool:
    """Whether the other settings of each run determine this one."""
    of_others: dict[Any, set[str]] = {}
    for where, settings in found:
        others = tuple((other, value) for other, value in settings.items() if other != name)
        of_others.setdefault((where, others), set()).add(settings.get(name, ""))
    return all(len(values) == 1 for values in of_others.values())


def shared_settings(runs: Sequence[Run]) -> list[tuple[str, str, str]]:
    """The settings that all runs of an experiment, model or dataset share: (its name, setting, value).

    Without the version of the code, which matters if it differs, and without what a model or dataset leaves open.
    """
    found = []
    for scope in SCOPES:
        together: dict[str, list[dict[str, str]]] = {}
        for run in runs:
            together.setdefault(scope.name(run), []).append(scope.written(run))
        for name, (first, *others) in together.items():
            where = name if scope is EXPERIMENT else f"{scope.part} {name}"
            for setting, value in first.items():
                told = setting != "version" and (scope is EXPERIMENT or value != NULL)
                if told and all(other.get(setting) == value for other in others):
                    found.append((where, setting, value))
    return found


def apart(own: Mapping[str, str], every: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The settings in `own` that differ between any of `every`, without implied hashes (see `varying_settings`)."""
    names = [name for name in names_in(every) if len({found.get(name, NULL) for found in every}) > 1]
    differing = [(None, {name: found.get(name, NULL) for name in names}) for found in every]
    return {name: own.get(name, NULL) for name in names if not (name in HASHES and _implied(name, differing))}


def typed(settings: Mapping[str, str]) -> str:
    """The settings as written on the command line."""
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def names_in(of: Iterable[Mapping[str, Any]]) -> list[str]:
    """Every name that one of these has, in the order of first appearance."""
    return list(dict.fromkeys(name for found in of for name in found))


def as_text(value: Any) -> str:
    """The value as on a command line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _counted(run: Run, what: str) -> Any:
    """A part of the content that the run's identity hashes; empty in results of older versions."""
    return run.result.get("identity_of", {}).get(what, {})
