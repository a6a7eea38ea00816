"""The configuration directory and the options of its groups. Reads file names only, no YAML."""

from collections.abc import Sequence
from pathlib import Path

CONFIG = "config"
"""The name of the primary configuration."""


def conf_dir() -> Path:
    """The configuration directory: `conf/` of a checkout, or its copy inside the installed package."""
    package = Path(__file__).parent
    return next(
        folder for folder in (package / "conf", package.parent / "conf") if (folder / f"{CONFIG}.yaml").exists()
    )


def option_groups(folders: Sequence[Path]) -> dict[str, list[str]]:
    """The options of every group in these directories, by the group's name, without duplicates."""
    found: dict[str, list[str]] = {}
    for folder in folders:
        for file in sorted(folder.rglob("*.yaml")):
            group, _, below = str(file.relative_to(folder).with_suffix("")).partition("/")
            if below and group != "hydra":  # Hydra's own settings
                options = found.setdefault(group, [])
                if below not in options:
                    options.append(below)
    return found
