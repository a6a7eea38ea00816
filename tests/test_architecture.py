"""CONTRIBUTING's map of the code is right: it names every room, imports only point down, and files stay short."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "anchorflow"
LONGEST = 400


def rows() -> dict[str, int]:
    """The row of every room of the table."""
    lines = [line for line in (ROOT / "CONTRIBUTING.md").read_text().splitlines() if line.startswith("| `")]
    named = [re.findall(r"`([a-z_]+)(?:/|\.py)?`", line.split("|")[1]) for line in lines]
    return {name: row for row, names in reversed(list(enumerate(named))) for name in names}


def imported(path: Path) -> Iterator[str]:
    """The rooms of anchorflow that a file imports from, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "anchorflow":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("anchorflow."):
            yield str(node.module).split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("anchorflow."))


def files() -> list[Path]:
    """All of the package but the door that gives out its public names."""
    return [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]


def test_the_map_names_every_room_and_imports_only_point_down() -> None:
    row = rows()
    of = {path: path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in files()}
    assert set(of.values()) <= row.keys()
    upward = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files()
        for name in imported(path)
        if name != "__version__" and row[name] < row[of[path]]
    }
    assert not upward


def test_hydra_is_known_to_the_sweeps_alone_and_its_internals_to_one_file() -> None:
    sees = [
        path.relative_to(PACKAGE)
        for path in files()
        if re.search(r"^\s*(from|import) (hydra|omegaconf)", path.read_text(), re.M)
    ]
    assert {path.parts[0] for path in sees} == {"sweep"}
    inside = [path.name for path in files() if "hydra._internal" in path.read_text()]
    assert inside == ["hydra_internals.py"]


def test_no_file_is_long() -> None:
    everything = [*files(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "examples").rglob("*.py")]
    long = {
        str(path.relative_to(ROOT)): n for path in everything if (n := len(path.read_text().splitlines())) > LONGEST
    }
    assert not long
