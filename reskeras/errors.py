"""The one exception that means "the request was wrong", and how near misses are named."""

import difflib
from collections.abc import Iterable


class RequestError(ValueError):
    """What was asked for cannot be done as asked; the message says where, what was found and what would be right.

    The command line prints it without a traceback and exits with status 2. One line of the message is one mistake.
    """


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the nearest of the known words, or an empty string when none is near."""
    near = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def last_line(error: str | None) -> str:
    """What went wrong, in a line: the last of a traceback, or the first of several mistakes."""
    lines = (error or "").strip().splitlines()
    if not lines:
        return ""
    return lines[-1] if lines[0].startswith("Traceback") else lines[0]
