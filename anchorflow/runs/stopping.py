"""Signals to end, as an exception: what is under way is tidied up, and finished work is kept."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any

from anchorflow.runs.rundir import State


class Stopped(BaseException):
    """A signal to end: not an error of the work. `state` is what becomes of the run."""

    def __init__(self, signal: int, state: State) -> None:
        super().__init__(f"stopped by signal {signal}")
        self.signal = signal
        self.state = state


@contextlib.contextmanager
def stop_signals(state: Callable[[], State] = lambda: "preempted") -> Iterator[None]:
    """SIGTERM, Ctrl-C and a closed terminal raise Stopped in this block; `state` is asked then. Once: what follows is
    tidying up. Under nohup a closed terminal does nothing.
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
    except ValueError:  # not in the main thread, where signals do not arrive
        before = {}
    try:
        yield
    except Exception as error:
        if came:  # it met the import of a compiled module, which makes an ImportError of it
            raise came[0] from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
