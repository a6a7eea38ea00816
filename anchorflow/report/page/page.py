"""The report as one HTML page that opens from disk: scripts, styles, plotting library and numbers are all inside it."""

import base64
import hashlib
import html
import importlib.util
import json
from collections.abc import Iterable, Mapping
from importlib.resources import files

from anchorflow.errors import UserError

ASSETS = files("anchorflow.report.page") / "assets"
SHARED = ("base.js", "state.js", "export.js", "runs.js", "flow.js", "panel.js", "prompt.js")
REPORT = (*SHARED, "curves.js", "matrices.js", "sheets.js", "start.js")
"""In the order in which the sections are drawn."""
SHOW = (*SHARED, "start.js")


def page(shown: Mapping[str, object]) -> str:
    """The text of a report's page, with this `page.data.content`."""
    return _assembled("anchorflow report", "report.html", (_plotly(), *map(_asset, REPORT)), shown)


def flow_page(title: str, shown: Mapping[str, object]) -> str:
    """The text of a page that has the flow view alone, as a report's page has it, of this content."""
    return _assembled(title, "show.html", map(_asset, SHOW), shown)


def _assembled(title: str, body: str, scripts: Iterable[str], shown: Mapping[str, object]) -> str:
    """A page's text.

    Its own policy forbids every request, and every script but those written here: what a name or a text of the data
    holds can neither run nor send anything.
    """
    scripts = [_script(text) for text in scripts]
    parts = {
        "title": html.escape(title).encode("ascii", "xmlcharrefreplace").decode(),  # whatever a name holds
        "hashes": " ".join(f"'sha256-{_sha256(script)}'" for script in scripts),
        "style": _asset("page.css"),
        "body": _filled(_asset(body), {"flow": _asset("flow.html")}),
        "data": embedded(shown),
        "scripts": "\n".join(f"<script>{script}</script>" for script in scripts),
    }
    return _filled(_asset("page.html"), parts)


def _filled(template: str, parts: Mapping[str, str]) -> str:
    first, *others = template.split("{{")
    return first + "".join(parts[name] + text for name, text in (other.split("}}", 1) for other in others))


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


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
