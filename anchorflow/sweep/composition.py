"""What conf/ may use beside plain YAML: two resolvers, and Hydra's callbacks that refuse a mistake in one sentence."""

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
"""Whether a configuration is resolved to be written down."""


def register_resolvers() -> None:
    """What conf/ may interpolate, beside what OmegaConf knows.

    `${run_name:}` is the directory of a run below outputs/. `${by:KEY, {VALUE: result, ..., else: result}}` is the
    result for the value that the configuration has at KEY; a VALUE may be a pattern (llama2-*).
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
    """A configuration's node as JSON's types, interpolations resolved."""
    return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config


def recorded(config: DictConfig, key: str) -> Any:
    """A node of a configuration as JSON's types, interpolations resolved but for those of environment variables, which may be
    secrets: what is written down names the variable.
    """
    token = _recording.set(True)
    try:
        return plain(config[key])
    except (OmegaConfBaseException, UserError):  # what is made of a variable is no number, or no choice
        return OmegaConf.to_container(config, resolve=False)[key]  # type: ignore[index, call-overload]
    finally:
        _recording.reset(token)


class MakeFolder(Callback):  # type: ignore[misc]
    """Makes the directory before Hydra does, to say in one sentence where that cannot be."""

    made: ClassVar[list[Path]] = []
    """The directories that were not there, the lowest first."""

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
            folder = OmegaConf.select(config, key)  # with a name made of the settings, where a mistake comes to light
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
    "hydra/sweeper": "its place is taken by a grid over all values given (seed=1,2,3); leave it out",
}
"""Hydra's groups whose options the project's own plugins take the place of, and what there is instead."""


class CheckSweep(Callback):  # type: ignore[misc]
    """A sweep has one preset in one size, or none, and one launcher; anything else is refused."""

    def on_multirun_start(self, config: DictConfig, **others: Any) -> None:
        """Before a sweep. Hydra would run the cells of several presets without the grid of any."""
        for override in OverridesParser.create().parse_overrides(list(config.hydra.overrides.task)):
            if (
                override.is_sweep_override()
                and str(override.key_or_group).replace("/", ".").split(".")[0] in SWEEP_WIDE
            ):
                several = (
                    " Several presets are sweep.presets=[fig3_saliency,fig4_isolation]."
                    if override.key_or_group == "sweep"
                    else ""
                )
                refuse(
                    f"{override.input_line} names several; allowed: one at a time, since it is about the whole sweep.{several}"
                )
        self._check(config)

    def on_run_start(self, config: DictConfig, **others: Any) -> None:
        """Before a single run, of which nothing is planned, waited for or run again."""
        sweep = self._check(config)
        if changed := [
            key
            for key in ("presets", "dry_run", "retry_failed", "code", "wait")
            if getattr(sweep, key) != getattr(Sweep(), key)
        ]:
            refuse(f"sweep.{changed[0]} is about a sweep, and this is a single run; add -m.")

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
                    f"sweep.{key} is {getattr(sweep, key)!r}, but no preset is chosen (sweep=nh1_random_labels, for one)."
                )
        return sweep


HOME = re.compile(r"(?<=[=,\[])~[^/,\]\s]*(?=/|$)")
"""A home directory at the beginning of a value: Hydra's grammar has no ~, and no shell replaces one behind an = sign."""


def as_hydra_reads(arguments: Sequence[str]) -> list[str]:
    """The command line with -m in front, since argparse takes the settings in one stretch only, and ~ replaced."""
    written = [HOME.sub(lambda home: str(expanded(home[0])), argument) for argument in arguments]
    return sorted(written, key=lambda argument: argument not in ("-m", "--multirun"))


@contextmanager
def mistakes_told() -> Iterator[None]:
    """Within the block a configuration that Hydra cannot compose ends in one sentence, not in a page (or in a traceback
    where HYDRA_FULL_ERROR asks for one).
    """
    if "HYDRA_FULL_ERROR" in os.environ:
        yield
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # otherwise Hydra prints what it thinks of it, and exits
    try:
        yield
    except (KeyboardInterrupt, Stopped) as stop:
        print("stopped; finished records are kept, the same command resumes from them", file=sys.stderr)
        sys.exit(128 + (stop.signal if isinstance(stop, Stopped) else signal.SIGINT))
    except (HydraException, OmegaConfBaseException) as error:  # some are ValueErrors or OSErrors, too
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
    """What is wrong with a configuration, said in one sentence."""
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
            except UserError as unknown:  # without its class, a node's settings are not known
                return str(unknown)
        allowed = sorted(str(key) for key in parent if key not in ("_target_", "hydra"))
        nearest = did_you_mean(str(cause.full_key).rpartition(".")[2], allowed)
        return f"there is no {cause.full_key}; allowed: {', '.join(allowed)}.{nearest}"
    first = re.sub(r"^\w+Error raised while resolving interpolation: ", "", first_line(error))
    if isinstance(error, OverrideParseException):
        key, _, value = str(error.override).partition("=")
        return (
            f"{error.override!r} cannot be read; a value with signs that Hydra does not know takes quotes: "
            f"{typed(key, _listed(value))}."
        )
    if first.startswith("Ambiguous value for argument"):
        return f"{first.split(maxsplit=4)[-1]} names several values; for a run of each add -m."
    if first.startswith("Multiple values for"):
        group, name = first.removeprefix("Multiple values for ").split(".")[0], first.split()[-1].rstrip("'")
        return f"{group} is chosen twice; write {group}={name}, without a plus."
    return first


def _other_plugin(group: str, chosen: str) -> str:
    return f"{group} is {chosen!r}, which cannot run these sweeps; {OWN_PLUGINS[group]}."


def _no_option(file: str, options: Sequence[str]) -> str:
    """What to write where a group has no such option; `file` is GROUP/OPTION."""
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
        instead = f" For a dataset of the hub write dataset=hub {typed('dataset.id', name)}."
    else:
        instead = did_you_mean(name, options)
    return f"{group} is {name!r}; allowed: {', '.join(options)}.{instead}"


def _listed(value: str) -> str | list[str]:
    """The items of what was typed as a list without the quotes that they need."""
    if not (value.startswith("[") and value.endswith("]")):
        return value
    return [item.strip().strip("\"'") for item in value[1:-1].split(",")]


def refuse(message: str) -> NoReturn:
    """End the program with one line."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)  # Hydra turns exceptions of callbacks into warnings
