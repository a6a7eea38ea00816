"""`anchorflow clean`: show, then remove, runs that are no longer useful."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from anchorflow.errors import UserError
from anchorflow.results import counted, runs_below
from anchorflow.runs import RunDirectory
from anchorflow.settings import digest
from anchorflow.sweep.liveness import Jobs, look
from anchorflow.sweep.status import columns

REMOVED = ("failed", "lost")


class Useless(NamedTuple):
    """A run that can be removed, and the reason."""

    folder: Path
    why: str


def useless(paths: Sequence[Path]) -> list[Useless]:
    """The failed and lost runs at or below the paths, and those repeated with a newer version of their experiment."""
    jobs, found = Jobs(), []
    newest: dict[str, int] = {}
    complete: list[tuple[Path, str, int]] = []
    for folder in runs_below(paths):
        one = look(folder, jobs)
        if one.state in REMOVED:
            records = (folder / "records.jsonl").read_bytes().count(b"\n") if (folder / "records.jsonl").exists() else 0
            kept = f", with {counted(records, 'record')}" if records else ""
            found.append(Useless(folder, f"{one.state}{kept}{f': {one.why}' if one.why else ''}"))
        elif one.state == "completed" and (key := _settings(folder)) is not None:
            complete.append((folder, *key))
            newest[key[0]] = max(key[1], newest.get(key[0], 0))
    for folder, settings, version in complete:
        if version < newest[settings]:
            found.append(
                Useless(folder, f"superseded: version {version}; a result of version {newest[settings]} exists")
            )
    return sorted(found)


def clean(paths: Sequence[Path], yes: bool) -> int:
    """List the useless runs, ask unless `yes`, and remove them. Returns the exit code."""
    found = useless(paths)
    if not found:
        print(f"no failed, lost or superseded run in {', '.join(map(str, paths))}")
        return 0
    print("\n".join(columns([[str(one.folder), one.why] for one in found], left=2)))
    if not yes:
        if not sys.stdin.isatty():
            raise UserError("nothing is removed: the confirmation needs a terminal; add --yes.")
        if input(f"remove {counted(len(found), 'run')}? [y/N] ").strip().lower() not in ("y", "yes"):
            print("nothing is removed")
            return 1
    still = {one.folder for one in useless(paths)}  # one of them may have been restarted in the meantime
    gone = [one for one in found if one.folder in still]
    for one in gone:
        with RunDirectory(one.folder).locked():
            shutil.rmtree(one.folder)
        for above in one.folder.parents[:3]:
            if any(above.iterdir()):
                break
            above.rmdir()
    print(f"removed {counted(len(gone), 'run')}")
    return 0


def _settings(folder: Path) -> tuple[str, int] | None:
    """A complete run's identity without the experiment's version, and the version; None if its result lacks them."""
    try:
        counts = json.loads((folder / "result.json").read_text(encoding="utf-8"))["identity_of"]
        experiment = dict(counts["experiment"])
        version = int(experiment.pop("version"))
    except (KeyError, TypeError, ValueError):
        return None
    return digest({**counts, "experiment": experiment}), version
