"""The cells of a sweep: composed by Hydra, resolved, and frozen. What is edited afterwards changes none of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf

from anchorflow.runs.job import Shard
from anchorflow.settings import SWEEP_WIDE, digest
from anchorflow.sweep.composition import plain


@dataclass(frozen=True)
class Cell:
    """One run of a sweep, or one shard of it. `config` is resolved; `hydra` is what Hydra itself was told."""

    folder: Path
    config: dict[str, Any]
    hydra: dict[str, Any]
    overrides: tuple[str, ...]
    shard: Shard | None = None

    @property
    def name(self) -> str:
        """Its directory below the sweep's, with the shard."""
        name = "/".join(self.folder.parts[-4:])
        return f"{name} ({self.shard.number} of {self.shard.of})" if self.shard else name

    @property
    def model(self) -> str:
        """What tells its model from another: cells that agree here share one that is loaded."""
        return digest([self.config[key] for key in ("model", "device", "dtype")])


def compose(loader: ConfigLoader, master: DictConfig, grid: Sequence[Sequence[str]]) -> Iterator[Cell]:
    """The cells for these overrides, in their order.

    Composition takes Hydra some 50 ms, so that cells which choose the same files share it: they differ in values, which
    are set as Hydra would, after the composition.
    """
    parser = OverridesParser.create()
    composed: dict[tuple[str, ...], DictConfig] = {}
    for number, overrides in enumerate(grid):
        parsed = parser.parse_overrides(list(overrides))
        values = [override for override in parsed if _is_value(override, master)]
        choices = tuple(str(override.input_line) for override in parsed if override not in values)
        if choices not in composed:
            composed[choices] = _opened(loader.load_sweep_config(master, list(choices)))
        config = composed[choices]
        try:
            before = {key: _raw(config, key) for key in (str(override.key_or_group) for override in values)}
        except LookupError:  # an item of a list, which Hydra composes, or a key that is not there, of which it tells
            config, values, before = _opened(loader.load_sweep_config(master, list(overrides))), [], {}
        HydraConfig.instance().cfg = config  # who answers ${hydra:...}
        for override in values:
            OmegaConf.update(config, str(override.key_or_group), override.value())
        yield _freeze(config, number, overrides)
        for key, value in before.items():
            OmegaConf.update(config, key, value, merge=False)


def _raw(config: DictConfig, key: str) -> Any:
    """The value at a key as it is written, an interpolation as such. LookupError for what is not a mapping's."""
    above, _, last = key.rpartition(".")
    node = OmegaConf.select(config, above) if above else config
    if not isinstance(node, DictConfig):
        raise LookupError(key)
    raw: Any = OmegaConf.to_container(node, resolve=False)
    return raw[last]


def _is_value(override: Override, master: DictConfig) -> bool:
    """Whether it changes a plain value: no choice of a file, nothing added or removed, nothing of Hydra's own."""
    key = str(override.key_or_group)
    if override.type != OverrideType.CHANGE or override.package is not None or key.startswith("hydra.") or "/" in key:
        return False
    return "." in key or not isinstance(OmegaConf.select(master, key), (DictConfig, type(None)))


def _opened(config: DictConfig) -> DictConfig:
    """With those parts of Hydra's own node open that a cell fills in."""
    for node in (config.hydra.runtime, config.hydra.overrides, config.hydra.job):
        OmegaConf.set_readonly(node, False)
        OmegaConf.set_struct(node, False)
    return config


def _freeze(config: DictConfig, number: int, overrides: Sequence[str]) -> Cell:
    config.hydra.overrides.task = list(overrides)
    config.hydra.job.id = config.hydra.job.num = number
    folder = (Path(config.hydra.sweep.dir) / config.hydra.sweep.subdir).absolute()
    config.hydra.runtime.output_dir = str(folder)
    logs = {key: plain(config.hydra[key]) for key in ("job_logging", "verbose")}
    hydra = {**OmegaConf.to_container(config.hydra, resolve=False), **logs}  # type: ignore[dict-item]
    own = [key for key in config if key != "hydra" and key not in SWEEP_WIDE]
    # Interpolations may lead to what is left out, so that they are resolved in place.
    resolved = {str(key): plain(config[key]) for key in own}
    return Cell(folder, resolved, hydra, tuple(overrides))
