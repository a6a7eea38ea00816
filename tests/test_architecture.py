"""CONTRIBUTING's map of the code is right: it names every file, and imports only point down."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "anchorflow"


def rows() -> dict[str, int]:
    """The row of every module or package of the table."""
    lines = [line for line in (ROOT / "CONTRIBUTING.md").read_text().splitlines() if line.startswith("| `")]
    named = [re.findall(r"`([a-z_]+)(?:/|\.py)`", line.split("|")[1]) for line in lines]
    return {name: row for row, names in reversed(list(enumerate(named))) for name in names}


def imported(path: Path) -> set[str]:
    """The modules and packages of anchorflow that a file imports, wherever in it."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    found = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module == "anchorflow":
            found |= {f"anchorflow.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in found if name.startswith("anchorflow.")}


def test_the_map_names_every_file_and_imports_only_point_down() -> None:
    row = rows()
    files = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    of = {path: path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in files}
    assert set(of.values()) <= row.keys()
    upward = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imported(path)
        if row[name] < row[of[path]]
    }
    assert not upward
