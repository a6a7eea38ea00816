"""What conf/ may use beside plain YAML: two resolvers, and Hydra's callbacks that refuse a mistake in one sentence."""

import sys
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from anchorflow.configuration import NAMED, SWEEP_WIDE, Sweep, build, run_name
from anchorflow.errors import UserError


def register_resolvers() -> None:
    """What conf/ may interpolate.

    `${run_name:}` is the directory of a run below outputs/. `${by:KEY, {VALUE: result, ..., else: result}}` is the
    result for the value that the configuration has at KEY; a VALUE may be a pattern (llama2-*).
    """

    def name(*, _root_: DictConfig) -> str:
        return run_name({key: plain(OmegaConf.select(_root_, key)) for key in NAMED})

    def by(key: str, results: Mapping[str, Any], *, _root_: DictConfig) -> Any:
        value = OmegaConf.select(_root_, key)
        found = next((known for known in results if fnmatchcase(str(value), known)), "else")
        if found not in results:
            raise UserError(f"{key} is {value!r}; allowed: {', '.join(results)}.")
        return results[found]

    OmegaConf.register_new_resolver("run_name", name, replace=True)
    OmegaConf.register_new_resolver("by", by, replace=True)


def plain(config: Any) -> Any:
    """A configuration's node as JSON's types, interpolations resolved."""
    return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config


class MakeFolder(Callback):  # type: ignore[misc]
    """Makes the directory before Hydra does, to say in one sentence where that cannot be."""

    def on_run_start(self, config: DictConfig, **others: Any) -> None:
        """Before a single run."""
        self._make(config.hydra.run.dir, "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **others: Any) -> None:
        """Before a sweep."""
        self._make(config.hydra.sweep.dir, "hydra.sweep.dir")

    @staticmethod
    def _make(folder: str, key: str) -> None:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            refuse(f"{key} is {folder!r}, which cannot be made ({error.strerror}); choose another.")


class CheckSweep(Callback):  # type: ignore[misc]
    """A sweep has one preset in one size, or none, and one launcher; anything else is refused."""

    def on_multirun_start(self, config: DictConfig, **others: Any) -> None:
        """Before a sweep. Hydra would run the cells of several presets without the grid of any."""
        for override in OverridesParser.create().parse_overrides(list(config.hydra.overrides.task)):
            if (
                override.is_sweep_override()
                and str(override.key_or_group).replace("/", ".").split(".")[0] in SWEEP_WIDE
            ):
                refuse(
                    f"{override.input_line} names several; allowed: one at a time, since it is about the whole sweep."
                )
        self.on_run_start(config)

    def on_run_start(self, config: DictConfig, **others: Any) -> None:
        """Before a run or a sweep."""
        try:
            sweep = build(plain(config.sweep), "sweep", Sweep)
            build(plain(config.launcher), "launcher")
        except UserError as error:
            refuse(str(error))
        if sweep.scale is not None and config.hydra.runtime.choices.get("sweep") is None:
            refuse(f"sweep.scale is {sweep.scale!r}, but no preset is chosen (sweep=fig3_saliency, for one).")


def refuse(message: str) -> NoReturn:
    """End the program with one line."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)  # Hydra turns exceptions of callbacks into warnings
