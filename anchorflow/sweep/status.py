"""`anchorflow status`: the state of runs, from their directories and SLURM."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from anchorflow.results import counted, runs_below
from anchorflow.sweep.liveness import Found, Jobs, look

WATCH_INTERVAL_S = 5.0
UNFINISHED = ("queued", "running")


def show(paths: Sequence[Path], watch: bool = False, as_json: bool = False) -> int:
    """Print a line for every run at or below the paths, or all as JSON. With `watch`, repeat while any is queued or running."""
    while True:
        jobs = Jobs()
        found = [look(folder, jobs) for folder in runs_below(paths)]
        if watch and sys.stdout.isatty():
            sys.stdout.write("\033[2J\033[H")
        if as_json:
            print(json.dumps(to_json(found), indent=2, ensure_ascii=False))
        else:
            print("\n".join(report(found)) or f"no runs in {', '.join(map(str, paths))}")
        sys.stdout.flush()
        if not watch or not any(one.state in UNFINISHED for one in found):
            return 0
        time.sleep(WATCH_INTERVAL_S)


def report(found: Sequence[Found]) -> list[str]:
    """A table of these runs with full errors on separate lines, then the number of runs in each state and the time left."""
    if not found:
        return []
    apart = _apart([one.folder for one in found])
    rows = [["run", "state", "job, machine", "progress", "per s", "left", "requeues"]]
    for one in found:
        status, progress = one.status, one.status.get("progress") or {}
        total = progress.get("total")
        running = one.state == "running"
        rows.append(
            [
                " ".join(["/".join(one.folder.parts[-4:]), *apart[one.folder]]),
                one.state,
                one.where,
                f"{progress.get('done', 0)}/{total if total is not None else '?'}" if progress else "",
                f"{status['queries_per_s']:.2f}" if running and status.get("queries_per_s") else "",
                duration(status["left_s"]) if running and status.get("left_s") is not None else "",
                str(status.get("requeues") or ""),
            ]
        )
    heading, *lines = columns(rows, left=3)
    table = [heading]
    for one, line in zip(found, lines, strict=True):
        table += [line, *(f"    {reason}" for reason in one.why.splitlines())]
    left = left_s(found)
    return [*table, summary(found, "run") + ("" if left is None else f"; about {duration(left)} left")]


def summary(found: Sequence[Found], kind: str) -> str:
    """The number of runs, called `kind`, and of those in each state, the most frequent state first: `2 runs: 2 completed`."""
    counts = sorted(Counter(one.state for one in found).items(), key=lambda item: (-item[1], item[0]))
    return f"{counted(len(found), kind)}: " + ", ".join(f"{n} {state}" for state, n in counts)


def to_json(found: Sequence[Found]) -> dict[str, Any]:
    """The same as JSON types."""
    runs = [
        {
            **{key: one.status.get(key) for key in ("job_id", "host", "progress", "queries_per_s", "requeues")},
            "run": str(one.folder),
            "state": one.state,
            "why": one.why or None,
            "left_s": one.status.get("left_s") if one.state == "running" else None,
        }
        for one in found
    ]
    return {"runs": runs, "counts": dict(Counter(one.state for one in found)), "left_s": left_s(found)}


def left_s(found: Sequence[Found]) -> float | None:
    """Seconds until all queued and running runs end, at the pace of complete ones; None if unknown."""
    running = [one for one in found if one.state == "running"]
    waiting = sum(one.state == "queued" for one in found)
    known = [float(one.status["left_s"]) for one in running if one.status.get("left_s") is not None]
    took = [seconds for one in found if one.state == "completed" and (seconds := _took(one.status)) is not None]
    if (not running and not waiting) or len(known) < len(running) or (waiting and not took):
        return None
    each = sum(took) / len(took) if took else 0.0
    return max(max(known, default=0.0), (sum(known) + waiting * each) / max(1, len(running)))


def _took(status: Mapping[str, Any]) -> float | None:
    try:
        began, ended = (datetime.fromisoformat(str(status[key]).rstrip("Z")) for key in ("started", "updated"))
    except (KeyError, ValueError):
        return None
    return (ended - began).total_seconds()


def _apart(folders: Sequence[Path]) -> dict[Path, list[str]]:
    """The settings that distinguish each run from the others with the same experiment, model, dataset and seed."""
    alike: dict[tuple[Path, str], list[Path]] = {}
    for folder in folders:
        alike.setdefault((folder.parent, folder.name.partition("-")[0]), []).append(folder)
    found: dict[Path, list[str]] = {folder: [] for folder in folders}
    for together in alike.values():
        if len(together) > 1:
            told = {folder: _told(folder) for folder in together}
            shared = set.intersection(*(set(of_run) for of_run in told.values()))
            found |= {folder: [each for each in of_run if each not in shared] for folder, of_run in told.items()}
    return found


def _told(folder: Path) -> list[str]:
    """The overrides with which a run was started."""
    try:
        lines = (folder / ".hydra" / "overrides.yaml").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return [line.removeprefix("- ").strip("'\"") for line in lines if line.startswith("- ")]


def columns(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """The rows as aligned lines; the first `left` columns are left-aligned, the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    justified = [
        [text.ljust(w) if i < left else text.rjust(w) for i, (text, w) in enumerate(zip(row, widths, strict=True))]
        for row in rows
    ]
    return ["  ".join(row).rstrip() for row in justified]


def duration(seconds: float) -> str:
    """1:02:03, or 2:03."""
    minutes, s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{s:02}" if hours else f"{minutes}:{s:02}"
