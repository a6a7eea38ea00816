"""The report as one HTML page that opens from disk: scripts, styles, plotting library and numbers are all inside it."""

import base64
import hashlib
import importlib.util
import json
from collections.abc import Sequence
from importlib.resources import files

from anchorflow.errors import UserError
from anchorflow.report.cells import Cell
from anchorflow.report.collect import Collection
from anchorflow.report.page.data import content
from anchorflow.report.tables.sheets import Sheet

ASSETS = files("anchorflow.report.page") / "assets"
SCRIPTS = ("base.js", "runs.js", "flow.js", "curves.js", "matrices.js", "sheets.js", "start.js")


def page(collection: Collection, cells: Sequence[Cell], sheets: Sequence[Sheet]) -> str:
    """The page's text.

    Its own policy forbids every request, and every script but those written here: what a name or a text of the data
    holds can neither run nor send anything.
    """
    scripts = [
        _script(text) for text in (_plotly(), *((ASSETS / name).read_text(encoding="utf-8") for name in SCRIPTS))
    ]
    parts = {
        "hashes": " ".join(f"'sha256-{_sha256(script)}'" for script in scripts),
        "style": (ASSETS / "page.css").read_text(encoding="utf-8"),
        "data": embedded(content(collection, cells, sheets)),
        "scripts": "\n".join(f"<script>{script}</script>" for script in scripts),
    }
    template = (ASSETS / "page.html").read_text(encoding="utf-8")
    first, *others = template.split("{{")
    return first + "".join(parts[name] + text for name, text in (other.split("}}", 1) for other in others))


def embedded(value: object) -> str:
    """JSON that stays within its script element: no sign of it can begin a tag or a comment."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def refuse_without_plotly() -> None:
    """UserError where the library that draws the curves is not installed."""
    if importlib.util.find_spec("plotly") is None:
        raise UserError("a report's page needs plotly; run: pip install 'anchorflow[report]'.")


def _plotly() -> str:
    text = (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _script(text: str) -> str:
    return "\n" + text.replace("\r\n", "\n")  # as the browser reads it, which the hash is of


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
