"""Whatever a tracker raises, the run has its result."""

import pytest

from anchorflow.results import Result
from anchorflow.tracking import Content, Sample, recording

CONTENT = Content(result=Result(metrics={}), sample=Sample([], []), dataset={})


@pytest.mark.parametrize("at", ["begin", "enter", "log", "end"])
def test_a_tracker_of_ones_own_that_raises_costs_no_result(at: str, caplog: pytest.LogCaptureFixture) -> None:
    def fail(where: str) -> None:
        if where == at:
            raise OSError("no luck")

    class Broken:
        def __enter__(self) -> "Broken":
            fail("enter")
            return self

        def __exit__(self, *how: object) -> None:
            fail("end")

        def log(self, content: Content) -> None:
            fail("log")

    def begin() -> Broken:
        fail("begin")
        return Broken()

    with recording(begin) as recorder:
        recorder.log(CONTENT)
    assert caplog.text.count("tracker: it failed (OSError: no luck); the run continues without it") == 1
    with pytest.raises(ZeroDivisionError), recording(begin):
        raise ZeroDivisionError
