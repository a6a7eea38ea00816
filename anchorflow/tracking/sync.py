"""`anchorflow sync PATH...`: upload offline recordings, and finished runs without one."""

import fcntl
import json
import re
import subprocess
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar, get_args

from anchorflow.errors import UserError
from anchorflow.results import dumps, read_status, runs_below, write_atomically
from anchorflow.tracking.afterwards import record
from anchorflow.tracking.fragments import Attempt, Fragment, fragments, wandb_command, without
from anchorflow.tracking.tracker import has_credentials

AT_ONCE = 4
"""The number of concurrent uploads."""
_RECORDING = threading.Lock()
PATIENCE_S = 15
UPLOAD_TIMEOUT_S = 1800

S = TypeVar("S")
T = TypeVar("T")
State = Literal[
    "uploaded",
    "to upload",
    "uploaded before",
    "recorded online",
    "not finished",
    "the same",
    "without a result",
    "failed",
]


@dataclass(frozen=True)
class Run:
    """A run's directory, with the state of its upload and a message.

    `identity` is the id of the W&B run, `pending` are the fragments to upload, oldest first. With `unrecorded`, a recording
    must then be made from its result.
    """

    folder: Path
    state: State
    text: str = ""
    identity: str = ""
    pending: tuple[Fragment, ...] = ()
    unrecorded: bool = False

    def ends(self, state: State, text: str) -> "Run":
        """The same run in another state."""
        return replace(self, state=state, text=text)


def sync(paths: Sequence[Path], dry_run: bool = False) -> int:
    """Upload all runs at or below the paths and print the outcome of each. The exit code is 1 if one of them failed.

    Fragments of a run are uploaded in order into one W&B run. Uploaded fragments are skipped, so the command can be
    repeated. UserError without runs, credentials or a network.
    """
    folders = runs_below(paths)
    if not folders:
        raise UserError(f"there is no run at or below {', '.join(map(str, paths))}.")
    planned = _once_each(list(_together(plan, folders)))
    waiting = [run for run in planned if run.state == "to upload"]
    ended = planned if dry_run else [run for run in planned if run.state != "to upload"]
    if waiting and not dry_run:
        check_access()
    for run in ended:
        _tell(run)
    if not dry_run:
        for run in _together(upload, waiting):
            _tell(run)
            ended.append(run)
    counts = Counter(run.state for run in ended)
    print(", ".join(f"{counts[state]} {state}" for state in get_args(State) if counts[state]))
    return int(counts["failed"] > 0)


def plan(folder: Path) -> Run:
    """Decide what to upload from a run's directory, or why there is nothing.

    A fragment without an end belongs to an attempt that still runs or was killed; the next fragment repeats its content. If
    a complete run has no fragment with an end, a recording is made from its result.
    """
    try:
        found = {fragment: fragment.read() for fragment in fragments(folder)}
        online = {fragment: fragment.read() for fragment in fragments(folder, online=True)}
    except OSError as error:
        return Run(folder, "failed", f"(it cannot be read: {error})")
    recorded = any(attempt.code == 0 for attempt in (*found.values(), *online.values()))
    if (folder / "result.json").exists() and not recorded:
        if _busy(folder):  # the result exists, but the tracker has not ended
            return Run(folder, "not finished", "(it runs)")
        return _planned(folder, found, unrecorded=True)
    if found:
        return _planned(folder, found)
    if online:
        return Run(folder, "recorded online")
    return Run(folder, "without a result")


def _busy(folder: Path) -> bool:
    """Whether a process works in the directory: it holds the lock of the run."""
    try:
        with (folder / ".lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no lock, or a file system without any
        return False
    return False


def _planned(folder: Path, found: Mapping[Fragment, Attempt], unrecorded: bool = False) -> Run:
    identity = [fragment.identity for fragment in found] or [folder.name]
    if unrecorded:
        try:
            identity.append(str(json.loads((folder / "result.json").read_text(encoding="utf-8"))["identity"]))
        except (OSError, ValueError, LookupError, TypeError) as error:
            return Run(folder, "failed", f"({folder / 'result.json'} is damaged: {type(error).__name__}: {error})")
    run = Run(folder, "to upload", identity=identity[-1], unrecorded=unrecorded)
    waiting = [fragment for fragment in found if not fragment.uploaded]
    ended = tuple(fragment for fragment in waiting if found[fragment].ended)
    if not unrecorded and not waiting:
        return run.ends("uploaded before", "")
    if not unrecorded and not ended:
        return run.ends("not finished", "(it is running, or was killed: run it again)")
    missing = [file for fragment in ended for file in found[fragment].missing]
    if missing:
        return run.ends("failed", f"({missing[0]} is missing; if the run was moved, create a link at its old path)")
    return replace(run, pending=ended, text="(from its result)" if unrecorded else f"({len(ended)} recorded)")


def upload(run: Run) -> Run:
    """Upload a run's fragments one after another with W&B's own command, until one fails.

    The run's status.json gets the address of its page.
    """
    url, pending = "", run.pending
    if run.unrecorded:
        try:
            with _RECORDING:
                record(run.folder)
            pending += (fragments(run.folder)[-1],)
        except Exception as error:  # damaged, or a full disk
            return run.ends("failed", f"(it cannot be recorded: {type(error).__name__}: {error})")
    for fragment in pending:
        try:
            done = subprocess.run(
                wandb_command("sync", str(fragment.log.resolve())),
                cwd=run.folder,  # W&B writes its log of the upload here
                env=without(("WANDB_MODE", "WANDB_SILENT", "WANDB_QUIET", "WANDB_DIR", "WANDB_SERVICE")),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=UPLOAD_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            return run.ends("failed", f"(not done within {UPLOAD_TIMEOUT_S // 60} minutes)")
        said = done.stdout + done.stderr
        if not fragment.uploaded:
            return run.ends("failed", f"({_complaint(said)})")
        url = (re.findall(r"\bat (https?://\S+)", said) or [url])[-1]
    _keep(run.folder, url)
    return run.ends("uploaded", url)


def _keep(folder: Path, url: str) -> None:
    if url:
        with suppress(OSError):  # another user's directory
            write_atomically(folder / "status.json", dumps({**read_status(folder), "url": url}, indent=2) + "\n")


def check_access() -> None:
    """Raise UserError unless W&B's server answers and accepts the credentials."""
    import wandb

    if not has_credentials():
        raise UserError("there are no W&B credentials; run `wandb login`, or set WANDB_API_KEY.")
    server = wandb.setup(settings=wandb.Settings(silent=True)).settings.base_url
    try:
        urllib.request.urlopen(server, timeout=PATIENCE_S).close()
    except urllib.error.HTTPError:
        pass  # an HTTP error is an answer, too
    except OSError as error:
        raise UserError(f"{server} cannot be reached ({error}); nothing was uploaded, try again later.") from error
    try:
        wandb.Api(timeout=PATIENCE_S)
    except (wandb.errors.Error, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(f"W&B does not accept the credentials ({reason}); run `wandb login --relogin`.") from error


def _once_each(runs: Sequence[Run]) -> list[Run]:
    """Upload a W&B run from one directory only: copies of it would repeat its curves."""
    first: dict[str, Path] = {}
    for run in sorted(runs, key=lambda run: (run.state != "uploaded before", run.folder)):
        if run.state in ("uploaded before", "to upload"):
            first.setdefault(run.identity, run.folder)
    return [
        run.ends("the same", f"run as {first[run.identity]}")
        if run.state == "to upload" and first[run.identity] != run.folder
        else run
        for run in sorted(runs, key=lambda run: run.folder)
    ]


def _tell(run: Run) -> None:
    if run.text:
        print(f"{run.state}: {run.folder} {run.text}", flush=True)


def _together(act: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
    """The results of `act` in order of completion; pending calls are dropped when the reader stops."""
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        for done in as_completed([pool.submit(act, item) for item in items]):
            yield done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _complaint(said: str) -> str:
    """The reason in W&B's output."""
    lines = ["W&B said nothing", *(line.removeprefix("wandb: ") for line in said.splitlines() if line.strip())]
    errors = [line.removeprefix("ERROR ") for line in lines if "ERROR" in line]
    return (errors or lines)[-1][:300]
