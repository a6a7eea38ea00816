"""The tables of options in docs/experiments, made from the classes: `python -m tests.documentation` writes them."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from anchorflow import experiments
from anchorflow.help import documentation
from anchorflow.settings import defaults_of

DOCS = Path(__file__).parents[1] / "docs"
TABLE = re.compile(r"(<!-- options: (\w+) -->\n).*?(<!-- end -->)", re.S)


def options(experiment: str) -> str:
    """The table of this class: a row for each setting."""
    cls: Any = getattr(experiments, experiment)
    texts, defaults = documentation(cls), defaults_of(cls)
    rows = []
    for each in fields(cls):
        kind = cls.__pydantic_fields__[each.name].annotation
        allowed = (
            [value for value in get_args(kind) if value != defaults[each.name]] if get_origin(kind) is Literal else []
        )
        values = "; ".join(f"`{written(value)}`" for value in [defaults[each.name], *allowed])
        rows.append(f"| `{each.name}` | {values} | {texts[each.name]} |")
    return "\n".join(["| `experiment.` | default; others | meaning |", "|---|---|---|", *rows, ""])


def written(value: object) -> str:
    """A default as one types it."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(written, value))}]"
    return "null" if value is None else str(value)


def updated(page: str) -> str:
    """The page with the tables of today."""
    return TABLE.sub(lambda found: found[1] + options(found[2]) + found[3], page)


if __name__ == "__main__":
    for path in (DOCS / "experiments").glob("*.md"):
        path.write_text(updated(path.read_text()))
