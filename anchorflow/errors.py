"""The one exception that a user is meant to read."""


class UserError(Exception):
    """Something the user can mend. The message names the value and what is allowed.

    The command line prints it alone, without a traceback; the log file keeps the traceback.
    """


def first_line(error: BaseException) -> str:
    """What a library's exception says, in one line; its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
