"""The exception for bad requests, and one-line forms of errors."""

import difflib
import re
from collections.abc import Iterable

from pydantic import ValidationError

_TRACEBACK = "Traceback (most recent call last):"
_FRAME = r"\s*File \".*\", line \d+"
_NOISE = re.compile(
    r"\x1b\[[\d;]*m"  # colors
    r"|\{\{function_node [^}]*\}\} ?|\s*\[\[\{\{node [^}]*\}\}\]\]|\s*\[Op:[^]]*\](?: name:)?"
)
_PREAMBLE = re.compile(
    r"\s*$|Graph execution error:|Detected at node |Exception encountered when calling "
    r"|\d+ root error\(s\) found|" + _FRAME
)


class RequestError(ValueError):
    """The request is wrong. The message says where, what was found and what would be right.

    The command line prints it without a traceback and exits with status 2. Each line of the message
    is one mistake.
    """


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the nearest known word; an empty string if none is near.

    Of two words as near, the one that begins alike: resnet20, not resnet32, for resnet21.
    """
    given = str(word)
    near = difflib.get_close_matches(given, list(known), n=100, cutoff=0.6)
    best = max(
        near,
        key=lambda other: (
            difflib.SequenceMatcher(None, other, given).ratio(),
            _common_start(other, given),
        ),
        default=None,
    )
    return f"; did you mean {best!r}?" if best else ""


def _common_start(one: str, other: str) -> int:
    return next(
        (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )


def mistakes_of(error: ValidationError) -> list[str]:
    """The mistakes that pydantic found; those found by a check of ours in our words alone."""
    return [mistake["msg"].removeprefix("Value error, ") for mistake in error.errors()]


def in_a_line(error: BaseException | str | None) -> str:
    """The reason for a failure in one line.

    For a traceback, this is its final error with the type; for several mistakes, the first one.
    What TensorFlow and Keras add around the reason (the node, the graph, their stack) is left out.

    Args:
        error: an exception, or its text in a record: a message or a traceback.
    """
    if isinstance(error, BaseException):
        return _of_exception(error)
    text = (error or "").strip()
    kind = ""
    start = text.rfind(_TRACEBACK)
    if text.startswith(_TRACEBACK) or f"\n{_TRACEBACK}" in text:
        end = re.search(r"^(?=\S)", text[start + len(_TRACEBACK) + 1 :], re.MULTILINE)
        text = text[start + len(_TRACEBACK) + 1 + end.start() :] if end else text[start:]
        if named := re.match(r"(?:\w+\.)*(\w+): ?", text):
            kind, text = f"{named[1]}: ", text[named.end() :]
        else:  # an exception without text
            return text.splitlines()[0].rpartition(".")[2]
    return kind + _reason(text) if text else kind.removesuffix(": ")


def hide_passwords(text: str) -> str:
    """Removes credentials from addresses: http://user:secret@host becomes http://***@host."""
    return re.sub(r"//\S+@", "//***@", text)


def _of_exception(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    reason = _reason(str(error).strip())
    if isinstance(error, KeyError) or not reason:
        return ": ".join(filter(None, [type(error).__name__, reason]))
    return reason


def _reason(text: str) -> str:
    """The first line of a message that says what happened."""
    lines = _NOISE.sub("", text).splitlines()
    if text.startswith("in user code:"):  # frames of two lines each, then the error
        frames = [number for number, line in enumerate(lines) if re.match(_FRAME, line)]
        lines = [re.sub(r"^\s*(?:\w+\.)*\w+: ", "", line) for line in lines[frames[-1] + 2 :]]
    return next((line.strip() for line in lines if not _PREAMBLE.match(line)), "")
