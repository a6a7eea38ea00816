"""Everything that depends on Hydra's internals: plugins, defaults that a YAML file omits, fast composition of a grid.

Written for Hydra 1.3 (checked with 1.3.8; `pyproject.toml` admits only 1.3). Check these for another version: `ConfigFiles`
replaces a class in `SourcesRegistry`, which has no method for that; `register` creates the namespace `hydra_plugins`, the only
one in which Hydra looks for plugins, and makes OmegaConf cache its parser; `compose` sets Hydra's own node of a configuration,
and the singleton that resolves `${hydra:...}`.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import omegaconf.base
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
from anchorflow.paths import expanded
from anchorflow.runs import GROUPS, SWEEP_WIDE, read_settings
from anchorflow.settings import FROM_ENVIRONMENT, defaults_of, locate, require
from anchorflow.sweep.cells import Cell
from anchorflow.sweep.composition import plain, recorded, sentence


class ConfigFiles(FileConfigSource):  # type: ignore[misc]
    """A source of YAML files whose nodes are completed: a node with a `_target_` gets every setting of its class."""

    def load_config(self, config_path: str) -> ConfigResult:
        """Load a file as Hydra does, and complete its nodes."""
        found = super().load_config(config_path)
        written = OmegaConf.to_container(found.config, resolve=False)
        completed = _completed(written)
        if completed != written:
            found.config = OmegaConf.create(completed)
        return found


def _completed(node: Any) -> Any:
    """A node with the defaults of its class for omitted settings, also in nodes below it, except Hydra's own."""
    if not isinstance(node, dict):
        return node
    given = {key: value if key == "hydra" else _completed(value) for key, value in node.items()}
    if "_target_" not in given:
        return given
    try:
        cls = locate(given["_target_"], "")
    except UserError:  # reported when the node is built
        return given
    defaults = defaults_of(cls)
    known = [each.name for each in fields(cls) if each.name in (defaults.keys() | given.keys())]
    return {"_target_": given["_target_"], **{name: defaults.get(name) for name in known}, **given}


def register() -> None:
    """Register the project's plugins with Hydra; may be called repeatedly."""
    from anchorflow.sweep.plugin import SweepLauncher

    plugins = Plugins.instance()
    base: Any = omegaconf.base
    if not hasattr(base.parse, "cache_info"):  # the cells of a grid share their interpolations
        base.parse = lru_cache(base.parse)
    SourcesRegistry.instance().types["file"] = ConfigFiles
    # Hydra reloads its own plugins when it looks for them, so their classes are final only now.
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    class GridSweeper(BasicSweeper):  # type: ignore[misc]
        """Hydra's sweeper with the grids of several presets, and without its check that composes every cell a second time:
        the launcher composes them all before any runs.
        """

        def validate_batch_is_legal(self, batch: Any) -> None:
            """Hydra's hook."""

        def split_arguments(self, overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:
            """Hydra's hook: the cells of the grid. `sweep.presets` has those of each preset, one preset after the other."""
            if not (presets := self.config.sweep.presets):
                return BasicSweeper.split_arguments(overrides, max_batch_size)
            loader = self.hydra_context.config_loader
            cells = [cell for preset in presets for cell in _grid(loader, self.config, preset, overrides)]
            return [cells]

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


def _grid(loader: ConfigLoader, master: DictConfig, preset: str, given: Sequence[Override]) -> list[list[str]]:
    """The cells of one of the `sweep.presets`, with what is `given` on the command line. UserError for a list of presets."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    lines = [f"sweep.{key}={master.sweep[key]}" for key in ("scale", "context") if master.sweep[key] is not None]
    lines += [str(each.input_line) for each in given if each.get_key_element() not in ("sweep", "sweep.presets")]
    lines.append(f"sweep={preset}")
    parser = OverridesParser.create(config_loader=loader)
    fixed = [each.input_line for each in parser.parse_overrides(lines) if not each.is_sweep_override()]
    config = loader.load_sweep_config(master, fixed)
    if config.sweep.presets:
        raise UserError(f"sweep.presets has {preset!r}, which is a list of presets; name those.")
    grid = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    (cells,) = BasicSweeper.split_arguments(parser.parse_overrides([*grid, *lines]), None)
    return cells


def compose(loader: ConfigLoader, master: DictConfig, grid: Sequence[Sequence[str]]) -> Iterator[Cell]:
    """The cells for these overrides, in their order.

    Hydra needs about 50 ms for a composition, so cells that choose the same files share one: the values in which they differ
    are set afterwards, as Hydra would. Nodes that no override changes are resolved once.
    """
    parser = OverridesParser.create()
    shared = _shared(master)
    parsed: dict[str, Override] = {}
    composed: dict[tuple[str, ...], _Composition] = {}
    checked: set[tuple[str, ...]] = set()
    for number, overrides in enumerate(grid):
        for line in overrides:
            if line not in parsed:
                (parsed[line],) = parser.parse_overrides([line])
        of_cell = [parsed[line] for line in overrides]
        given = [override for override in of_cell if _is_value(override, master)]
        choices = tuple(str(override.input_line) for override in of_cell if override not in given)
        if choices not in composed:
            composed[choices] = _Composition(loader.load_sweep_config(master, list(choices)))
        one = composed[choices]
        try:
            before = {key: one.raw(key) for key in (str(override.key_or_group) for override in given)}
        except LookupError:  # an item of a list, which Hydra composes, or a missing key, which it reports
            one, given, before = _Composition(loader.load_sweep_config(master, list(overrides))), [], {}
        HydraConfig.instance().cfg = one.config  # resolves ${hydra:...}
        for override in given:
            OmegaConf.update(one.config, str(override.key_or_group), override.value())
        sweep_wide = (*choices, *(str(override.input_line) for override in given if _is_of_sweep(override)))
        if one.varies or sweep_wide not in checked or not given:
            _refuse_varying(one.config, shared, overrides)
            checked.add(sweep_wide)
        yield one.freeze(number, overrides, given)
        for key, value in before.items():
            OmegaConf.update(one.config, key, value, merge=False)


FOLDER = "${hydra.runtime.output_dir}"


class _Composition:
    """A configuration that cells share, and its parts that are the same for all of them."""

    def __init__(self, config: DictConfig) -> None:
        for node in (config.hydra.runtime, config.hydra.overrides, config.hydra.job):  # filled in by each cell
            OmegaConf.set_readonly(node, False)
            OmegaConf.set_struct(node, False)
        self.config = config
        self.own = [str(key) for key in config if key != "hydra" and key not in SWEEP_WIDE]
        raw: Any = OmegaConf.to_container(config, resolve=False)
        self._hydra = raw.pop("hydra")
        self._sweep_dir = config.hydra.sweep.dir
        self._raw: dict[str, Any] = {}
        self._resolved: dict[str, Any] = {}
        self._recorded: dict[str, Any] = {}
        self._looks_at = _references({key: repr(node) for key, node in raw.items()}, self.own)
        self._secret = FROM_ENVIRONMENT in repr(raw)
        logs = json.dumps([self._hydra[key] for key in ("job_logging", "verbose")])
        logs = logs.replace("${hydra.job.name}", str(config.hydra.job.name))
        self._logs = None if "${" in logs.replace(FOLDER, "") else logs
        """The settings of a cell's log, without its folder; None if they depend on more."""
        self._hydra_counts = self._logs is None or None in self._looks_at.values()
        self.varies = any("${" in repr(raw[key]) for key in SWEEP_WIDE)

    def raw(self, key: str) -> Any:
        """The value at a key as written, with interpolations unresolved. LookupError for a key that is not in a mapping."""
        if key not in self._raw:
            above, _, last = key.rpartition(".")
            node = OmegaConf.select(self.config, above) if above else self.config
            if not isinstance(node, DictConfig):
                raise LookupError(key)
            found: Any = OmegaConf.to_container(node, resolve=False)
            self._raw[key] = found[last]
        return self._raw[key]

    def freeze(self, number: int, overrides: Sequence[str], given: Sequence[Override]) -> Cell:
        """Freeze the current configuration as a cell, with these values `given`."""
        config = self.config
        interpolated = any("${" in override for override in overrides)
        if told := self._hydra_counts or interpolated:
            config.hydra.overrides.task = list(overrides)
            config.hydra.job.id = config.hydra.job.num = number
        changed = {str(override.key_or_group).partition(".")[0] for override in given}
        if interpolated:
            changed = set(self.own)
        changed |= {key for key, others in self._looks_at.items() if others is None or others & changed}
        # Interpolations may refer to omitted parts, so they are resolved in place.
        resolved = {key: self._resolve(key, changed) for key in self.own}
        require(resolved, GROUPS)
        sweep_dir, problem = expanded(self._sweep_dir).absolute(), None
        try:
            folder = sweep_dir / self._subdir(
                resolved
            )  # the name depends on the settings, so their mistakes surface here
        except (OmegaConfBaseException, UserError) as error:
            folder, problem = sweep_dir / f"refused-{number}", sentence(error)
        if told:
            config.hydra.runtime.output_dir = str(folder)
        logging, verbose = self._logs_to(folder)
        hydra = {
            **self._hydra,
            "job_logging": logging,
            "verbose": verbose,
            "overrides": {**self._hydra["overrides"], "task": list(overrides)},
            "job": {**self._hydra["job"], "id": number, "num": number},
            "runtime": {**self._hydra["runtime"], "output_dir": str(folder)},
        }
        written = None
        if self._secret or any(FROM_ENVIRONMENT in override for override in overrides):
            written = {key: self._record(key, changed) for key in self.own}
        return Cell(folder, resolved, hydra, tuple(overrides), problem=problem, recorded=written)

    def _logs_to(self, folder: Path) -> Any:
        if self._logs is None:
            return [plain(self.config.hydra[key]) for key in ("job_logging", "verbose")]
        return json.loads(self._logs.replace(FOLDER, json.dumps(str(folder))[1:-1]))

    def _resolve(self, key: str, changed: set[str]) -> Any:
        if key in changed:
            return plain(self.config[key])
        if key not in self._resolved:
            self._resolved[key] = plain(self.config[key])
        return self._resolved[key]

    def _record(self, key: str, changed: set[str]) -> Any:
        if key in changed:
            return recorded(self.config, key)
        if key not in self._recorded:
            self._recorded[key] = recorded(self.config, key)
        return self._recorded[key]

    def _subdir(self, resolved: dict[str, Any]) -> str:
        if self._hydra["sweep"]["subdir"] == "${run_name:}":  # saves resolving the configuration again
            return read_settings(resolved).name
        return str(self.config.hydra.sweep.subdir)


REFERENCE = re.compile(r"\$\{\s*(?:(oc\.env):|(?:by:\s*)?(\w+)(?=[.}\[,]))?")
"""The beginning of an interpolation: an environment variable, or the top-level key that it refers to, if that is plain."""


def _references(written: Mapping[str, str], own: Sequence[str]) -> dict[str, set[str] | None]:
    """For each of a run's own nodes, the nodes that its interpolations refer to, also indirectly; None: any."""
    found: dict[str, set[str] | None] = {}
    for key in own:
        seen: set[str] = set()
        waiting, known = [key], True
        while waiting and known:
            for environment, other in REFERENCE.findall(written.get(waiting.pop(), "${")):
                known = known and bool(environment or other)
                if other and other not in seen:
                    seen.add(other)
                    waiting.append(other)
        found[key] = seen if known else None
    return found


def _shared(config: DictConfig) -> dict[str, Any]:
    """The parts that are the same for all cells of a sweep, by key."""
    sweep, launcher = plain(config.sweep), plain(config.launcher)
    own = {f"sweep.{key}": sweep.get(key) for key in ("dry_run", "retry_failed", "code", "wait")}
    return own | {f"launcher.{key}": value for key, value in launcher.items()}


def _is_of_sweep(override: Override) -> bool:
    return str(override.key_or_group).partition(".")[0] in SWEEP_WIDE


def _refuse_varying(config: DictConfig, shared: dict[str, Any], overrides: Sequence[str]) -> None:
    """Raise UserError for a cell whose shared parts differ."""
    for key, value in _shared(config).items():
        if value != shared.get(key):
            raise UserError(
                f"{key} is {value!r} for {' '.join(overrides)}, and {shared.get(key)!r} for the sweep: it cannot differ "
                "between cells. To set the resources of a model's jobs, use launcher.per_model."
            )


def _is_value(override: Override, master: DictConfig) -> bool:
    """Whether an override changes a plain value: it chooses no file, adds or removes nothing, and is not Hydra's own."""
    key = str(override.key_or_group)
    if override.type != OverrideType.CHANGE or override.package is not None or key.startswith("hydra.") or "/" in key:
        return False
    return "." in key or not isinstance(OmegaConf.select(master, key), (DictConfig, type(None)))
