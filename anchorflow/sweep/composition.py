"""The resolvers that conf/ uses, and Hydra callbacks that report a mistake in one sentence."""

import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from omegaconf.resolvers import oc

from anchorflow.errors import UserError, did_you_mean, first_line, of_system, typed
from anchorflow.paths import expanded
from anchorflow.runs import SWEEP_WIDE, Stopped, read_settings
from anchorflow.settings import build, locate
from anchorflow.sweep.settings import Sweep

_recording: ContextVar[bool] = ContextVar("recording", default=False)
"""Whether a configuration is being resolved for a file."""


def register_resolvers() -> None:
    """Register the resolvers that conf/ uses in addition to OmegaConf's.

    `${run_name:}` is the directory of a run below outputs/. `${by:KEY, {VALUE: result, ..., else: result}}` is the
    result for the value of the configuration at KEY; a VALUE may be a pattern (llama2-*).
    """

    def name(*, _root_: DictConfig) -> str:
        own = [key for key in _root_ if key not in ("hydra", *SWEEP_WIDE)]
        return read_settings({str(key): plain(OmegaConf.select(_root_, str(key))) for key in own}).name

    def by(key: str, results: Mapping[str, Any], *, _root_: DictConfig) -> Any:
        value = OmegaConf.select(_root_, key)
        found = next((known for known in results if fnmatchcase(str(value), known)), "else")
        if found not in results:
            raise UserError(f"{key} is {value!r}; allowed: {', '.join(results)}.")
        return results[found]

    def env(*words: Any) -> Any:
        if _recording.get():
            return f"${{oc.env:{','.join('null' if word is None else str(word) for word in words)}}}"
        return oc.env(*words)

    OmegaConf.register_new_resolver("oc.env", env, replace=True)
    OmegaConf.register_new_resolver("run_name", name, replace=True)
    OmegaConf.register_new_resolver("by", by, replace=True)


def plain(config: Any) -> Any:
    """A node of a configuration as JSON types, with resolved interpolations."""
    return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config


def recorded(config: DictConfig, key: str) -> Any:
    """A node of a configuration as JSON types, with resolved interpolations except for environment variables.

    These may be secret, so files contain the name of the variable.
    """
    token = _recording.set(True)
    try:
        return plain(config[key])
    except (OmegaConfBaseException, UserError):  # without its value, a variable is not a valid number or choice
        return OmegaConf.to_container(config, resolve=False)[key]  # type: ignore[index, call-overload]
    finally:
        _recording.reset(token)


class MakeFolder(Callback):  # type: ignore[misc]
    """Creates the output directory before Hydra does, to report a failure in one sentence."""

    made: ClassVar[list[Path]] = []
    """The directories that did not exist before, the deepest first."""

    @staticmethod
    def undo() -> None:
        """Remove the directories that it made, where they are empty."""
        for path in MakeFolder.made:
            try:
                path.rmdir()
            except OSError:  # not empty, or gone
                return

    def on_run_start(self, config: DictConfig, **others: Any) -> None:
        """Before a single run."""
        self._make(config, "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **others: Any) -> None:
        """Before a sweep."""
        self._make(config, "hydra.sweep.dir")

    @staticmethod
    def _make(config: DictConfig, key: str) -> None:
        try:
            folder = OmegaConf.select(config, key)  # the name depends on the settings, so their mistakes surface here
        except OmegaConfBaseException as error:
            refuse(sentence(error))
        path = expanded(folder).absolute()
        MakeFolder.made[:] = [each for each in (path, *path.parents) if not each.exists()]
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            refuse(f"{key} is {folder!r}, which cannot be made ({error.strerror}); choose another.")
        with flag_override(config, ["readonly", "struct"], False):
            OmegaConf.update(config, key, str(expanded(folder)))


OWN_PLUGINS = {
    "hydra/launcher": "allowed: launcher=local, slurm or submitit_local",
    "hydra/sweeper": "sweeps are always a grid over all given values (seed=1,2,3); leave it out",
}
"""Hydra's groups whose options this project replaces with its own plugins, and the alternatives."""


class CheckSweep(Callback):  # type: ignore[misc]
    """Checks that a sweep has at most one preset, in one size, and one launcher."""

    def on_multirun_start(self, config: DictConfig, **others: Any) -> None:
        """Before a sweep. With several presets, Hydra would run their cells without any of their grids."""
        for override in OverridesParser.create().parse_overrides(list(config.hydra.overrides.task)):
            if (
                override.is_sweep_override()
                and str(override.key_or_group).replace("/", ".").split(".")[0] in SWEEP_WIDE
            ):
                instead = "sweep.presets=[fig3_saliency,fig4_isolation] runs several presets."
                refuse(
                    f"{override.input_line} names several; allowed: one at a time, because it applies to the whole sweep."
                    f"{' ' + instead if override.key_or_group == 'sweep' else ''}"
                )
        self._check(config)

    def on_run_start(self, config: DictConfig, **others: Any) -> None:
        """Before a single run, for which the settings of `sweep` have no effect."""
        sweep = self._check(config)
        if changed := [
            key
            for key in ("presets", "dry_run", "retry_failed", "code", "wait")
            if getattr(sweep, key) != getattr(Sweep(), key)
        ]:
            refuse(f"sweep.{changed[0]} applies to sweeps, but this is a single run; add -m.")

    @staticmethod
    def _check(config: DictConfig) -> Sweep:
        for group in OWN_PLUGINS:
            chosen = config.hydra.runtime.choices.get(group)
            target = str(OmegaConf.select(config, group.replace("/", "."))._target_)
            if chosen not in (None, "basic") or not target.startswith("hydra_plugins.anchorflow."):
                refuse(_other_plugin(group, target if chosen in (None, "basic") else chosen))
        try:
            sweep: Sweep = build(plain(config.sweep), "sweep", Sweep)
            build(plain(config.launcher), "launcher")
        except UserError as error:
            refuse(str(error))
        for key in ("scale", "context"):
            if (
                getattr(sweep, key) is not None
                and not sweep.presets
                and config.hydra.runtime.choices.get("sweep") is None
            ):
                refuse(
                    f"sweep.{key} is {getattr(sweep, key)!r}, but no preset is chosen (such as sweep=nh1_random_labels)."
                )
        return sweep


HOME = re.compile(r"(?<=[=,\[])~[^/,\]\s]*(?=/|$)")
"""A home directory at the start of a value: Hydra's grammar has no ~, and shells do not expand it after an = sign."""


def as_hydra_reads(arguments: Sequence[str]) -> list[str]:
    """The command line with -m first, because argparse needs contiguous settings, and with ~ expanded."""
    for argument in arguments:
        if argument.startswith("="):
            refuse(f"{argument!r} names no setting; allowed: NAME=VALUE, without a space before the =.")
    written = [HOME.sub(lambda home: str(expanded(home[0])), argument) for argument in arguments]
    return sorted(written, key=lambda argument: argument not in ("-m", "--multirun"))


@contextmanager
def mistakes_told() -> Iterator[None]:
    """Within the block, a configuration that Hydra cannot compose ends with one sentence (or, with HYDRA_FULL_ERROR set, a
    traceback).
    """
    if "HYDRA_FULL_ERROR" in os.environ:
        yield
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # otherwise Hydra prints its own message and exits
    try:
        yield
    except (KeyboardInterrupt, Stopped) as stop:
        print("stopped; finished records are kept, run the same command again to resume", file=sys.stderr)
        sys.exit(128 + (stop.signal if isinstance(stop, Stopped) else signal.SIGINT))
    except (HydraException, OmegaConfBaseException) as error:  # some are also ValueErrors or OSErrors
        MakeFolder.undo()
        refuse(sentence(error))
    except UserError as error:
        MakeFolder.undo()
        refuse(str(error))
    except ValueError as error:
        if not str(error).startswith("Config group override"):
            raise
        refuse("a group's option is the name of a file in conf/ (model=tiny), not null, a number, true or false.")
    except OSError as error:
        if (known := of_system(error)) is None:
            raise
        refuse(str(known))
    except yaml.YAMLError as error:
        refuse(sentence(error))


def sentence(error: Exception) -> str:
    """The problem of a configuration in one sentence."""
    if isinstance(error, yaml.YAMLError):
        return f"a configuration file is not YAML: {' '.join(str(error).split())}."
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        return _no_option(error.missing_cfg_file, error.options)
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    parent = getattr(cause, "parent_node", None)
    if isinstance(cause, (ConfigKeyError, ConfigAttributeError)) and isinstance(parent, DictConfig):
        if "_target_" in parent:
            try:
                locate(parent._target_, str(cause.full_key).rpartition(".")[0])
            except UserError as unknown:  # without its class, the settings of a node are unknown
                return str(unknown)
        allowed = sorted(str(key) for key in parent if key not in ("_target_", "hydra"))
        nearest = did_you_mean(str(cause.full_key).rpartition(".")[2], allowed)
        return f"there is no {cause.full_key}; allowed: {', '.join(allowed)}.{nearest}"
    first = re.sub(r"^\w+Error raised while resolving interpolation: ", "", first_line(error))
    if isinstance(error, OverrideParseException):
        key, _, value = str(error.override).partition("=")
        return (
            f"{error.override!r} cannot be read; a value with characters that Hydra cannot parse needs quotes: "
            f"{typed(key, _listed(value))}."
        )
    if first.startswith("Ambiguous value for argument"):
        return f"{first.split(maxsplit=4)[-1]} names several values; add -m to run each of them."
    if first.startswith("Multiple values for"):
        group, name = first.removeprefix("Multiple values for ").split(".")[0], first.split()[-1].rstrip("'")
        return f"{group} is chosen twice; write {group}={name}, without a plus."
    return first


def _other_plugin(group: str, chosen: str) -> str:
    return f"{group} is {chosen!r}, which cannot run these sweeps; {OWN_PLUGINS[group]}."


def _no_option(file: str, options: Sequence[str]) -> str:
    """The message for an option that a group lacks, with alternatives; `file` is GROUP/OPTION."""
    group, _, name = file.partition("/") if not file.startswith("hydra/") else file.rpartition("/")
    if group in OWN_PLUGINS:
        return _other_plugin(group, name)
    place = expanded(name)
    if group == "model" and ("/" in name or place.exists() or place.suffix == ".gguf"):
        instead = f" For a model on the hub or on disk write model=local {typed('model.path', name)}."
    elif group == "dataset" and (
        place.exists() or place.suffix in (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".gz")
    ):
        instead = f" For your own files write dataset=local {typed('dataset.path', name)}."
    elif group == "dataset" and "/" in name and not name.startswith("sentence_answer/"):
        instead = f" For a dataset on the hub write dataset=hub {typed('dataset.id', name)}."
    else:
        instead = did_you_mean(name, options)
    return f"{group} is {name!r}; allowed: {', '.join(options)}.{instead}"


def _listed(value: str) -> str | list[str]:
    """The items of a list that was typed without the quotes that they need."""
    if not (value.startswith("[") and value.endswith("]")):
        return value
    return [item.strip().strip("\"'") for item in value[1:-1].split(",")]


def refuse(message: str) -> NoReturn:
    """End the program with one line."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)  # Hydra turns exceptions of callbacks into warnings
