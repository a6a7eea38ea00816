"""The names of runs, cells and metrics in W&B."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from anchorflow.settings import SettingError, defaults_of, digest, kind_of, locate

LONGEST_TAG, LONGEST_NAME = 64, 128  # W&B refuses longer ones
NOT_IN_NAMES = "/\\#?%:"
"""Characters that W&B refuses in the names of projects and entities."""


@dataclass(frozen=True)
class Names:
    """What identifies a run. Runs that differ only in the seed form a cell."""

    experiment: str
    model: str
    dataset: str
    seed: int
    replicates: bool = True
    """Whether seeds are independent. Those of label_relationships share repetitions, so a band over them is meaningless."""
    chosen: Mapping[str, Any] = field(default_factory=dict)
    """The settings that differ from their defaults."""
    counted: str = ""
    """A hash of everything that can change a number, except the seed."""

    @property
    def cell(self) -> str:
        """The cell as in reports: experiment, model, dataset, settings that differ from defaults, and `hash`.

        It has at most LONGEST_NAME characters, including room for a seed.
        """
        return self._named("", room=len(self._seed))

    @property
    def name(self) -> str:
        """The cell with its seed."""
        return self._named(self._seed)

    @property
    def group(self) -> str:
        """What W&B averages over: the cell, or the single run if seeds are not replicates."""
        return self.cell if self.replicates else self.name

    @property
    def shown(self) -> dict[str, str | int]:
        """The names by their kind."""
        return {"experiment": self.experiment, "model": self.model, "dataset": self.dataset, "seed": self.seed}

    def number(self, name: str) -> str:
        """The name in W&B of a metric or curve of the experiment."""
        return f"{safe(self.experiment)}/{safe(name)}"

    @property
    def _seed(self) -> str:
        return f" seed{self.seed}"

    def _named(self, more: str, room: int = 0) -> str:
        settings = [f"{key}={_text(value)}" for key, value in self.chosen.items()]
        end = more + (f" {self.counted}" if self.counted else "")
        begin = " ".join([self.experiment, self.model, self.dataset, *settings])
        return begin[: LONGEST_NAME - len(end) - room] + end


def name_run(
    experiment: str, model: str, dataset: str, seed: int, *, replicates: bool, counts: Mapping[str, Any], dtype: str
) -> Names:
    """The names of a run.

    Args:
        experiment: the name of the experiment.
        model: the name of the model.
        dataset: the name of the dataset.
        seed: the seed of the run.
        replicates: whether runs with different seeds share no units.
        counts: the content that the run's identity hashes (`identity_of` in result.json).
        dtype: the dtype in the configuration.
    """
    chosen = _chosen(counts.get("experiment", {}))
    for key, value in _chosen(counts.get("model", {})).items():
        if str(value) not in model:  # a name may already contain it: llama-7b-8bit
            chosen[f"model.{key}"] = value
    if dtype != "auto":
        chosen["dtype"] = dtype
    counted = digest({key: value for key, value in counts.items() if key != "seed"})[:8] if counts else ""
    return Names(experiment, model, dataset, seed, replicates, chosen, counted)


def safe(name: str) -> str:
    """A name for a metric or curve with only letters, digits, _ and /, which have no special meaning in W&B.

    A point would mean nesting, a * a pattern; W&B cannot sort by other names. A decimal point becomes _ (noise_0_25); if
    other characters are replaced, a hash keeps names distinct.
    """
    plain = re.sub(r"(?<=[0-9])\.(?=[0-9])", "_", name)
    found = re.sub(r"[^A-Za-z0-9_/]", "_", plain)
    return found if found == plain else f"{found}_{digest(name)[:4]}"


def safe_artifact(*parts: str) -> str:
    """A name for an artifact."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", "-".join(part for part in parts if part))[:LONGEST_NAME]


def _chosen(node: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a node that change a number and differ from the defaults of its class."""
    try:
        kind = locate(node.get("_target_"), "")
    except SettingError:  # a class that is no longer there
        return {}
    numbers = {each.name for each in fields(kind) if kind_of(each) == "number"}
    usual = {key: value for key, value in defaults_of(kind).items() if key in numbers}
    return {key: value for key, value in node.items() if key in numbers and value != usual.get(key)}


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace('"', "")


def objection(name: str) -> str:
    """What W&B would object to in the name of a project or an entity; empty if nothing."""
    if len(name) <= LONGEST_NAME and not set(name) & set(NOT_IN_NAMES):
        return ""
    return f"W&B allows up to {LONGEST_NAME} characters, none of them {' '.join(NOT_IN_NAMES)}"
