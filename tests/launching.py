"""The real command line, as tests start it, and what it leaves behind.

`launch` forks this process, in which torch and transformers are loaded already: that saves each command some seconds of
imports. What depends on a process of its own (signals, limits, what is imported) starts `command`.
"""

import functools
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from anchorflow import cli
from anchorflow.models import Tiny
from tests.conftest import FAMILIES, ROOT

TIMEOUT_S = 300


def command(*overrides: str) -> list[str]:
    """The command in a process of its own."""
    return [sys.executable, str(ROOT / "launch.py"), *overrides]


@functools.cache
def _warm_up() -> None:
    """Import what nearly every command imports."""
    import submitit  # noqa: F401

    import anchorflow.report.figures
    import anchorflow.sweep.plugin  # noqa: F401

    for family in FAMILIES:
        Tiny(family=family, layers=1).load("cpu", "float32")  # type: ignore[arg-type]


def launch(*overrides: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    _warm_up()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if child == 0:
            _be_the_command(overrides, cwd, environment, out.fileno(), err.fileno())
        deadline, status = time.monotonic() + TIMEOUT_S, 0
        while (waited := os.waitpid(child, os.WNOHANG)) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
            time.sleep(0.01)
        status = os.waitstatus_to_exitcode(waited[1])
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read())
    return subprocess.CompletedProcess(command(*overrides), status, *texts)


def _be_the_command(arguments: Sequence[str], cwd: Path, environment: dict[str, str], out: int, err: int) -> NoReturn:
    code = 1
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = (open(fd, "w", buffering=1, closefd=False) for fd in (1, 2))  # noqa: SIM115
        warnings.resetwarnings()
        warnings.simplefilter("default")
        logging.getLogger().handlers.clear()
        os.chdir(cwd)
        os.environ.update(environment)
        sys.argv = [str(ROOT / "launch.py"), *arguments]
        cli.run()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def on_tiny(data: Path) -> tuple[str, ...]:
    """A tiny model on these data, whose runs are called tiny and local."""
    return ("model=tiny", "dataset=local", "dataset.name=local", f"dataset.path={data}", "tracking=none")


def tiny(data: Path, *overrides: str, run_dir: str = "run") -> tuple[str, ...]:
    """A run of a tiny model on these data in `run_dir`."""
    return (*on_tiny(data), f"hydra.run.dir={run_dir}", "experiment.n_queries=6", "device=cpu", *overrides)


def without_timing(folder: Path) -> dict[str, Any]:
    """The content of result.json that is the same whenever it is made."""
    found = json.loads((folder / "result.json").read_text())
    del found["timing"]
    return found


def records(folder: Path) -> list[dict[str, Any]]:
    """The records of a run."""
    return [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]


def failed_politely(done: subprocess.CompletedProcess[str]) -> str:
    """Exit code ≠ 0, an error of one or two sentences, no traceback."""
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(line) < 500
    return line


def interrupted(arguments: Sequence[str], cwd: Path, at: int, with_: signal.Signals, nohup: bool = False) -> int:
    """Start a run, send a signal once `at` records are there, and give back the exit code."""
    closed = signal.SIG_IGN if nohup else signal.SIG_DFL  # whatever the tests themselves were started with
    process = subprocess.Popen(
        command(*arguments),
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, closed),
    )
    path = cwd / "run" / "records.jsonl"
    deadline = time.monotonic() + 120
    while not (path.exists() and path.read_bytes().count(b"\n") >= at):
        assert process.poll() is None, "ended before it could be interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(with_)
    return process.wait(timeout=60)
