"""All that depends on Hydra's internals: plugins, the defaults that a YAML leaves out, fast composition of a grid.

Written for Hydra 1.3 (checked with 1.3.8; `pyproject.toml` admits no other than 1.3). What to look at for another version:
`ConfigFiles` replaces a class in `SourcesRegistry`, which has no method for that; `register` makes the namespace
`hydra_plugins`, the only one that Hydra takes plugins from; `compose` sets Hydra's own node of a configuration, and the
singleton that answers `${hydra:...}`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from anchorflow.errors import UserError
from anchorflow.runs import GROUPS, SWEEP_WIDE
from anchorflow.settings import FROM_ENVIRONMENT, defaults_of, locate, require
from anchorflow.sweep.cells import Cell
from anchorflow.sweep.composition import plain, recorded, sentence


class ConfigFiles(FileConfigSource):  # type: ignore[misc]
    """YAML files whose nodes are completed: a node with a `_target_` has every setting of its class."""

    def load_config(self, config_path: str) -> ConfigResult:
        """The file as Hydra reads it, completed."""
        found = super().load_config(config_path)
        written = OmegaConf.to_container(found.config, resolve=False)
        completed = _completed(written)
        if completed != written:
            found.config = OmegaConf.create(completed)
        return found


def _completed(node: Any) -> Any:
    """A node with the defaults of its class for what it leaves out; so for the nodes below it, but not Hydra's own."""
    if not isinstance(node, dict):
        return node
    given = {key: value if key == "hydra" else _completed(value) for key, value in node.items()}
    if "_target_" not in given:
        return given
    try:
        cls = locate(given["_target_"], "")
    except UserError:  # said when the node is built
        return given
    defaults = defaults_of(cls)
    known = [each.name for each in fields(cls) if each.name in (defaults.keys() | given.keys())]
    return {"_target_": given["_target_"], **{name: defaults.get(name) for name in known}, **given}


def register() -> None:
    """Make the project's plugins known to Hydra. More often than once does no harm."""
    from anchorflow.sweep.plugin import SweepLauncher

    plugins = Plugins.instance()
    SourcesRegistry.instance().types["file"] = ConfigFiles
    # Hydra loads its own plugins once more when it looks for them, so that their classes are the right ones only now.
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    class GridSweeper(BasicSweeper):  # type: ignore[misc]
        """Hydra's sweeper without its rehearsal, which composes every cell once more: the launcher composes all first."""

        def validate_batch_is_legal(self, batch: Any) -> None:
            """Hydra's hook."""

    try:
        namespace = importlib.import_module("hydra_plugins")
    except ImportError:
        namespace = sys.modules["hydra_plugins"] = ModuleType("hydra_plugins")
        namespace.__path__ = []
    ours = ModuleType("hydra_plugins.anchorflow")
    namespace.anchorflow = sys.modules[ours.__name__] = ours  # type: ignore[attr-defined]
    for plugin in (GridSweeper, SweepLauncher):
        plugin.__module__, plugin.__qualname__ = ours.__name__, plugin.__name__
        setattr(ours, plugin.__name__, plugin)
        plugins.register(plugin)


def compose(loader: ConfigLoader, master: DictConfig, grid: Sequence[Sequence[str]]) -> Iterator[Cell]:
    """The cells for these overrides, in their order.

    Composition takes Hydra some 50 ms, so that cells which choose the same files share it: they differ in values, which
    are set as Hydra would, after the composition.
    """
    parser = OverridesParser.create()
    shared = _shared(master)
    composed: dict[tuple[str, ...], DictConfig] = {}
    fixed: set[tuple[str, ...]] = set()
    for number, overrides in enumerate(grid):
        parsed = parser.parse_overrides(list(overrides))
        given = [override for override in parsed if _is_value(override, master)]
        choices = tuple(str(override.input_line) for override in parsed if override not in given)
        if choices not in composed:
            composed[choices] = _opened(loader.load_sweep_config(master, list(choices)))
        config = composed[choices]
        try:
            before = {key: _raw(config, key) for key in (str(override.key_or_group) for override in given)}
        except LookupError:  # an item of a list, which Hydra composes, or a key that is not there, of which it tells
            config, given, before = _opened(loader.load_sweep_config(master, list(overrides))), [], {}
        HydraConfig.instance().cfg = config  # who answers ${hydra:...}
        for override in given:
            OmegaConf.update(config, str(override.key_or_group), override.value())
        if choices not in fixed or not given or _of_sweep(given):
            _refuse_varying(config, shared, overrides)
            if not any("${" in OmegaConf.to_yaml(config[key]) for key in SWEEP_WIDE):
                fixed.add(choices)
        yield _freeze(config, number, overrides)
        for key, value in before.items():
            OmegaConf.update(config, key, value, merge=False)


def _shared(config: DictConfig) -> dict[str, Any]:
    """What is the same for all cells of a sweep, by its key."""
    sweep, launcher = plain(config.sweep), plain(config.launcher)
    own = {f"sweep.{key}": sweep.get(key) for key in ("dry_run", "retry_failed", "code", "wait")}
    return own | {f"launcher.{key}": value for key, value in launcher.items()}


def _of_sweep(overrides: Sequence[Override]) -> bool:
    return any(str(override.key_or_group).partition(".")[0] in SWEEP_WIDE for override in overrides)


def _refuse_varying(config: DictConfig, shared: dict[str, Any], overrides: Sequence[str]) -> None:
    """UserError for a cell that asks for something else."""
    for key, value in _shared(config).items():
        if value != shared.get(key):
            raise UserError(
                f"{key} is {value!r} for {' '.join(overrides)}, and {shared.get(key)!r} for the sweep: it cannot differ "
                "between cells. What jobs of a model are given is launcher.per_model."
            )


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
    own = [key for key in config if key != "hydra" and key not in SWEEP_WIDE]
    # Interpolations may lead to what is left out, so that they are resolved in place.
    resolved = {str(key): plain(config[key]) for key in own}
    require(resolved, GROUPS)
    sweep_dir, problem = Path(config.hydra.sweep.dir).absolute(), None
    try:
        folder = sweep_dir / config.hydra.sweep.subdir  # a name made of the settings, where a mistake comes to light
    except OmegaConfBaseException as error:
        folder, problem = sweep_dir / f"refused-{number}", sentence(error)
    config.hydra.runtime.output_dir = str(folder)
    logs = {key: plain(config.hydra[key]) for key in ("job_logging", "verbose")}
    hydra = {**OmegaConf.to_container(config.hydra, resolve=False), **logs}  # type: ignore[dict-item]
    secret = any(FROM_ENVIRONMENT in text for text in (*overrides, OmegaConf.to_yaml(config)))
    written = recorded(config, map(str, own)) if secret else None
    return Cell(folder, resolved, hydra, tuple(overrides), problem=problem, recorded=written)
