"""The blocks of docs/tour.md, made by running its command's parts: `python -m tests.documentation` writes them."""

import json
import re
from functools import cache

from anchorflow import api
from anchorflow.prompts import ContextLimit, Prompt, PromptBuilder

BLOCK = re.compile(r"( *)(<!-- tour: (\w+) -->\n).*?( *<!-- end -->)", re.S)


@cache
def blocks() -> dict[str, str]:
    """The prompt, its parts, its record and the metrics, by name; the numbers of random weights are left out."""
    lm, task = api.load_model("tiny"), api.load_task("novel")
    experiment = api.Classification(n_queries=1, shots_per_class=1)
    builder = PromptBuilder.of(task, lm.tokenizer, ContextLimit(lm.max_length, lm.name))
    (prompt,) = experiment.prepare(task, builder, seed=42).units
    result = api.run(experiment, lm, task, seed=42)
    record = re.sub(r"\[.*?\]", "[...]", json.dumps(result.records[0]))
    return {
        "prompt": prompt.text,
        "parts": parts(prompt, task.labels),
        "record": record,
        "metrics": "\n".join(f"{name}: ..." for name in result.metrics),
    }


def parts(prompt: Prompt, labels: tuple[str, ...]) -> str:
    """The positions of a prompt's parts."""
    lines = [
        f"demonstration {k}: tokens {one.start} to {one.stop - 1}, "
        f"label word {labels[one.label]!r} at {one.label_word[0]} to {one.label_word[-1]}, anchor p_{k} = {one.anchor}"
        for k, one in enumerate(prompt.demonstrations, start=1)
    ]
    query = (
        f"query: row {prompt.query} of the test split, true label {labels[prompt.label]!r}, target q = {prompt.target}"
    )
    return "\n".join([*lines, query])


def updated(page: str) -> str:
    """The page with the blocks of today."""

    def block(found: re.Match[str]) -> str:
        lines = ["```", *blocks()[found[3]].splitlines(), "```"]
        return found[1] + found[2] + "".join(f"{found[1]}{line}\n" if line else "\n" for line in lines) + found[4]

    return BLOCK.sub(block, page)
