"""Outcomes as lines and tables."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from tests.families.judge import NO_ORACLE, NOT_BUILT, OUTCOMES, REFUSED, RIGHT, TRACEBACK, WRONG, Outcome, experiments

Families = Mapping[str, Mapping[str, Outcome]]
MARKS = {RIGHT: "✓", REFUSED: "–", NO_ORACLE: "(✓)", WRONG: "wrong", TRACEBACK: "error", NOT_BUILT: "?"}
OWN = (
    (r": off by \S+ standard deviations of the logits", ""),
    (r"model type '[\w-]+'", "it"),
    (r"its \d+ layers", "its layers"),
    (r"(choose the positions that they see) \(.*\)", r"\1"),
    (r"experiment=\w+ reads attention maps; \w+ has", "it has"),
    (r"its code ends in \w+ \(.*\)", "its code ends in an exception"),
    (r"\d+ of the \d+ (attention layers) of it", r"not all \1"),
)
"""What reasons say of one family, and what in its place."""
INTRODUCTION = """# Which models work

Every causal language model of transformers {transformers} as a tiny model of random weights, in every experiment. Each number
is compared with a plain oracle: one whole prompt at a time, through the family's own eager attention, without padding or KV
cache. `make families` makes this file. {usable} of {tried} models run, and are right in every experiment that is not refused.

✓ right (within 0.0001); – refused, with the reason below; (✓) runs, but its code shows no attention map to compare with;
"""


def in_short(outcomes: Mapping[str, Outcome]) -> str:
    """One line: how often each outcome, and the first that is bad."""
    every = list(outcomes.values())
    count = {name: sum(o["outcome"] == name for o in every) for name in OUTCOMES}
    parts = ", ".join(f"{n} {name}" for name, n in count.items() if n)
    bad = next((f"  {e}: {o['why']}" for e, o in outcomes.items() if o["outcome"] in (WRONG, TRACEBACK, NOT_BUILT)), "")
    return f"{parts}{bad[:160]}"


def counts(families: Families) -> str:
    """Of every experiment, how many families have each outcome."""
    names = ["model", *(e.name for e in experiments())]
    lines = [f"{'':22}" + "".join(f"{outcome:>11}" for outcome in OUTCOMES)]
    for name in names:
        found = [o[name]["outcome"] for o in families.values() if name in o]
        if found:
            lines.append(f"{name:22}" + "".join(f"{found.count(outcome):11}" for outcome in OUTCOMES))
    return "\n".join(lines)


def markdown(families: Families, about: Mapping[str, Any]) -> str:
    """A row for every family, and the reasons."""
    columns = [e.name for e in experiments()]
    present = {o["outcome"] for outcomes in families.values() for o in outcomes.values()}
    legend = {WRONG: '"wrong": another number', TRACEBACK: '"error": it ends in a traceback', NOT_BUILT: "? not tried"}
    more = "; ".join(text for outcome, text in legend.items() if outcome in present)
    tried = [outcomes for outcomes in families.values() if "model" not in outcomes]
    usable = [o for o in tried if {RIGHT} <= {e["outcome"] for e in o.values()} <= {RIGHT, REFUSED, NO_ORACLE}]
    said = {**about, "tried": len(tried), "usable": len(usable)}
    lines = [INTRODUCTION.format(**said).rstrip().rstrip(";") + (f"; {more}." if more else "."), ""]
    lines.append("| family | " + " | ".join(name.replace("_", " ") for name in columns) + " |")
    lines.append("|---|" + "---|" * len(columns))
    reasons: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for family, outcomes in sorted(families.items()):
        unbuilt = outcomes.get("model")
        marks = [MARKS[(unbuilt or outcomes[name])["outcome"]] for name in columns]
        lines.append(f"| {family} | " + " | ".join(marks) + " |")
        for name, outcome in outcomes.items():
            if outcome["outcome"] != RIGHT:
                reasons[outcome["outcome"], _core(outcome["why"])][family].append(name)
    for wanted in OUTCOMES[1:]:
        rows = sorted((why, of) for (outcome, why), of in reasons.items() if outcome == wanted)
        if rows:
            lines += ["", f"## {wanted.capitalize()}", ""]
            lines += [f"* {_plain(why)} {_families(of)}" for why, of in rows]
    return "\n".join(lines) + "\n"


def _families(of: Mapping[str, list[str]]) -> str:
    """The families, in brackets with the experiments where these are not all the same."""
    alike = defaultdict(list)
    for family, names in of.items():
        alike[", ".join(names)].append(family)
    return "; ".join(f"**{', '.join(families)}** ({names})" for names, families in alike.items())


def _core(why: str) -> str:
    """What families have in common: of a refusal by the self-check the property, without the size of what differs."""
    if "has layers that see" in why:
        return (
            "these layers see a window of tokens, in the tiny model shorter than a prompt; a model of a usual size is refused "
            "for prompts longer than its window alone"
        )
    why = re.sub(r"^experiment=.* The model fails the check that (.*?)(\. It can run:.*)?$", r"\1", why)
    for own, common in OWN:
        why = re.sub(own, common, why)
    return why


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("_", "\\_").replace("<", "&lt;")
