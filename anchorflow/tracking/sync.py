"""`anchorflow sync PATH...`: upload what runs recorded offline."""

import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from anchorflow.errors import UserError
from anchorflow.rundir import runs_below
from anchorflow.tracking.fragments import Fragment, fragments, wandb_command, without
from anchorflow.tracking.tracker import has_credentials

AT_ONCE = 4
"""Uploads that are under way together."""
PATIENCE_S = 15
UPLOAD_TIMEOUT_S = 1800

T = TypeVar("T")
State = Literal["uploaded", "to upload", "already there", "unfinished", "the same", "without", "failed"]
LEGEND = {
    "uploaded": "uploaded",
    "to upload": "to upload",
    "already there": "uploaded before",
    "unfinished": "not finished",
    "the same": "the same as another",
    "without": "without an offline recording",
    "failed": "failed",
}


@dataclass(frozen=True)
class Outcome:
    """What became of a run, and what there is to say of it."""

    folder: Path
    state: State
    text: str = ""


@dataclass(frozen=True)
class Plan:
    """A run's fragments that are to be uploaded, oldest first. `identity` is the W&B run they belong to."""

    folder: Path
    identity: tuple[str, ...]
    pending: tuple[Fragment, ...]


def sync(paths: Sequence[Path], dry_run: bool = False) -> int:
    """Upload all runs at or below the paths, and print what became of each. Exit code 1 if one of them failed.

    Fragments of one run go up in their order, into one W&B run; those that are uploaded already are left alone, so that
    the command can be repeated. UserError without runs, credentials or a network.
    """
    folders = runs_below(paths)
    if not folders:
        raise UserError(f"there is no run at or below {', '.join(map(str, paths))}.")
    outcomes: list[Outcome] = []

    def tell(outcome: Outcome) -> None:
        outcomes.append(outcome)
        if outcome.text:
            print(f"{outcome.state}: {outcome.folder} {outcome.text}", flush=True)

    plans: list[Plan] = []
    for found in _together(plan, folders):
        if isinstance(found, Plan):
            plans.append(found)
        else:
            tell(found)
    chosen, doubles = _once_each(plans)
    for double in doubles:
        tell(double)
    if dry_run:
        for each in chosen:
            tell(Outcome(each.folder, "to upload", f"({len(each.pending)} recorded)"))
    elif chosen:
        check_access()
        for outcome in _together(upload, chosen):
            tell(outcome)
    counts = {legend: sum(outcome.state == state for outcome in outcomes) for state, legend in LEGEND.items()}
    print(", ".join(f"{n} {legend}" for legend, n in counts.items() if n))
    return int(any(outcome.state == "failed" for outcome in outcomes))


def plan(folder: Path) -> Plan | Outcome:
    """What is to be uploaded of a run's directory, or why there is nothing.

    A fragment without an end is of an attempt that goes on or was killed: the next one holds all that it could.
    """
    found = fragments(folder)
    waiting = [fragment for fragment in found if not fragment.uploaded]
    if not waiting:
        return Outcome(folder, "already there" if found else "without")
    try:
        read = [(fragment, fragment.read()) for fragment in waiting]
    except (OSError, subprocess.SubprocessError) as error:
        return Outcome(folder, "failed", f"cannot be read ({error})")
    ended = [(fragment, attempt) for fragment, attempt in read if attempt.ended]
    if not ended:
        return Outcome(folder, "unfinished", "(it runs, or was killed: then start it again)")
    missing = [file for _, attempt in ended for file in attempt.missing]
    if missing:
        return Outcome(
            folder, "failed", f"({missing[0]} is missing; if the run has moved, put a link at its old place)"
        )
    return Plan(folder, ended[-1][1].identity, tuple(fragment for fragment, _ in ended))


def upload(plan: Plan) -> Outcome:
    """Upload a run's fragments one after another, each by W&B's own command; the rest waits where one fails."""
    url = ""
    for fragment in plan.pending:
        try:
            done = subprocess.run(
                wandb_command("sync", str(fragment.log.resolve())),
                cwd=plan.folder,  # where W&B puts its log of this
                env=without(("WANDB_MODE", "WANDB_SILENT", "WANDB_QUIET", "WANDB_DIR", "WANDB_SERVICE")),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=UPLOAD_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            return Outcome(plan.folder, "failed", f"(not done within {UPLOAD_TIMEOUT_S // 60} minutes)")
        said = done.stdout + done.stderr
        if not fragment.uploaded:
            return Outcome(plan.folder, "failed", f"({_complaint(said)})")
        url = (re.findall(r"\bat (https?://\S+)", said) or [url])[-1]
    return Outcome(plan.folder, "uploaded", url)


def check_access() -> None:
    """UserError unless W&B's server answers and takes the credentials."""
    import wandb

    if not has_credentials():
        raise UserError("there are no W&B credentials; run `wandb login`, or set WANDB_API_KEY.")
    server = wandb.setup(settings=wandb.Settings(silent=True)).settings.base_url
    try:
        urllib.request.urlopen(server, timeout=PATIENCE_S).close()
    except urllib.error.HTTPError:
        pass  # an answer all the same
    except OSError as error:
        raise UserError(f"{server} cannot be reached ({error}); nothing was uploaded, try again later.") from error
    try:
        wandb.Api(timeout=PATIENCE_S)
    except (wandb.errors.Error, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(f"W&B does not take the credentials ({reason}); run `wandb login --relogin`.") from error


def _once_each(plans: Sequence[Plan]) -> tuple[list[Plan], list[Outcome]]:
    """A W&B run is uploaded from one directory: copies of it would only repeat its curves."""
    first: dict[tuple[str, ...], Plan] = {}
    for each in sorted(plans, key=lambda plan: plan.folder):
        first.setdefault(each.identity, each)
    doubles = [each for each in plans if first[each.identity] is not each]
    told = [Outcome(each.folder, "the same", f"run as {first[each.identity].folder}") for each in doubles]
    return list(first.values()), told


def _together(act: Callable[..., T], items: Iterable[object]) -> Iterator[T]:
    """The results of `act`, as they come; what has not begun is dropped when the reader stops."""
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        for done in as_completed([pool.submit(act, item) for item in items]):
            yield done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _complaint(said: str) -> str:
    """What W&B gives as the reason."""
    lines = ["W&B said nothing", *(line.removeprefix("wandb: ") for line in said.splitlines() if line.strip())]
    errors = [line.removeprefix("ERROR ") for line in lines if "ERROR" in line]
    return (errors or lines)[-1][:300]
