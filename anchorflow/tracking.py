"""Weights & Biases: one run per job, made for comparing. Nothing else in the project knows it.

A tracker's trouble is one line in the log; it never costs a result.
"""

import logging
import netrc
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from anchorflow.results import Curve, Result

log = logging.getLogger(__name__)

INIT_TIMEOUT_S = 30


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """`auto` is online where credentials are found, else offline (upload later with `wandb sync`)."""

    mode: Literal["auto", "online", "offline", "none"] = "auto"
    project: str = "anchorflow"
    entity: str | None = None
    group: str | None = None
    tags: tuple[str, ...] = ()

    @contextmanager
    def run(
        self, folder: Path, identity: str, config: Mapping[str, Any], names: Mapping[str, str]
    ) -> Iterator["Tracker"]:
        """A tracker for a block; an exception in the block makes it a failed run.

        `names` holds experiment, model, dataset and seed. A run of the same identity is continued, not doubled.
        """
        tracker = Tracker(self._start(folder, identity, config, names), names["experiment"])
        try:
            yield tracker
        except BaseException:
            tracker.finish(exit_code=1)
            raise
        tracker.finish(exit_code=0)

    def _start(self, folder: Path, identity: str, config: Mapping[str, Any], names: Mapping[str, str]) -> Any:
        if self.mode == "none":
            return None
        mode = self._mode()
        if mode == "disabled":
            return None
        cells = [names["experiment"], names["model"], names["dataset"]]

        def start(mode: str) -> Any:
            import wandb

            return wandb.init(
                project=self.project,
                entity=self.entity,
                id=identity,
                resume="allow",
                name=" ".join([*cells, f"seed{names['seed']}"]),
                group=self.group or " ".join(cells),  # so that a group is the seeds of one cell
                job_type=names["experiment"],
                tags=[*cells, *self.tags],
                config=dict(config),
                dir=str(folder),
                mode=mode,  # type: ignore[arg-type]
                settings=wandb.Settings(silent=True, console="off", init_timeout=INIT_TIMEOUT_S),
            )

        run = _guarded(f"starting {mode}", start, mode)
        if run is None and mode == "online":
            log.warning(
                "tracker: recording offline instead; upload later with: wandb sync %s/wandb/offline-run-*", folder
            )
            run = _guarded("starting offline", start, "offline")
        return run

    def _mode(self) -> str:
        if self.mode != "auto":
            return self.mode
        if os.environ.get("WANDB_MODE") in ("online", "offline", "disabled"):
            return os.environ["WANDB_MODE"]
        return "online" if _has_credentials() else "offline"


class Tracker:
    """Hands a Result to a W&B run, or to nobody when there is none."""

    def __init__(self, run: Any, experiment: str) -> None:
        self._run = run
        self._experiment = experiment

    def log(self, result: Result, figures: Sequence[Path]) -> None:
        """Metrics into the summary; each curve as scalars against its own axis, so that runs overlay; figures as images."""
        if self._run is not None:
            _guarded("logging", self._log, result, figures)

    def finish(self, exit_code: int) -> None:
        """End the run: 0 is finished, 1 is failed."""
        run, self._run = self._run, None
        if run is not None:
            _guarded("finishing", lambda: run.finish(exit_code=exit_code))

    def _log(self, result: Result, figures: Sequence[Path]) -> None:
        import wandb

        run = self._run
        axes: dict[str, dict[str, Curve]] = {}
        for name, curve in result.curves.items():
            axes.setdefault(curve.x, {})[f"{self._experiment}/{name}"] = curve
        for axis, curves in axes.items():
            run.define_metric(axis, summary="none")
            for name in curves:
                run.define_metric(name, step_metric=axis, summary="none")
            for at in sorted({at for curve in curves.values() for at in curve.at}):
                row = {name: dict(zip(curve.at, curve.values, strict=True)).get(at) for name, curve in curves.items()}
                run.log({axis: at, **{name: float(value) for name, value in row.items() if value is not None}})
        if figures:
            run.log({f"figures/{path.stem}": wandb.Image(str(path)) for path in figures})
        run.summary.update({f"{self._experiment}/{name}": value for name, value in result.metrics.items()})
        run.summary.update({f"{self._experiment}/{name}_stderr": value for name, value in result.stderr.items()})


def _guarded(what: str, act: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return act(*arguments)
    except Exception as error:  # whatever a tracker does, the result matters more
        reason = (str(error).splitlines() or [""])[0]
        log.warning("tracker: %s failed (%s: %s); the run goes on", what, type(error).__name__, reason)
        log.debug("the tracker's traceback", exc_info=True)
        return None


def _has_credentials() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].split("/")[0]
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
