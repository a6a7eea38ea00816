"""The one exception that a user is meant to read."""

import errno
import re


class UserError(Exception):
    """Something the user can mend. The message names the value and what is allowed.

    The command line prints it alone, without a traceback; the log file keeps the traceback.
    """


def first_line(error: BaseException) -> str:
    """What a library's exception says, in one line; its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def with_link(error: BaseException) -> str:
    """The first line of what a library says, and the next one that holds a link: where access to a gated model is asked for."""
    first, *more = str(error).strip().splitlines() or [type(error).__name__]
    links = [line.strip() for line in more if re.search(r"https?://", line)]
    return " ".join([first, *links[:1]])


def of_system(error: OSError) -> UserError | None:
    """A sentence for a full disk, or for a place that cannot be read or written; None for what names neither."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return UserError("the disk is full; finished records are kept, free some space and start again.")
    return None if error.filename is None else UserError(f"{error.filename}: {error.strerror}.")
