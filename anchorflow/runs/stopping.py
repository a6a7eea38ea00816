"""Turn termination signals into an exception, so that a run cleans up and keeps its finished work."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any

from anchorflow.runs.rundir import State


class Stopped(BaseException):
    """A termination signal, which is not an error of the run. `state` is the run's state afterwards."""

    def __init__(self, signal: int, state: State) -> None:
        super().__init__(f"stopped by signal {signal}")
        self.signal = signal
        self.state = state


@contextlib.contextmanager
def stop_signals(state: Callable[[], State] = lambda: "preempted") -> Iterator[None]:
    """Within the block, SIGTERM, Ctrl-C and a closed terminal raise Stopped with the value of `state()`.

    Only the first signal does, so that cleaning up is not interrupted. Under nohup, a closed terminal has no effect.
    """
    came: list[Stopped] = []

    def stop(number: int, frame: Any) -> None:
        for other in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(other, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        came.append(Stopped(number, state()))
        raise came[0]

    try:
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
        for number in before:
            if (number, before[number]) != (signal.SIGHUP, signal.SIG_IGN):
                signal.signal(number, stop)
    except ValueError:  # not in the main thread, which alone receives signals
        before = {}
    try:
        yield
    except Exception as error:
        if came:  # it interrupted the import of a compiled module, which turns it into an ImportError
            raise came[0] from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
