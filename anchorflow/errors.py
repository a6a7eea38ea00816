"""`UserError`, the exception whose message is written for users, and helpers for its messages."""

import difflib
import errno
import json
import re
from collections.abc import Iterable


class UserError(Exception):
    """An error that the user can fix. The message names the value and what is allowed.

    The command line prints it alone, without a traceback; the log file keeps the traceback.
    """


def first_line(error: BaseException) -> str:
    """The first line of a library's exception, or its type if it has no message."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def with_link(error: BaseException) -> str:
    """The first line of a library's message, and the next line with a link, such as a gated model's page for access."""
    first, *more = str(error).strip().splitlines() or [type(error).__name__]
    links = [line.strip() for line in more if re.search(r"https?://", line)]
    return " ".join([first, *links[:1]])


def of_system(error: OSError) -> UserError | None:
    """A UserError for a full disk or for a file that cannot be read or written; None for any other error."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return UserError("the disk is full; finished records are kept, free some space and start again.")
    return None if error.filename is None else UserError(f"{error.filename}: {error.strerror}.")


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """ " Did you mean NAME?" if one of the allowed names resembles the given one, else an empty string."""
    names = {name.lower(): name for name in allowed}
    close = difflib.get_close_matches(given.lower(), names, n=1)
    return f" Did you mean {names[close[0]]}?" if close else ""


def typed(key: str, value: object) -> str:
    """A setting as one types it in a shell, quoted so that neither the shell nor Hydra changes a character of it."""
    shown = f"{key}={_in_hydra(value)}"
    return shown if shown.replace("_", "").replace(".", "").replace("=", "").isalnum() else _in_shell(shown)


def _in_hydra(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_in_hydra(of_key)}" for key, of_key in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_in_hydra, value)) + "]"
    if not isinstance(value, str):
        return json.dumps(value)
    if value.isascii() and value.isidentifier() and value.lower() not in ("null", "true", "false", "nan", "inf"):
        return value
    shown = value.replace("\n", "\\n").replace("\t", "\\t")
    # Hydra reads a backslash literally, except before a quote.
    return '"' + re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + found[2].replace('"', '\\"'), shown) + '"'


def _in_shell(text: str) -> str:
    quoted = text.replace("'", "'\\''")
    return f"'{quoted}'"
