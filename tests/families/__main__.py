"""`python -m tests.families [NAMES...] [--out FILE.json] [--markdown FILE.md]`: every family in every experiment.

Each family has a process of its own, with a limit of processor time. Results are written as they come, and a file that is
there already is continued, if it is of the same code and libraries.
"""

import os

os.environ.update(HF_HUB_OFFLINE="1", WANDB_MODE="offline", TQDM_DISABLE="1", OMP_NUM_THREADS="1")

import argparse
import hashlib
import json
import math
import multiprocessing
import resource
import signal
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch
import transformers

from anchorflow.results import write_atomically
from tests.families import build, table
from tests.families.judge import TRACEBACK, Outcome, experiments, judge

ROOT = Path(__file__).parents[2]
SECONDS, AT_ONCE = 60, 2
PATIENCE = 20
"""Seconds of the clock for a second of the processor, on a busy machine, until a process counts as stuck."""
_processes = multiprocessing.get_context("fork")  # which have imported everything already


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.families", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="families, or cases of one (bert/decoder); all without")
    parser.add_argument("--out", type=Path, default=Path("build/families.json"), help="where results are kept")
    parser.add_argument("--markdown", type=Path, help="where a table for people goes")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of the processor, for a family")
    asked = parser.parse_args(arguments)
    known = build.names()
    if unknown := set(asked.names) - set(known):
        parser.error(f"{', '.join(sorted(unknown))}: no such family; allowed: {', '.join(known)}")
    torch.set_num_threads(1)
    names = asked.names or known
    about, found = {**versions(), "code": code()}, {}
    if asked.out.is_file() and (kept := json.loads(asked.out.read_text()))["about"] == about:
        found = kept["families"]
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    for name, outcomes in run([name for name in names if name not in found], asked.seconds):
        found[name] = outcomes
        write_atomically(asked.out, json.dumps({"about": about, "families": found}, indent=1) + "\n")
        print(f"{name:28}{table.in_short(outcomes)}", flush=True)
    shown = {name: found[name] for name in names}
    print(table.counts(shown))
    if asked.markdown:
        asked.markdown.write_text(table.markdown(shown, about), encoding="utf-8")


def run(names: Sequence[str], seconds: float = SECONDS) -> Iterator[tuple[str, dict[str, Outcome]]]:
    """Each family with its outcomes, as they are done."""
    waiting, running = list(names), {}
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            name = waiting.pop(0)
            ours, theirs = _processes.Pipe(duplex=False)
            process = _processes.Process(target=_child, args=(name, theirs, seconds), daemon=True)
            process.start()
            theirs.close()
            running[ours] = (name, process, time.monotonic() + PATIENCE * seconds, {})
        ready = wait(list(running), timeout=0.5)
        for pipe in list(running):
            name, process, until, outcomes = running[pipe]
            ended, late = pipe in ready and _drained(pipe, outcomes), time.monotonic() > until
            if ended or late:
                if late:
                    process.kill()
                process.join()
                late = late or process.exitcode == -signal.SIGXCPU
                why = f"longer than {seconds:.0f} s" if late else f"its process ended with {process.exitcode}"
                del running[pipe]
                yield name, _completed(outcomes, why)


def _child(name: str, pipe: Connection, seconds: float) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), most))
    for found in judge(name):
        pipe.send(found)
    pipe.close()


def _drained(pipe: Connection, outcomes: dict[str, Outcome]) -> bool:
    """Take one outcome; whether there are no more."""
    try:
        key, outcome = pipe.recv()
    except EOFError:
        return True
    outcomes[key] = outcome
    return False


def _completed(outcomes: dict[str, Outcome], why: str) -> dict[str, Outcome]:
    if "model" in outcomes:
        return outcomes
    return {e.name: outcomes.get(e.name, {"outcome": TRACEBACK, "why": why}) for e in experiments()}


def versions() -> dict[str, Any]:
    """Of what the outcomes depend on."""
    return {"transformers": transformers.__version__, "torch": torch.__version__}


def code() -> str:
    """A hash of the package and of this one."""
    state = hashlib.sha256()
    here = [path for path in Path(__file__).parent.glob("*.py") if not path.name.startswith("test_")]
    for path in sorted([*(ROOT / "anchorflow").rglob("*.py"), *here]):
        state.update(path.read_bytes())
    return state.hexdigest()[:16]


if __name__ == "__main__":
    main()
