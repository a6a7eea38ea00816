"""`anchorflow COMMAND`: start runs, and read their results."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anchorflow import __version__
from anchorflow.errors import UserError
from anchorflow.paths import expanded


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. A user's mistake prints one line and returns 2."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["run"]:
        run(given[1:])
        return 0
    chosen = _parser().parse_args(given)
    try:
        return int(chosen.run(chosen))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader (head, less) has closed the pipe
        sys.stderr.close()
        return 0


def run(arguments: Sequence[str] | None = None) -> None:
    """One run, or with -m a sweep: `python launch.py` and `anchorflow run`. A user's mistake exits with code 1."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & set(given):
        from anchorflow.help import page

        print(page(_config_dir(given)))
        return
    if "--version" in given:
        print(f"anchorflow {__version__}")
        return
    here = str(Path.cwd())
    if here not in sys.path:  # so that a user's own classes can be imported
        sys.path.insert(0, here)
    from anchorflow.sweep import start

    start(given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="anchorflow", description="Experiments on how in-context learning works.")
    parser.add_argument("--version", action="version", version=f"anchorflow {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    # Never parsed here: Hydra reads the arguments.
    commands.add_parser("run", help="one run, or with -m a sweep (anchorflow run --help)", add_help=False)

    options = commands.add_parser("options", help="list the settings of an experiment, or of another group's option")
    options.add_argument("option", metavar="[GROUP=]OPTION", help="saliency, model=local, launcher=slurm, ...")
    options.add_argument("--config-dir", type=expanded, metavar="DIR", help="a directory with options of your own")
    options.set_defaults(run=_options)

    check = commands.add_parser("check-model", help="check that the experiments measure a model correctly")
    check.add_argument("model", metavar="MODEL", help="an option of conf/model, a hub id, a directory, a .gguf file")
    check.add_argument("--device", default="auto", help="default: an accelerator if there is one")
    check.add_argument("--dtype", default="auto", help="default: float32 on the CPU, bfloat16 on a GPU")
    check.set_defaults(run=_check_model)

    status = commands.add_parser("status", help="show the state of every run at or below the paths")
    status.add_argument("paths", nargs="+", type=expanded, metavar="PATH")
    status.add_argument("--watch", action="store_true", help="refresh every few seconds until nothing runs")
    status.add_argument("--json", action="store_true", help="for programs")
    status.set_defaults(run=_status)

    clean = commands.add_parser("clean", help="list failed, lost and superseded runs, then remove them")
    clean.add_argument("paths", nargs="+", type=expanded, metavar="PATH")
    clean.add_argument("--yes", action="store_true", help="do not ask")
    clean.set_defaults(run=_clean)

    sync = commands.add_parser("sync", help="upload runs to W&B that were recorded offline or not at all")
    sync.add_argument("paths", nargs="+", type=expanded, metavar="PATH")
    sync.add_argument("--dry-run", action="store_true", help="only list what would be uploaded")
    sync.set_defaults(run=_sync)

    workspace = commands.add_parser(
        "workspace", help="create a W&B report and saved view of each experiment; print their links"
    )
    workspace.add_argument("paths", nargs="+", type=expanded, metavar="PATH")
    workspace.set_defaults(run=_workspace)

    report = commands.add_parser("report", help="write tables and figures of all runs at or below the paths")
    report.add_argument("paths", nargs="+", type=expanded, metavar="PATH")
    report.add_argument("--out", type=expanded, metavar="DIR", help="default: report/ below the first PATH")
    report.add_argument(
        "--where",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="only runs with these settings",
    )
    report.add_argument(
        "--only-complete", action="store_true", help="leave out cells that lack seeds which other cells have"
    )
    report.add_argument(
        "--paper", action="store_true", help="also write paper/: figures of one column's width, and the papers' tables"
    )
    report.set_defaults(run=_report)

    show = commands.add_parser("show", help="the flow view of one run, in the browser")
    show.add_argument("path", type=expanded, metavar="RUN", help="a run's directory")
    show.add_argument("--out", type=expanded, metavar="FILE", help="write the page there and open nothing")
    show.set_defaults(run=_show)

    compare = commands.add_parser("compare", help="differences between sets of runs, with confidence intervals")
    compare.add_argument(
        "paths", nargs="+", type=expanded, metavar="PATH", help="a run, or a directory with runs below it"
    )
    chosen: dict[str, Any] = {"nargs": "+", "action": "append", "metavar": "NAME=VALUE", "default": []}
    compare.add_argument("--where", **chosen, help="the runs of the first set, by their settings: shots_per_class=1")
    compare.add_argument("--with", dest="others", **chosen, help="the runs of another set; repeatable")
    compare.add_argument("--csv", type=expanded, metavar="FILE", help="also write the table to this file")
    compare.set_defaults(run=_compare)
    return parser


def _config_dir(arguments: Sequence[str]) -> Path | None:
    """The directory given with Hydra's --config-dir (or -cd)."""
    for at, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name in ("--config-dir", "-cd"):
            return expanded(value or next(iter(arguments[at + 1 :]), ""))
    return None


def _options(chosen: argparse.Namespace) -> int:
    from anchorflow.help import options

    sys.path.insert(0, str(Path.cwd()))
    print(options(chosen.option, chosen.config_dir))
    return 0


def _check_model(chosen: argparse.Namespace) -> int:
    from anchorflow.api import load_model
    from anchorflow.experiments.able import table

    print(table(load_model(chosen.model, device=chosen.device, dtype=chosen.dtype)))
    return 0


def _status(chosen: argparse.Namespace) -> int:
    from anchorflow.sweep import status

    return status.show(chosen.paths, watch=chosen.watch, as_json=chosen.json)


def _clean(chosen: argparse.Namespace) -> int:
    from anchorflow.sweep.clean import clean

    return clean(chosen.paths, yes=chosen.yes)


def _sync(chosen: argparse.Namespace) -> int:
    from anchorflow.tracking.sync import sync

    return sync(chosen.paths, dry_run=chosen.dry_run)


def _workspace(chosen: argparse.Namespace) -> int:
    from anchorflow.tracking.workspace import workspace

    sys.path.insert(0, str(Path.cwd()))  # where the views of a user's own experiments lie
    print(*workspace(chosen.paths), sep="\n")
    return 0


def _report(chosen: argparse.Namespace) -> int:
    from anchorflow.report.write import report

    sys.path.insert(0, str(Path.cwd()))  # where the views of a user's own experiments lie
    print(report(chosen.paths, chosen.out, chosen.where, chosen.only_complete, chosen.paper))
    return 0


def _show(chosen: argparse.Namespace) -> int:
    from anchorflow.report.show import show

    sys.path.insert(0, str(Path.cwd()))
    page, problems = show(chosen.path, chosen.out)
    for problem in problems:
        print(problem, file=sys.stderr)
    print(page)
    return 0


def _compare(chosen: argparse.Namespace) -> int:
    from anchorflow.report.compare import compare

    sys.path.insert(0, str(Path.cwd()))
    first = [[each for given in chosen.where for each in given]] if chosen.where else []
    if bool(first) != bool(chosen.others):
        raise UserError(
            "--where selects the first set of runs, and --with each other set: give both, or give two paths and neither."
        )
    print(compare(chosen.paths, [*first, *chosen.others], chosen.csv))
    return 0


if __name__ == "__main__":
    sys.exit(main())
