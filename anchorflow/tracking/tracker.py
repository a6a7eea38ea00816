"""A W&B run around a job: starts before the job, logs its result, and ends with it."""

import logging
import netrc
import os
import subprocess
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from anchorflow.errors import UserError
from anchorflow.settings import configurable, setting
from anchorflow.tracking.base import Content, Progress
from anchorflow.tracking.content import MARK, flat, mark, write
from anchorflow.tracking.fragments import fragments
from anchorflow.tracking.names import LONGEST_NAME, LONGEST_TAG, Names, objection

log = logging.getLogger(__name__)

INIT_TIMEOUT_S = 20
FINISH_TIMEOUT_S = 120
WRITE_TIMEOUT_S = 5.0
LONGEST_REASON = 250
LONGEST_DIFF = 1_000_000
PROGRESS_INTERVAL_S = 5.0
CODE = Path(__file__).parents[2]
"""The root of this code; in a checkout, W&B records its commit."""
CLOUD, OLD_CLOUD = "api.forge.coreweave.com", "api.wandb.ai"
"""W&B's own server, and its name in older .netrc files, which remain valid."""
End = Literal["finished", "failed", "preempted"]


@configurable
class Tracking:
    """Track runs in W&B. `auto` is online if credentials are found, else offline (upload later with `anchorflow sync`)."""

    mode: Literal["auto", "online", "offline", "none"] = setting(default="auto", kind="shown")
    """Where runs are recorded; auto is online with credentials, else offline."""
    project: str | None = setting(default=None, kind="shown")
    """The W&B project; null means WANDB_PROJECT, or anchorflow."""
    entity: str | None = setting(default=None, kind="shown")
    """The W&B user or team; null means WANDB_ENTITY, or the account's default."""
    group: str | None = setting(default=None, kind="shown")
    """The W&B group; null means WANDB_RUN_GROUP, or the report's cell, so that a group has the seeds of one cell."""
    tags: tuple[str, ...] = setting(default=(), kind="shown")
    """W&B tags in addition to experiment, model and dataset; if empty, those of WANDB_TAGS."""

    def __post_init__(self) -> None:
        for name in ("project", "entity") if self.mode != "none" else ():
            if (given := getattr(self, name)) and (wrong := objection(given)):
                raise ValueError(f"{name} is {given!r}; {wrong}")
            variable = f"WANDB_{name.upper()}"
            if not given and (wrong := objection(value := os.environ.get(variable, ""))):
                raise UserError(f"{variable} is {value!r}; {wrong}.")

    @contextmanager
    def run(
        self, folder: Path, identity: str, config: Mapping[str, Any], names: Names, settings: Mapping[str, Any]
    ) -> Iterator["WandbRun"]:
        """A W&B run within the block. An exception marks it as failed, a signal or an exit as preempted.

        A run with the same identity is continued, not duplicated.
        """
        tracker = WandbRun(self, folder, identity, flat(config, names, settings), names)
        with _staging(folder):
            tracker.start()
            try:
                yield tracker
            except Exception as error:
                tracker.end("failed", error)
                raise
            except BaseException:
                tracker.end("preempted")
                raise
            tracker.end("finished")

    def labels(self, names: Names) -> dict[str, Any]:
        """The arguments of `wandb.init` that name and group a run. The configuration overrides the environment."""
        said = os.environ
        tags = self.tags or said.get("WANDB_TAGS", "").split(",")
        own = names.experiment, names.model, names.dataset
        return {
            "project": self.project or said.get("WANDB_PROJECT") or "anchorflow",
            "entity": self.entity or said.get("WANDB_ENTITY"),
            "name": said.get("WANDB_NAME") or names.name,
            "group": (self.group or said.get("WANDB_RUN_GROUP") or names.group)[:LONGEST_NAME],
            "job_type": said.get("WANDB_JOB_TYPE") or names.experiment,
            "tags": list(dict.fromkeys(tag.strip()[:LONGEST_TAG] for tag in [*own, *tags] if tag.strip())),
        }

    def resolved(self) -> str:
        """The mode: online, offline or disabled."""
        if self.mode == "none":
            return "disabled"
        if self.mode != "auto":
            return self.mode
        if os.environ.get("WANDB_MODE") in ("online", "offline", "disabled"):
            return os.environ["WANDB_MODE"]
        return "online" if has_credentials() else "offline"


class WandbRun:
    """Logs a job's content to a W&B run.

    If W&B fails online, everything is recorded offline instead; if that fails, too, the run continues without it.
    """

    def __init__(
        self, tracking: Tracking, folder: Path, identity: str, config: Mapping[str, Any], names: Names
    ) -> None:
        self._tracking = tracking
        self._folder = folder
        self._identity = identity
        self._config = config
        self._names = names
        self._mode = tracking.resolved()
        self._run: Any = None
        self._recorded = 0  # rows of the history from earlier attempts
        self._curves: str | None = None  # the hash of their curves
        self._content: Content | None = None
        self._fault: Exception | None = None
        self._log: _RunLog | None = None
        self._last_progress = 0.0

    @property
    def fault(self) -> Exception | None:
        """The exception that prevented recording the content, if any."""
        return self._fault

    @property
    def url(self) -> str | None:
        """The run's page, while it is recorded online."""
        return None if self._run is None else self._run.url

    def start(self) -> None:
        """Begin the run."""
        if self._mode != "disabled":
            try:
                self._open()
            except Exception as error:
                self._rescue(error)
        if self.url:
            log.info("W&B: %s", self.url)

    def progress(self, progress: Progress) -> None:
        """Write the progress to the summary, every few seconds."""
        now = time.monotonic()
        if self._run is None or (now - self._last_progress < PROGRESS_INTERVAL_S and progress.done < progress.total):
            return
        self._last_progress = now
        known = {f"progress/{name}": value for name, value in vars(progress).items() if value is not None}
        self._run.summary.update({name: round(value, 3) for name, value in known.items()})

    def log(self, content: Content) -> None:
        """Log metrics to the summary, curves as scalars over their own axis, and tables, figures and artifacts."""
        self._content = content
        if self._run is not None:
            try:
                if self._recorded and self._curves not in (None, mark(content, self._names)):
                    self._reopen(f"{self._identity}-{mark(content, self._names)}")
                write(self._run, content, self._names, self._recorded)
            except Exception as error:
                self._fault = error  # handled at the end, when the result is safe: W&B may take minutes to give up

    def end(self, how: End, error: Exception | None = None) -> None:
        """End the W&B run; a failed one gets the reason."""
        if self._run is not None:
            try:
                if self._fault:
                    raise self._fault
                if error is not None:
                    self._explain(error)
                self._close(how)
            except Exception as fault:
                self._rescue(fault, how)

    def _open(self) -> None:
        import wandb

        there = fragments(self._folder) if self._mode == "offline" else []
        earlier = [fragment.read() for fragment in there if fragment.identity == self._identity]
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # W&B's own telemetry may fail, too
        wandb.setup(settings=wandb.Settings(silent=True))
        self._run = wandb.init(
            id=self._identity,
            resume="allow",
            config=dict(self._config),
            dir=str(self._folder),
            mode=self._mode,  # type: ignore[arg-type]
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,  # that of the working directory, perhaps another project; the config has our revision
                init_timeout=INIT_TIMEOUT_S,
                finish_timeout=FINISH_TIMEOUT_S,
                finish_timeout_raises=True,
                **({"git_root": str(CODE)} if (CODE / ".git").exists() else {}),
            ),
            **self._tracking.labels(self._names),
        )
        for handler in logging.getLogger("wandb").handlers:
            handler.handleError = _ignore  # type: ignore[method-assign]
        self._log = _RunLog(self._run)
        if changes := _uncommitted():
            self._keep("diff.patch", changes)
        uploadable = [attempt for attempt in earlier if attempt.ended]  # fragments of killed attempts are not uploaded
        self._recorded = max(self._recorded, self._run.starting_step, sum(attempt.rows for attempt in uploadable))
        known = [attempt.curves for attempt in uploadable if attempt.curves]
        self._curves = known[-1] if known else self._run.summary.get(MARK) if self._mode == "online" else None

    def _reopen(self, identity: str) -> None:
        """Open another W&B run for curves that differ from the recorded ones (the code has changed since)."""
        self._close("finished")
        self._identity, self._recorded = identity, 0
        self._open()

    def _explain(self, error: Exception) -> None:
        self._run.summary.update({"error": _reason(error)})
        text = "".join(traceback.format_exception(error))
        self._run.summary.update({"traceback": text})
        self._keep("traceback.txt", text)

    def _keep(self, name: str, text: str) -> None:
        """Save a text as a file of the W&B run."""
        path = Path(self._run.dir) / name
        path.write_text(text, encoding="utf-8")
        self._run.save(str(path), base_path=self._run.dir, policy="end")

    def _close(self, how: End) -> None:
        run, self._run = self._run, None
        self._quiet()
        if how == "preempted":
            run.mark_preempting()
        run.finish(exit_code=0 if how == "finished" else 1)
        if self._mode == "offline":
            _wait_for_end(self._folder)

    def _quiet(self) -> None:
        if self._log is not None:
            self._log.end()
            self._log = None

    def _rescue(self, error: Exception, how: End | None = None) -> None:
        """After a failure, record everything again, offline; log the outcome in one line."""
        log.debug("the tracker's traceback", exc_info=error)
        reason = _reason(error)
        self._fault = None
        self._quiet()
        try:
            _abandon()
            if self._mode == "online":
                self._mode = "offline"
                self._open()
                if self._content:
                    write(self._run, self._content, self._names, self._recorded)
                if how:
                    self._close(how)
                log.warning(
                    "tracker: W&B failed online (%s); recording offline, upload later with: anchorflow sync %s",
                    reason,
                    self._folder,
                )
                return
        except Exception as another:
            log.debug("the tracker's traceback", exc_info=another)
            reason += f"; then offline ({_reason(another)})"
        self._run, self._fault = None, error
        log.warning("tracker: W&B failed (%s); the run continues without it", reason)


class _RunLog(logging.Handler):
    """Sends the program's log, without W&B's own messages, to the Logs of a W&B run."""

    def __init__(self, run: Any) -> None:
        super().__init__(logging.INFO)
        self._run = run
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logging.getLogger().addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith("wandb"):
            with suppress(Exception):  # the log is also on the screen and in launch.log
                self._run.write_logs(self.format(record))

    def end(self) -> None:
        logging.getLogger().removeHandler(self)


def _wait_for_end(folder: Path) -> None:
    """Wait until W&B has written the end of a recording, shortly after `finish` returns; before, it looks like a killed one."""
    until = time.monotonic() + WRITE_TIMEOUT_S
    while (found := fragments(folder)) and not found[-1].read().ended and time.monotonic() < until:
        time.sleep(0.02)


def _uncommitted() -> str:
    """The uncommitted changes of this code; empty outside a checkout."""
    if not (CODE / ".git").exists():
        return ""
    try:
        done = subprocess.run(["git", "diff", "HEAD"], cwd=CODE, capture_output=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout[:LONGEST_DIFF].decode("utf-8", "replace")


def _abandon() -> None:
    """End W&B's service process with all its runs: the next job would otherwise inherit a broken one."""
    import wandb

    wandb.teardown(exit_code=1)


def _ignore(record: logging.LogRecord) -> None:
    """Ignore failures of W&B's own log (on a full disk, a traceback for each line)."""


@contextmanager
def _staging(folder: Path) -> Iterator[None]:
    """Within the block, W&B stages uploads in the run's directory instead of the home directory."""
    if "WANDB_DATA_DIR" in os.environ:
        yield
        return
    os.environ["WANDB_DATA_DIR"] = str(folder / "wandb")
    try:
        yield
    finally:
        del os.environ["WANDB_DATA_DIR"]


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST_REASON]


def has_credentials() -> bool:
    """Whether W&B credentials exist: in the environment, or in .netrc for its server."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    import wandb

    server = urlsplit(wandb.setup(settings=wandb.Settings(silent=True)).settings.base_url).netloc
    names = [server, *([OLD_CLOUD] if server == CLOUD else [])]
    try:
        known = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    return any(known.authenticators(name) for name in names)
