"""One run of a sweep, composed and frozen: later edits of files do not change it."""

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
    """One run of a sweep, or one of its shards. `config` is resolved; `hydra` is Hydra's own configuration.

    `problem` is the error of settings that cannot run; such a cell has no directory.
    """

    folder: Path
    config: dict[str, Any]
    hydra: dict[str, Any]
    overrides: tuple[str, ...]
    shard: Shard | None = None
    problem: str | None = None
    recorded: dict[str, Any] | None = None
    """The version of `config` to write to files, if it differs (see composition.recorded)."""
    allocation: Launcher | None = None
    """Resources of its job that differ from the launcher's."""

    @cached_property
    def settings(self) -> Settings:
        """Its configuration as objects. SettingError if that is invalid."""
        return read_settings(self.config)

    def __getstate__(self) -> dict[str, Any]:
        """The state to pickle for a job, without the objects, which the job builds itself."""
        return {key: value for key, value in vars(self).items() if key != "settings"}

    def with_settings(self, group: str, **settings: Any) -> Cell:
        """The cell with changed settings in one group of its configuration."""

        def changed(node: dict[str, Any]) -> dict[str, Any]:
            return {**node, group: {**node[group], **settings}}

        return replace(self, config=changed(self.config), recorded=self.recorded and changed(self.recorded))

    @property
    def name(self) -> str:
        """Its directory below the sweep's, with the shard; its overrides if it has no directory."""
        if self.problem is not None:
            return " ".join(self.overrides)
        name = "/".join(self.folder.parts[-4:])
        return f"{name} ({self.shard.number} of {self.shard.of})" if self.shard else name

    @property
    def model(self) -> str:
        """Identifies its model: cells with the same value share one loaded model."""
        return digest([self.config[key] for key in ("model", "device", "dtype")])
