"""A W&B run around a job: started before it, told its result, ended as it ended."""

import logging
import netrc
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from anchorflow.settings import configurable, setting
from anchorflow.tracking.base import Content, Names
from anchorflow.tracking.content import flat, labels, write
from anchorflow.tracking.fragments import fragments

log = logging.getLogger(__name__)

INIT_TIMEOUT_S = 20
FINISH_TIMEOUT_S = 120
LONGEST_REASON = 250
CLOUD, OLD_CLOUD = "api.forge.coreweave.com", "api.wandb.ai"
"""W&B's own server, and what it was called in older .netrc files, which still hold."""
End = Literal["finished", "failed", "preempted"]


@configurable
class Tracking:
    """`auto` is online where credentials are found, else offline (upload later with `anchorflow sync`)."""

    mode: Literal["auto", "online", "offline", "none"] = setting(default="auto", kind="shown")
    """Where a run is recorded; auto is online with credentials, else offline."""
    project: str = setting(default="anchorflow", kind="shown")
    """The W&B project."""
    entity: str | None = setting(default=None, kind="shown")
    """The W&B user or team; null is the account's default."""
    group: str | None = setting(default=None, kind="shown")
    """The W&B group; null is experiment, model and dataset, so that a group holds the seeds of one cell."""
    tags: tuple[str, ...] = setting(default=(), kind="shown")
    """W&B tags besides those of experiment, model and dataset."""

    @contextmanager
    def run(
        self, folder: Path, identity: str, config: Mapping[str, Any], names: Names, settings: Mapping[str, Any]
    ) -> Iterator["WandbRun"]:
        """A W&B run around a block. An exception in it makes it a failed run, a signal or an exit a preempted one.

        A run of the same identity is continued, not doubled.
        """
        tracker = WandbRun(self, folder, identity, flat(config, names, settings), names)
        with _staging(folder):
            tracker.start()
            try:
                yield tracker
            except Exception:
                tracker.end("failed")
                raise
            except BaseException:
                tracker.end("preempted")
                raise
            tracker.end("finished")

    def resolved(self) -> str:
        """online, offline or disabled."""
        if self.mode == "none":
            return "disabled"
        if self.mode != "auto":
            return self.mode
        if os.environ.get("WANDB_MODE") in ("online", "offline", "disabled"):
            return os.environ["WANDB_MODE"]
        return "online" if has_credentials() else "offline"


class WandbRun:
    """Hands a job's content to a W&B run, or to nobody.

    Where W&B fails online, all is recorded offline instead; where that fails, too, the run goes on without it.
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
        self._content: Content | None = None
        self._fault: Exception | None = None

    def start(self) -> None:
        """Begin the run."""
        if self._mode != "disabled":
            try:
                self._open()
            except Exception as error:
                self._rescue(error)

    def log(self, content: Content) -> None:
        """Metrics go into the summary, curves are scalars over their own axis; tables, figures, artifacts."""
        self._content = content
        if self._run is not None:
            try:
                write(self._run, content, self._names, self._recorded)
            except Exception as error:
                self._fault = error  # dealt with at the end, when the result is safe: W&B may take minutes to give up

    def end(self, how: End) -> None:
        """End the run."""
        if self._run is not None:
            try:
                if self._fault:
                    raise self._fault
                self._close(how)
            except Exception as error:
                self._rescue(error, how)

    def _open(self) -> None:
        import wandb

        earlier = [fragment.read() for fragment in fragments(self._folder)] if self._mode == "offline" else []
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # W&B's reports on itself, which may fail as well
        wandb.setup(settings=wandb.Settings(silent=True))
        self._run = wandb.init(
            project=self._tracking.project,
            entity=self._tracking.entity,
            id=self._identity,
            resume="allow",
            config=dict(self._config),
            dir=str(self._folder),
            mode=self._mode,  # type: ignore[arg-type]
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,  # of the working directory, perhaps another project's; the config has our revision
                init_timeout=INIT_TIMEOUT_S,
                finish_timeout=FINISH_TIMEOUT_S,
                finish_timeout_raises=True,
            ),
            **labels(self._names, self._tracking.group, self._tracking.tags),
        )
        for handler in logging.getLogger("wandb").handlers:
            handler.handleError = _ignore  # type: ignore[method-assign]
        rows = sum(attempt.rows for attempt in earlier if attempt.ended)  # a killed one will not be uploaded
        self._recorded = max(self._recorded, self._run.step, rows)

    def _close(self, how: End) -> None:
        run, self._run = self._run, None
        if how == "preempted":
            run.mark_preempting()
        run.finish(exit_code=0 if how == "finished" else 1)

    def _rescue(self, error: Exception, how: End | None = None) -> None:
        """After a fault: the whole once more, offline. Says in one line what became of it."""
        log.debug("the tracker's traceback", exc_info=error)
        reason = _reason(error)
        self._fault = None
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
        self._run = None
        log.warning("tracker: W&B failed (%s); the run goes on without it", reason)


def _abandon() -> None:
    """End W&B's process with every run it has: a broken one would be taken for the next job's."""
    import wandb

    wandb.teardown(exit_code=1)


def _ignore(record: logging.LogRecord) -> None:
    """What W&B's own log cannot write (on a full disk, a traceback for each line) is no news."""


@contextmanager
def _staging(folder: Path) -> Iterator[None]:
    """Copies that W&B makes of what is to be uploaded stay with the run instead of in the home directory."""
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
    """Whether W&B would find any: in the environment, or in .netrc for its server."""
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
