"""Writes the table of all claims into docs/lab.md.

    reskeras lab all --csv claims.csv && python docs/lab_table.py claims.csv

The experiments take some minutes.
"""

import csv
import sys
from pathlib import Path

import click

PAGE = Path(__file__).parent / "lab.md"
START, END = "<!-- claims -->", "<!-- end of claims -->"


def main() -> None:
    """Replaces what is between the marks."""
    with open(sys.argv[1], encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    lines = ["| experiment | claim | source | theory | measured | verdict | seconds |"]
    lines.append("|---|---|---|---|---|---|---|")
    lines += [
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row.values())} |"
        for row in rows
    ]
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    _, _, after = rest.partition(END)
    table = "\n".join(lines)
    PAGE.write_text(f"{before}{START}\n{table}\n{END}{after}", encoding="utf-8")
    click.echo(f"{PAGE}: {len(rows)} claims")


if __name__ == "__main__":
    main()
