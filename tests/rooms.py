"""The diagram of docs/tour.md, drawn from the imports: `python -m tests.documentation` writes it."""

from functools import cache

from tests.conftest import ROOT
from tests.test_architecture import PACKAGE, files, imported, rows

FILE = ROOT / "docs" / "rooms.svg"
LEFT_OUT = {"__main__", "errors", "paths"}  # imported from everywhere, or by nothing
BOX, ROW, COLUMN, MARGIN = (124, 26), 46, 152, 12


def order(room: str) -> tuple[int, str]:
    """Its place in CONTRIBUTING's table, whose rows may have several rooms."""
    return rows()[room], room


@cache
def imports() -> dict[str, set[str]]:
    """For each room, the rooms that it imports."""
    found: dict[str, set[str]] = {name: set() for name in rows() if name not in LEFT_OUT | {"launch"}}
    for path in files():
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room in found:
            found[room] |= {name for name in imported(path) if name in found and name != room}
    return found


@cache
def below(room: str) -> set[str]:
    """All rooms that a room imports, directly or through others."""
    return imports()[room].union(*map(below, imports()[room]))


def arrows() -> list[tuple[str, str]]:
    """The imports that do not follow from others (the transitive reduction)."""
    return [
        (room, to)
        for room, direct in imports().items()
        for to in sorted(direct, key=order)
        if not any(to in below(other) for other in direct)
    ]


@cache
def depth(room: str) -> int:
    """The length of the longest chain of imports that ends at a room."""
    return max((depth(other) + 1 for other, direct in imports().items() if room in direct), default=0)


def svg() -> str:
    """The rooms in rows, each below everything that imports it."""
    layers: dict[int, list[str]] = {}
    for room in sorted(imports(), key=order):
        layers.setdefault(depth(room), []).append(room)
    widest = max(map(len, layers.values()))
    width, height = widest * COLUMN + 2 * MARGIN, (max(layers) + 1) * ROW + 2 * MARGIN
    centre = {
        room: (width / 2 + (i - (len(of) - 1) / 2) * COLUMN, MARGIN + layer * ROW + BOX[1] / 2)
        for layer, of in layers.items()
        for i, room in enumerate(of)
    }
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="monospace" font-size="13" text-anchor="middle">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#555"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for room, to in arrows():
        (x, y), (u, v) = centre[room], centre[to]
        y, v = y + BOX[1] / 2, v - BOX[1] / 2
        path = f"M{x:g} {y:g}C{x:g} {y + ROW / 2:g} {u:g} {v - ROW / 2:g} {u:g} {v:g}"
        lines.append(f'<path d="{path}" fill="none" stroke="#555" marker-end="url(#tip)"/>')
    for room, (x, y) in centre.items():
        box = f'x="{x - BOX[0] / 2:g}" y="{y - BOX[1] / 2:g}" width="{BOX[0]}" height="{BOX[1]}" rx="5"'
        lines.append(f'<rect {box} fill="#eef2fb" stroke="#44b"/><text x="{x:g}" y="{y + 4:g}">{room}</text>')
    return "\n".join([*lines, "</svg>", ""])
