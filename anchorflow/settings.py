"""One YAML node = one constructor call: the signature of a frozen dataclass is the schema.

Nothing here, and nothing that is built here, imports torch: a mistake in the configuration is
answered before anything heavy loads.
"""

import hashlib
import importlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, ClassVar, Literal

from anchorflow.errors import UserError

NAMED = ("model", "dataset", "experiment", "seed", "dtype", "too_long")
"""The parts of a configuration that a run's directory is named after."""

NO_NUMBER = ("shards", "keep_examples")
"""Settings of an experiment that change none of its numbers."""

SWEEP_WIDE = ("sweep", "launcher")
"""Groups that are about a sweep as a whole: no part of a single run, nor of what it finds."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """How a sweep is gone about. `scale` is the size of a preset (conf/sweep/): what follows from it is what counts."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    scale: Literal["full", "small"] | None = None
    dry_run: bool = False
    retry_failed: bool = False
    wait: bool = True


@dataclass(frozen=True, kw_only=True)
class Job:
    """The keys of the configuration's top level: what is neither model, dataset nor experiment."""

    seed: int = 42
    device: str = "auto"
    dtype: Literal["auto", "float64", "float32", "bfloat16", "float16"] = "auto"
    batch_tokens: int = 1024
    too_long: Literal["refuse", "skip"] = "refuse"

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}; allowed: 0 to 2^63 - 1")
        if self.batch_tokens < 1:
            raise ValueError(f"batch_tokens is {self.batch_tokens}; allowed: 1 or more (1024 is a good start)")


def build(node: Mapping[str, Any], where: str, default: type | None = None) -> Any:
    """Make the object that `node` describes: `_target_` names its class, the rest are its arguments.

    `where` is the node's place in the configuration and starts every message ("experiment").
    Raises UserError for an unknown target or key, a value of the wrong type, or one that the
    class itself refuses.
    """
    arguments = {str(key): value for key, value in node.items() if key != "_target_"}
    target = default or _locate(node.get("_target_"), where)
    known = [field.name for field in fields(target)]
    for key in arguments:
        if key not in known:
            raise UserError(f"{_join(where, key)} is not a setting of {target.__name__}; allowed: {', '.join(known)}.")

    from pydantic import ValidationError

    try:
        built = _adapter(target).validate_python(arguments)
    except ValidationError as error:
        raise UserError("\n".join(_explain(problem, where) for problem in error.errors())) from error
    for key, value in arguments.items():
        # Pydantic takes 1.0 and true for 1, and the run would have two names.
        if isinstance(value, (bool, float)) and type(getattr(built, key)) is int:
            raise UserError(
                f"{_join(where, key)} is {value!r}; allowed: a whole number, written as one ({int(value)})."
            )
    return built


def run_name(config: Mapping[str, Any]) -> str:
    """Where a run's directory lies below `outputs/`: readable choices, then a hash of every setting that matters.

    The same settings give the same name, so that a restart finds its records and a sweep its finished cells.
    """
    require(config, NAMED)
    parts = {key: config[key] for key in NAMED}
    parts["experiment"] = {key: value for key, value in config["experiment"].items() if key != "shards"}
    experiment = str(config["experiment"]["_target_"]).rpartition(".")[2]
    snake = "".join("_" + c.lower() if c.isupper() else c for c in experiment).lstrip("_")
    names = (snake, str(config["model"]["name"]), str(config["dataset"]["name"]))
    safe = "/".join("".join(c if c.isalnum() or c in "-_." else "-" for c in name) for name in names)
    return f"{safe}/seed{config['seed']}-{digest(parts)[:8]}"


def require(config: Mapping[str, Any], keys: Iterable[str]) -> None:
    """UserError for one of these keys that the configuration does not have."""
    for key in keys:
        if config.get(key) is None:
            raise UserError(f"{key} is missing; every run needs it ({key}=..., not ~{key}).")


def digest(value: Any) -> str:
    """A hash (16 hexadecimal digits) of a value made of JSON's types, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _adapter(target: type) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(target)


def _locate(path: Any, where: str) -> type:
    module, _, name = str(path).rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{where}._target_ is {path!r}, which cannot be imported ({error}).") from error
    if not (isinstance(found, type) and is_dataclass(found)):
        raise UserError(f"{where}._target_ is {path!r}; allowed: a dataclass such as anchorflow.experiments.Saliency.")
    return found


def _explain(problem: Mapping[str, Any], where: str) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ").rstrip(".")
    place = [str(part) for part in problem["loc"]]
    if not place:  # the class's own check, which names its keys
        return f"{where}: {message}." if where else f"{message}."
    if problem["type"] == "missing":
        return f"{_join(where, '.'.join(place))} is missing."
    return f"{_join(where, '.'.join(place))} is {problem['input']!r}: {message[0].lower()}{message[1:]}."


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
