"""The state of runs, as their directories and SLURM tell it: `anchorflow status`."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from anchorflow.results import counted, runs_below
from anchorflow.sweep.liveness import Found, Jobs, look

WATCH_INTERVAL_S = 5.0
UNFINISHED = ("queued", "running")


def show(paths: Sequence[Path], watch: bool) -> int:
    """Print a line for every run at or below the paths; with `watch` again and again, until none is queued or running."""
    while True:
        jobs = Jobs()
        found = [look(folder, jobs) for folder in runs_below(paths)]
        if watch and sys.stdout.isatty():
            sys.stdout.write("\033[2J\033[H")
        print("\n".join(report(found)) or f"no runs in {', '.join(map(str, paths))}")
        sys.stdout.flush()
        if not watch or not any(one.state in UNFINISHED for one in found):
            return 0
        time.sleep(WATCH_INTERVAL_S)


def report(found: Sequence[Found]) -> list[str]:
    """A table of these runs, and how many there are of each state."""
    if not found:
        return []
    rows = [["run", "state", "job, machine", "progress", "per s", "left", "requeues", ""]]
    for one in found:
        status, progress = one.status, one.status.get("progress") or {}
        total = progress.get("total")
        running = one.state == "running"
        rows.append(
            [
                "/".join(one.folder.parts[-4:]),
                one.state,
                one.where,
                f"{progress.get('done', 0)}/{total if total is not None else '?'}" if progress else "",
                f"{status['queries_per_s']:.2f}" if running and status.get("queries_per_s") else "",
                duration(status["left_s"]) if running and status.get("left_s") is not None else "",
                str(status.get("requeues") or ""),
                one.why[:160],
            ]
        )
    counts = Counter(one.state for one in found)
    lines = [line.rstrip() for line in columns([[*row[:-1], ""] for row in rows], left=3)]
    return [
        *(f"{line}  {row[-1]}".rstrip() for line, row in zip(lines, rows, strict=True)),
        f"{counted(len(found), 'run')}: " + ", ".join(f"{n} {state}" for state, n in counts.most_common()),
    ]


def columns(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """The rows as lines; the first `left` columns are flush left, the others flush right."""
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
