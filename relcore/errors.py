"""The one exception a user is meant to see."""


class RelcoreError(Exception):
    """Bad input. The message is one line: what was wrong with which input, and what to do.

    The command line prints it and exits with status 2; nothing that was on disk before has changed.
    """
