"""The help page of `anchorflow run`, and the list of a class's settings, both generated from the code and conf/."""

from __future__ import annotations

import ast
import inspect
import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from anchorflow.conf_files import conf_dir, option_groups
from anchorflow.errors import UserError, did_you_mean

EXAMPLES = """
python launch.py
python launch.py dataset=trec experiment=classification experiment.shots_per_class=5
python launch.py model=local model.path=/models/my-llama dataset=local dataset.path=/data/my-task
python launch.py model=tiny experiment.n_queries=10 tracking=none
python launch.py experiment=label_relationships   # quick; the paper's: -m sweep=nh1_random_labels
python launch.py -m model=gpt2-xl,gpt-j dataset=sst2,trec seed=42,43,44,45,46
python launch.py -m sweep=fig3_saliency sweep.scale=small
python launch.py -m sweep=fig3_saliency launcher=slurm launcher.partition=gpu sweep.wait=false
""".strip()
PAGE = """\
anchorflow - experiments on how in-context learning works. One run, or a sweep with -m.
`python launch.py ...` and `anchorflow run ...` are the same command.

Choose an option of each group with GROUP=OPTION:

{groups}

Change a setting with KEY=VALUE:

{settings}

  experiment.KEY, model.KEY, dataset.KEY, tracking.KEY, launcher.KEY: anchorflow options GROUP=OPTION lists them
  hydra.run.dir=DIR (default: outputs/EXPERIMENT/MODEL/DATASET/seedSEED-HASH)
  --config-dir DIR: a directory with your own options

Examples:

{examples}

Hydra's own flags (--cfg job prints the configuration, --multirun, ...): python launch.py --hydra-help"""


def page(config_dir: Path | None = None) -> str:
    """The help page, with the options of the project and those in `config_dir`."""
    folders = [conf_dir(), *([config_dir] if config_dir else [])]
    width = min(120, shutil.get_terminal_size((120, 24)).columns)
    groups = [
        textwrap.fill(f"{name}: {', '.join(options)}", width, initial_indent="  ", subsequent_indent="    ")
        for name, options in option_groups(folders).items()
    ]
    settings = [f"  {name}  {text}" for name, text in _top_level(conf_dir())]
    return PAGE.format(groups="\n".join(groups), settings="\n".join(settings), examples=textwrap.indent(EXAMPLES, "  "))


def _top_level(conf: Path) -> Iterator[tuple[str, str]]:
    """The settings outside all groups, read from the source so that the help page needs no imports."""
    package = Path(__file__).parent
    for file, name, prefix in (("runs/settings.py", "Job", ""), ("sweep/settings.py", "Sweep", "sweep.")):
        tree = ast.parse((package / file).read_text(encoding="utf-8"))
        (found,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
        for field, default, text in _documented(found):
            shown = "" if default is None else f"={_written(ast.literal_eval(default))}"
            yield f"{prefix}{field}{shown}", text


def options(option: str, config_dir: Path | None = None) -> str:
    """The settings of a group's option: name, type, value and one line of help each. `saliency` means experiment=saliency.

    Raises:
        UserError: there is no such option.
    """
    from anchorflow.settings import locate
    from anchorflow.sweep import compose_node

    group, _, name = option.rpartition("=")
    group = group or "experiment"
    known = option_groups([conf_dir(), *([config_dir] if config_dir else [])])
    if group not in known or group == "sweep":
        allowed = ", ".join(group for group in known if group != "sweep")
        raise UserError(f"there is no group {group!r}; allowed: {allowed} (anchorflow options GROUP=OPTION).")
    if "=" not in option and name not in known[group]:
        elsewhere = [
            f"anchorflow options {other}={name}" for other in known if name in known[other] and other != "sweep"
        ]
        if elsewhere:
            raise UserError(f"{name!r} is not an experiment; write {' or '.join(elsewhere)}.")
    if name not in known[group]:
        raise UserError(f"{group} is {name!r}; allowed: {', '.join(known[group])}.{did_you_mean(name, known[group])}")
    node = compose_node(group, name, config_dir=config_dir)
    target: Any = locate(node.get("_target_"), group)
    lines = [f"{group}={name} ({node['_target_']})", textwrap.indent(inspect.getdoc(target) or "", "  "), ""]
    documented = documentation(target)
    for field in fields(target):
        value = f" = {_written(node[field.name])}" if field.name in node else ""
        lines.append(f"  {group}.{field.name}{value}  ({_type(target.__pydantic_fields__[field.name].annotation)})")
        lines += textwrap.wrap(documented.get(field.name, ""), 110, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines)


def documentation(cls: type) -> dict[str, str]:
    """The docstring below each field of a dataclass and its bases, on one line."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if "__dataclass_fields__" not in vars(base):
            continue
        try:
            (node,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        except (OSError, TypeError, ValueError, SyntaxError):  # a class without a source file has no documentation
            continue
        if isinstance(node, ast.ClassDef):
            found |= {name: text for name, _, text in _documented(node) if text}
    return found


def _documented(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr | None, str]]:
    """Name, default (None if there is none) and docstring of each field in a class's source."""
    for at, statement in enumerate(node.body):
        if not isinstance(statement, ast.AnnAssign) or "ClassVar" in ast.unparse(statement.annotation):
            continue
        name, default, text = ast.unparse(statement.target), statement.value, ""
        if isinstance(default, ast.Call):  # setting(default=..., kind=...)
            default = next((keyword.value for keyword in default.keywords if keyword.arg == "default"), None)
        following = node.body[at + 1] if at + 1 < len(node.body) else None
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            text = " ".join(str(following.value.value).split())
        yield name, default, text


def _type(annotation: Any) -> str:
    """A type as a user reads it: `int | null`, `auto | float32`."""
    plain = isinstance(annotation, type) and not hasattr(annotation, "__args__")
    text = annotation.__name__ if plain else str(annotation)
    text = re.sub(r"Literal\[([^]]*)\]", lambda found: found[1].replace("'", "").replace(", ", " | "), text)
    return text.replace("typing.", "").replace("None", "null")


def _written(value: Any) -> str:
    """A value as one types it on the command line."""
    if isinstance(value, str):
        return repr(value)[1:-1] if value.isprintable() and value and " " not in value else repr(value)
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, Iterable) and not isinstance(value, dict):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_written(of_key)}' for key, of_key in value.items())}}}"
    return str(value)
