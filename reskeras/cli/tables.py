"""Tables of plain text."""

from collections.abc import Collection, Sequence

import click


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
