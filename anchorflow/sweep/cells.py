"""One run of a sweep, composed and frozen: what is edited afterwards does not change it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from anchorflow.runs import Settings, Shard, read_settings
from anchorflow.settings import digest
from anchorflow.sweep.settings import Launcher


@dataclass(frozen=True)
class Cell:
    """One run of a sweep, or one shard of it. `config` is resolved; `hydra` is what Hydra itself was told.

    `problem` says why its settings cannot be run, in which case it has no directory of its own.
    """

    folder: Path
    config: dict[str, Any]
    hydra: dict[str, Any]
    overrides: tuple[str, ...]
    shard: Shard | None = None
    problem: str | None = None
    recorded: dict[str, Any] | None = None
    """What is written down of `config`, where that is not the same (see composition.recorded)."""
    allocation: Launcher | None = None
    """What its job is given, where that differs from what the launcher says for all."""

    @cached_property
    def settings(self) -> Settings:
        """Its configuration as objects. SettingError where that says what cannot be."""
        return read_settings(self.config)

    def __getstate__(self) -> dict[str, Any]:
        """What a job is given: the objects are made where it runs."""
        return {key: value for key, value in vars(self).items() if key != "settings"}

    def with_settings(self, group: str, **settings: Any) -> Cell:
        """The cell with other settings in one group of its configuration."""

        def changed(node: dict[str, Any]) -> dict[str, Any]:
            return {**node, group: {**node[group], **settings}}

        return replace(self, config=changed(self.config), recorded=self.recorded and changed(self.recorded))

    @property
    def name(self) -> str:
        """Its directory below the sweep's, with the shard; its overrides where it has no directory."""
        if self.problem is not None:
            return " ".join(self.overrides)
        name = "/".join(self.folder.parts[-4:])
        return f"{name} ({self.shard.number} of {self.shard.of})" if self.shard else name

    @property
    def model(self) -> str:
        """What tells its model from another: cells that agree here share one that is loaded."""
        return digest([self.config[key] for key in ("model", "device", "dtype")])
