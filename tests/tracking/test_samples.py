"""A sample is the same each time, has a row for each variant, and shows that a text was cut."""

import pytest

from anchorflow.data import Task, Template
from anchorflow.experiments import QUERY, REPETITION, LabelRelationships
from anchorflow.models import Tiny
from anchorflow.prompts import Prompt, PromptBuilder
from anchorflow.tracking.samples import LONGEST, MOST, cut, draw_sample


def prompt(number: int, text: str = "text") -> Prompt:
    return Prompt(number, number % 2, (1, 2, 3), (), (1, 2), text)


def record(number: int, **probs: list[float]) -> dict[str, object]:
    return {"query": number, "variants": {name: {"probs": values} for name, values in probs.items()}}


def test_each_variant_of_a_query_is_a_row_with_its_prediction_and_its_prompt() -> None:
    found = draw_sample(
        QUERY,
        [prompt(1, "a"), prompt(2, "b")],
        [record(2, full=[0.75, 0.25]), record(1, full=[0.25, 0.75], other=[0.5, 0.5])],
        ["no", "yes"],
        str,
    )
    assert found.columns == ["query", "variant", "label", "prediction", "correct", "p(no)", "p(yes)", "prompt"]
    assert found.rows == [
        [1, "full", "yes", "yes", True, 0.25, 0.75, "a"],
        [1, "other", "yes", "no", False, 0.5, 0.5, "a"],
        [2, "full", "no", "no", True, 0.75, 0.25, "b"],
    ]


@pytest.mark.parametrize("n", [1, MOST - 1, MOST, MOST + 1, 3 * MOST + 7])
def test_a_sample_is_spread_over_the_units_that_have_a_record(n: int) -> None:
    units = [prompt(i) for i in range(n + 1)]
    records = [record(i, full=[0.5, 0.5]) for i in range(n)]  # the last one was skipped
    rows = draw_sample(QUERY, units, records, ["no", "yes"], str).rows
    queries = [row[0] for row in rows]
    assert len(queries) == len(set(queries)) == min(n, MOST)
    assert queries == sorted(queries)
    assert queries[0] == 0
    assert queries[-1] >= n - 1 - n // MOST


def test_of_a_repetition_the_last_example_is_predicted_in_every_regime(task: Task) -> None:
    lm = Tiny(layers=1).load("cpu", "float32")
    experiment = LabelRelationships(regimes=("default", "flipped"), n_demonstrations=4, repetitions=2)
    builder = PromptBuilder(lm.tokenizer, Template("Question: {text}\nType:{label}"), task.label_words, "\n")
    work = experiment.prepare(task, builder, 42)
    records = [r for batch in experiment.map(lm, work, experiment.plan(work.units, 1024), None, 1024) for r in batch]  # type: ignore[arg-type]
    found = draw_sample(REPETITION, work.units, records, task.labels, lm.tokenizer.decode)
    assert found.columns[:2] == ["repetition", "regime"]
    assert [row[:2] for row in found.rows] == [[n, name] for n in (0, 1) for name in ("default", "flipped")]
    for row, repetition in zip(found.rows[::2], work.units, strict=True):
        assert row[2] == task.labels[repetition.labels[-1]]
        assert sum(row[5:8]) == pytest.approx(1)
        assert row[-1].count("Question:") == 4
        assert row[-1].endswith("Type:")


def test_a_long_text_is_cut_in_the_middle_and_says_so() -> None:
    assert cut("x" * LONGEST) == "x" * LONGEST
    found = cut("beginning" + "x" * 10_000 + "end")
    assert len(found) < LONGEST + 60
    assert found.startswith("beginning")
    assert found.endswith("end")
    assert "8,012 characters left out" in found
