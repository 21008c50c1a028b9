"""The one exception a user is meant to see."""

from collections.abc import Iterable


class RelcoreError(Exception):
    """Bad input. The message is one line: what was wrong with which input, and what to do.

    The command line prints it and exits with status 2; nothing that was on disk before has changed.
    """


def require(kind: str, value, choices: Iterable) -> None:
    """RelcoreError unless the value is one of the choices."""
    if value not in choices:
        raise RelcoreError(f"unknown {kind} '{value}': choose from {', '.join(map(str, choices))}")
