"""`anchorflow COMMAND PATH...`: what to do with runs that were made. Nothing here runs a model."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from anchorflow.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code comes back. A user's mistake is one line and 2."""
    parser = argparse.ArgumentParser(prog="anchorflow", description="Read what runs left behind.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    status = commands.add_parser("status", help="the state of every run at or below the paths")
    status.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    status.add_argument("--watch", action="store_true", help="again every few seconds, until nothing runs")
    status.set_defaults(run=_status)

    sync = commands.add_parser("sync", help="upload what runs recorded offline to W&B")
    sync.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    sync.add_argument("--dry-run", action="store_true", help="only say what would be uploaded")
    sync.set_defaults(run=_sync)

    report = commands.add_parser("report", help="tables and figures of all runs at or below the paths")
    report.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    report.add_argument("--out", type=Path, metavar="DIR", help="default: report/ below the first PATH")
    report.set_defaults(run=_report)

    compare = commands.add_parser("compare", help="what differs between two sets of runs, with confidence intervals")
    for name in ("a", "b"):
        compare.add_argument(name, type=Path, metavar=name.upper(), help="a run, or a directory with runs below it")
    compare.add_argument("--csv", type=Path, metavar="FILE", help="write the table there, too")
    compare.set_defaults(run=_compare)

    chosen = parser.parse_args(arguments)
    try:
        return int(chosen.run(chosen))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader (head, less) has seen enough
        sys.stderr.close()
        return 0


def _status(chosen: argparse.Namespace) -> int:
    from anchorflow.sweep import status

    return status.show(chosen.paths, watch=chosen.watch)


def _sync(chosen: argparse.Namespace) -> int:
    from anchorflow.tracking.sync import sync

    return sync(chosen.paths, dry_run=chosen.dry_run)


def _report(chosen: argparse.Namespace) -> int:
    from anchorflow.report.write import report

    print(report(chosen.paths, chosen.out))
    return 0


def _compare(chosen: argparse.Namespace) -> int:
    from anchorflow.report.compare import compare

    print(compare(chosen.a, chosen.b, chosen.csv))
    return 0


if __name__ == "__main__":
    sys.exit(main())
