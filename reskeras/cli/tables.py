"""What several commands print: tables of plain text, and what their data are."""

import os
import sys
from collections.abc import Collection, Sequence
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from reskeras.words import in_bytes, printable

_WIDTH = 160
"""Columns of a table where there is no terminal."""


def print_columns(rows: Sequence[Sequence[str]], right: Collection[int]) -> None:
    """Prints rows in columns as wide as their widest cell.

    Args:
        rows: all with the same number of cells; the first may be the heads.
        right: columns to align to the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  ".join(cells).rstrip())


def output_console() -> Console:
    """Where tables are printed: as wide as the terminal, and wide in a file or a pipe."""
    narrow = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(markup=False, highlight=False, width=None if narrow else _WIDTH)


def tell_data(images: Any, console: Console) -> None:
    """Prints what data are, and what a person should know of them."""
    console.print(images.describe(), highlight=False)
    for note in images.notes:
        console.print(f"note: {note}", style="yellow", highlight=False, soft_wrap=True)


def keep_decoded(images: Any, console: Console) -> Any:
    """Decodes images where they are to be kept on disk, and says where (see `cached`)."""
    from reskeras.data.store import Stored, cached

    columns = TextColumn("decoding images"), BarColumn(), MofNCompleteColumn()
    quiet = not console.is_terminal
    timed = *columns, TimeRemainingColumn()
    with Progress(*timed, console=console, transient=True, disable=quiet) as progress:
        shown = progress.add_task("", total=sum(images.sizes.values()))
        kept = cached(images, lambda count: progress.advance(shown, count))
    for note in kept.notes[len(images.notes) :]:
        console.print(f"note: {note}", style="yellow", highlight=False, soft_wrap=True)
    if isinstance(kept.reader, Stored):
        console.print(
            f"decoded images: {in_bytes(kept.reader.bytes)} in {printable(kept.reader.folder)}",
            style="dim",
            highlight=False,
            soft_wrap=True,
        )
    return kept
