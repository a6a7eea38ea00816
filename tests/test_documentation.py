"""README and docs/ are true: links and pictures are there, tables of options are those of the classes, names exist."""

import ast
import re
import shlex
from pathlib import Path

import pytest
import yaml

from anchorflow import api, experiments
from anchorflow.conf_files import conf_dir, option_groups
from anchorflow.runs import read_settings
from anchorflow.settings import locate
from anchorflow.sweep.composition import as_hydra_reads
from tests.conftest import ROOT
from tests.documentation import DOCS, TABLE, updated
from tests.test_settings import composed

PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def blocks(page: Path, language: str = "") -> list[str]:
    """The fenced blocks in this language."""
    fenced = re.findall(r"^```([^\n]*)\n(.*?)^```$", page.read_text(), re.S | re.M)
    return [text for named, text in fenced if named == language]


def anchors(page: Path) -> set[str]:
    """What its headings are called in links."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_the_readme_is_short_and_begins_with_the_two_commands() -> None:
    readme = PAGES[0]
    assert readme.stat().st_size < 6000
    assert [line.split("#")[0].strip() for line in blocks(readme)[0].splitlines()] == ["make run", "make test"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


def commands() -> set[str]:
    """Every run and sweep that the pages show, but those of examples/own_project and those with a flag of Hydra's."""
    shown = "\n".join(block for page in PAGES for block in blocks(page) + blocks(page, "bash"))
    lines = re.findall(r"^(?:python launch\.py|anchorflow run) (.*)$", shown.replace("\\\n", " "), re.M)
    return {line for line in lines if "--" not in line}


def first_cell(override: str) -> str:
    """Of the values that a sweep takes one after another the first."""
    key, _, values = override.partition("=")
    return override if values[:1] in '[{"' else f"{key}={values.split(',')[0]}"


@pytest.mark.slow
def test_the_settings_of_every_command_are_accepted() -> None:
    assert len(commands()) > 30
    for command in commands():
        words = shlex.split(command, comments=True)
        overrides = [word for word in words if word != "-m"]
        if "-m" in words:
            overrides = [first_cell(word) for word in overrides]
        read_settings(composed(*as_hydra_reads(overrides)))


def test_every_experiment_has_a_page_with_its_options() -> None:
    pages = {path.stem: path.read_text() for path in (DOCS / "experiments").glob("*.md") if path.stem != "index"}
    assert pages.keys() == set(option_groups([conf_dir()])["experiment"])
    for name, page in pages.items():
        found = TABLE.search(page)
        assert found is not None, name
        assert locate(found[3], "experiment").name == name
        for part in ("**Question.**", "## Definition", "## Outputs", "## Choices"):
            assert part in page


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: str(page.relative_to(ROOT)))
def test_tables_of_options_are_those_of_the_classes(page: Path) -> None:
    assert updated(page.read_text()) == page.read_text(), "python -m tests.documentation writes the tables"


def test_the_presets_are_listed() -> None:
    page = (DOCS / "experiments" / "index.md").read_text()
    assert all(f"`{name}`" in page for name in option_groups([conf_dir()])["sweep"])


def test_the_python_page_has_every_public_class_and_function() -> None:
    """Experiments are on pages of their own; the others are named by mkdocstrings."""
    page = (DOCS / "api.md").read_text()
    shown = set(re.findall(r"^::: anchorflow\.[\w.]*?\.?(\w+)$", page, re.M))
    aliases = {"Attend", "Tap", "Record"}  # of types
    elsewhere = set(experiments.__all__) - {"Experiment", "FewShot"}
    assert set(api.__all__) - aliases - elsewhere <= shown


def test_the_weights_are_those_that_make_installs() -> None:
    (weights,) = re.findall(r"^WEIGHTS := (\S+)$", (ROOT / "Makefile").read_text(), re.M)
    for page in (ROOT / "README.md", DOCS / "install.md"):
        assert re.findall(r"--no-deps ([\w.=-]+)", page.read_text()) == [weights]


def test_every_page_is_in_the_sites_navigation() -> None:
    named = re.findall(r"[\w/-]+\.md", yaml.safe_dump(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert sorted(named) == sorted(str(path.relative_to(DOCS)) for path in PAGES[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_blocks_are_python_and_take_public_names(page: Path) -> None:
    for block in blocks(page, "python"):
        compile(block, str(page), "exec")
        for name in re.findall(r"\baf\.(\w+)", block):
            assert name in api.__all__


def quoted() -> list[str]:
    """The messages that the page Troubleshooting quotes."""
    rows = re.findall(r"^\| (.*?) \| ", (DOCS / "troubleshooting.md").read_text(), re.M)
    return [message for row in rows for message in re.findall(r"`(.+?)`", row)]


def constants(node: ast.AST) -> str:
    """All constant text in a piece of code."""
    found = [each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    return "\0".join(found)


def test_troubleshooting_quotes_messages_that_there_are() -> None:
    said = "\0".join(constants(ast.parse(path.read_text())) for path in (ROOT / "anchorflow").rglob("*.py"))
    assert len(quoted()) > 100
    for message in quoted():
        for part in re.split(r"…|\b[A-Z]+\b|=", message):
            assert part.strip(" .,;:") in said, message


def test_every_kind_of_error_has_a_row() -> None:
    """Those whose text is written in the call; others pass on what a library or another function says."""
    placeholder = re.compile(r"…|\b(?:KEY|VALUE|NAME|DATASET|MODEL|DEVICE|GROUP|OPTION|[NMXY])\b")
    rows = [[part.strip(" .,;:") for part in placeholder.split(message)] for message in quoted()]
    known = [[part for part in parts if part] for parts in rows if max(map(len, parts)) > 4]
    lacking = []
    for path in sorted((ROOT / "anchorflow").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""
            if name in ("UserError", "SettingError", "refuse"):
                said = constants(node)
                if len(re.findall(r"[a-z]{2,}", said)) > 5 and not any(all(p in said for p in row) for row in known):
                    lacking.append(f"{path.name}: {said}")
    assert not lacking
