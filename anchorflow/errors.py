"""The one exception that a user is meant to read."""


class UserError(Exception):
    """Something the user can mend. The message names the value and what is allowed.

    The command line prints it alone, without a traceback; the log file keeps the traceback.
    """
