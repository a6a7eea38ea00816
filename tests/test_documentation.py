"""README and docs/ are true: links and pictures are there, tables of options are those of the classes, names exist."""

import re
from pathlib import Path

import pytest
import yaml

from anchorflow import api, experiments
from anchorflow.conf_files import conf_dir, option_groups
from tests.conftest import ROOT
from tests.documentation import DOCS, TABLE, updated

PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
OWN = {"recency", "toy-gpt2", "weather", "csv"}  # of examples/own_project


def blocks(page: Path, language: str = "") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.S | re.M)


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_name_options_that_there_are(page: Path) -> None:
    groups = option_groups([conf_dir()])
    commands = [line for block in blocks(page) + blocks(page, "bash") for line in block.splitlines()]
    named = re.findall(
        r"(?<![\w.])(model|dataset|experiment|sweep|launcher|tracking|launcher/site)=([\w/,.-]+)", "\n".join(commands)
    )
    for group, values in named:
        known = groups["launcher" if group == "launcher/site" else group]
        for value in values.split(","):
            assert value in known or f"site/{value}" in known or value in OWN, f"{group}={value}"


def test_every_experiment_has_a_page_with_its_options() -> None:
    pages = {path.stem: path.read_text() for path in (DOCS / "experiments").glob("*.md") if path.stem != "index"}
    assert pages.keys() == set(option_groups([conf_dir()])["experiment"])
    for name, page in pages.items():
        found = TABLE.search(page)
        assert found is not None, name
        assert getattr(experiments, found[2]).name == name
        assert updated(page) == page, "python -m tests.documentation writes the tables"
        for part in ("**Question.**", "## Definition", "## Outputs", "## Choices"):
            assert part in page


def test_the_presets_are_listed() -> None:
    page = (DOCS / "experiments" / "index.md").read_text()
    assert all(f"`{name}`" in page for name in option_groups([conf_dir()])["sweep"])


def test_the_python_page_has_every_public_class_and_function() -> None:
    """Experiments are on pages of their own; the others are named by mkdocstrings."""
    page = (DOCS / "api.md").read_text()
    shown = set(re.findall(r"^::: anchorflow\.[\w.]*?\.?(\w+)$", page, re.M))
    shown |= {name for names in re.findall(r"members: \[(.*)\]", page) for name in names.split(", ")}
    aliases = {"Attend", "Tap", "Record"}  # of types
    elsewhere = set(experiments.__all__) - {"Experiment", "FewShot"}
    assert set(api.__all__) - aliases - elsewhere <= shown


def test_every_page_is_in_the_sites_navigation() -> None:
    named = re.findall(r"[\w/-]+\.md", yaml.safe_dump(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert sorted(named) == sorted(str(path.relative_to(DOCS)) for path in PAGES[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_blocks_are_python_and_take_public_names(page: Path) -> None:
    for block in blocks(page, "python"):
        compile(block, str(page), "exec")
        for name in re.findall(r"\baf\.(\w+)", block):
            assert name in api.__all__
