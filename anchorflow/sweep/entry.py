"""From a command line to runs: let Hydra compose the configuration, then start one run or a sweep."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from anchorflow.conf_files import CONFIG, conf_dir
from anchorflow.errors import UserError
from anchorflow.runs import SWEEP_WIDE, RunDirectory, Stopped, execute, stop_signals
from anchorflow.sweep import composition, hydra_internals
from anchorflow.sweep.pack import tracebacks

VERSION = "1.3"
"""The version of Hydra's defaults (`version_base`)."""


def prepare_hydra() -> None:
    """Register the project's resolvers and plugins, before Hydra composes anything."""
    composition.register_resolvers()
    hydra_internals.register()


def start(arguments: Sequence[str]) -> None:
    """Run a command line; a mistake ends the program with one sentence and exit code 1."""
    prepare_hydra()
    sys.argv[1:] = composition.as_hydra_reads(arguments)
    with composition.mistakes_told():
        hydra.main(version_base=VERSION, config_path=str(conf_dir()), config_name=CONFIG)(run_job)()


def run_job(config: DictConfig) -> None:
    """Run `config` in the directory that Hydra chose for it.

    A user's mistake ends the program with one or two sentences and exit code 1.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    logging.raiseExceptions = False  # no traceback for a log that cannot be written (a full disk)
    try:
        with stop_signals():
            own = [str(key) for key in config if key not in ("hydra", *SWEEP_WIDE)]
            execute(composition.plain(config), folder, recorded={key: composition.recorded(config, key) for key in own})
    except UserError as error:
        tracebacks.error("%s", error, exc_info=True)
        print(f"error: {error}", file=sys.stderr)
        _leave_nothing(folder)
        sys.exit(1)
    except Stopped as stop:
        print(f"stopped; {folder} keeps the finished records, run the same command again to resume", file=sys.stderr)
        sys.exit(128 + stop.signal)


def _leave_nothing(folder: Path) -> None:
    """Remove what a refused run added: its whole directory, or only its own files in an existing one."""
    if RunDirectory(folder).has_started():
        return
    own = (".hydra", "launch.log", ".identity", ".lock", ".revisions", "status.json")
    for path in (*(folder / name for name in own), *folder.glob(".lease.*")):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    composition.MakeFolder.undo()


def compose_node(
    group: str, option: str, overrides: Sequence[str] = (), config_dir: Path | None = None
) -> dict[str, Any]:
    """The node of a group's option as in a run, as JSON types. UserError if it cannot be composed.

    Options in `config_dir` override the project's own.
    """
    import yaml
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    if config_dir is not None and not config_dir.is_dir():
        raise UserError(
            f"--config-dir is {str(config_dir)!r}, which does not exist; allowed: a directory with options."
        )

    prepare_hydra()
    more = [] if config_dir is None else [f"hydra.searchpath=[file://{config_dir.absolute()}]"]
    try:
        with hydra.initialize_config_dir(str(conf_dir()), version_base=VERSION):
            config = hydra.compose(CONFIG, overrides=[f"{group}={option}", *more, *overrides])
            found: dict[str, Any] = composition.plain(OmegaConf.select(config, group.replace("/", ".")))
            return found
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise UserError(composition.sentence(error)) from error
