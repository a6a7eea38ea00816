"""Twelve families of twelve kinds: no experiment gives a wrong number or a traceback."""

import pytest

from tests.families.judge import TRACEBACK, WRONG, experiments, judge

TWELVE = (
    "gpt2",
    "gptj",
    "llama",
    "qwen3",
    "gemma3",
    "gpt_oss",
    "qwen3_next",
    "jamba",
    "bloom",
    "falcon",
    "mamba",
    "opt",
)


@pytest.mark.slow
@pytest.mark.parametrize("family", TWELVE)
def test_right_or_refused_by_name(family: str) -> None:
    outcomes = dict(judge(family))
    assert list(outcomes) == [experiment.name for experiment in experiments()]
    assert not {name: o for name, o in outcomes.items() if o["outcome"] in (WRONG, TRACEBACK)}
