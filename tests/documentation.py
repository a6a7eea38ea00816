"""The generated parts of docs/: tables of options, made from the classes, and those of the tour.

`python -m tests.documentation` writes them.
"""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from anchorflow.help import documentation
from anchorflow.settings import defaults_of, locate

DOCS = Path(__file__).parents[1] / "docs"
TABLE = re.compile(r"(<!-- options: (\w+) ([\w.]+) -->\n).*?(<!-- end -->)", re.S)


def options(group: str, path: str) -> str:
    """The table of the class at this import path: a row for each setting of the group (`shared`: of none)."""
    cls: Any = locate(path, group)
    texts, defaults = documentation(cls), defaults_of(cls)
    rows = []
    for each in fields(cls):
        default = defaults[each.name]
        others = [value for value in literals(cls.__pydantic_fields__[each.name].annotation) if value != default]
        values = "; ".join(f"`{written(value)}`" for value in [default, *others])
        rows.append(f"| `{each.name}` | {values} | {texts[each.name]} |")
    heading = "setting" if group == "shared" else f"`{group}.`"
    return "\n".join([f"| {heading} | default; others | meaning |", "|---|---|---|", *rows, ""])


def literals(kind: Any) -> list[Any]:
    """The names that a setting of this type allows."""
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    return [value for part in get_args(kind) for value in literals(part)]


def written(value: object) -> str:
    """A default as one types it."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value) or '""'


def updated(page: str) -> str:
    """The page with the tables of today."""
    return TABLE.sub(lambda found: found[1] + options(found[2], found[3]) + found[4], page)


if __name__ == "__main__":
    from tests import rooms, tour

    for file in DOCS.rglob("*.md"):
        file.write_text(tour.updated(updated(file.read_text())))
    rooms.FILE.write_text(rooms.svg())
