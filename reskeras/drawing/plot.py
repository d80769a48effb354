"""A network as a picture in the style of a paper: stages, shortcuts, and one block layer by layer.

`reskeras.plot` is the function, not this module.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from reskeras.drawing.canvas import Canvas
from reskeras.drawing.canvas import figure as to_figure
from reskeras.drawing.chain import draw_chain
from reskeras.drawing.legend import legend
from reskeras.drawing.palette import GRAY, TITLE
from reskeras.drawing.stacks import draw_stacks
from reskeras.drawing.tracing import Trace, times
from reskeras.drawing.ushape import draw_ushape
from reskeras.drawing.wording import options
from reskeras.errors import RequestError
from reskeras.files import replacing
from reskeras.nets.assemble import as_spec
from reskeras.nets.cost import cost
from reskeras.spec import AnySpec, DenseNet, ResNet, UNet
from reskeras.words import compact

FORMATS = (".svg", ".png")
WIDE = 864.0
"""Width without margins (that of a README) in hundredths of an inch; some networks need more."""

_PNG_DPI = 200
_STYLE = threading.RLock()


def plot(spec: AnySpec | str, path: str | os.PathLike[str]) -> Path:
    """Draws a spec (or a preset's name) into an .svg or .png file, whose path it returns.

    The height of a box is its resolution and its thickness its width, both on a logarithmic scale.
    An arc is a shortcut: solid for the identity, dashed if it has layers. Long stages show the
    first blocks and the last. The same spec gives the same bytes with the same matplotlib.

    Raises:
        RequestError: another suffix, a missing folder, a file that cannot be written, an unknown
            preset, or parts of the spec that do not fit together.
        TypeError: not a spec.
    """
    return save(path, lambda: figure(spec))


def save(path: str | os.PathLike[str], make: Callable[[], Any]) -> Path:
    """Writes the figure that `make` returns into an .svg or .png file, whose path it returns.

    The same figure gives the same bytes.

    Raises:
        RequestError: another suffix, a missing folder, or a file that cannot be written.
    """
    path = check_picture(path)
    with _style():
        page = make()
    try:
        with replacing(path) as partial:
            _save(page, partial, path.suffix.lower().removeprefix("."))
    except OSError as error:
        raise RequestError(f"{path}: {error.strerror}") from error
    return path


def check_picture(path: str | os.PathLike[str]) -> Path:
    """Checks the path of a picture before it is drawn.

    Raises:
        RequestError: another suffix than .svg or .png, or a missing folder.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        found = f"unknown suffix {path.suffix}" if path.suffix else "no suffix"
        raise RequestError(f"{path}: {found}; use .svg or .png")
    if not path.parent.is_dir():
        raise RequestError(f"{path}: no such folder: {path.parent}")
    return path


def figure(spec: AnySpec | str) -> Any:
    """The picture as a `matplotlib.figure.Figure`.

    Raises:
        RequestError: unknown preset, or parts of the spec that do not fit together.
        TypeError: not a spec.
    """
    page = draw(spec)
    with _style():
        return to_figure(page)


def draw(spec: AnySpec | str) -> Canvas:
    """The picture as shapes and words."""
    spec = as_spec(spec)
    numbers = cost(spec)
    trace = Trace(spec)
    match trace.spec:
        case ResNet() | DenseNet() as plain:
            network, block = draw_chain(trace, plain, WIDE)
        case UNet() as plain:
            network, block = draw_ushape(trace, plain, WIDE)
        case plain:
            network, block = draw_stacks(trace, plain)
    page = Canvas()
    page.text((0, 0), spec.name, size=TITLE, bold=True, align="left")
    facts = [
        f"{compact(numbers.trainable_params)} parameters",
        f"{compact(numbers.macs)} MACs",
        f"input {times(spec.input_shape)}",
        *options(plain),
    ]
    page.text((0, 21), "  ·  ".join(facts), color=GRAY, align="left")
    parts = [(network, 20), (block, 22)]
    if (words := legend(plain, network, WIDE)) is not None:
        parts.append((words, 16))
    middle = max(WIDE, page.box.width, *(part.box.width for part, _ in parts)) / 2
    for part, gap in parts:
        box = part.box
        page.put(part, middle - (box.left + box.right) / 2, page.box.bottom + gap - box.top)
    return page


@contextlib.contextmanager
def _style() -> Iterator[None]:
    from matplotlib import style

    # Ignore the user's matplotlibrc. Its values are global, hence the lock.
    with (
        _STYLE,
        style.context(
            [
                "default",
                {"svg.hashsalt": "reskeras", "svg.fonttype": "none", "path.simplify": False},
            ]
        ),
    ):
        yield


def _save(page: Any, path: Path, kind: str) -> None:
    with _style():
        if kind == "svg":
            page.savefig(path, format="svg", metadata={"Date": None, "Creator": "reskeras"})
        else:
            page.savefig(path, format="png", dpi=_PNG_DPI, metadata={"Software": "reskeras"})
