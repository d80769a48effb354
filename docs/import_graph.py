"""Draws which room imports which, into docs/images/import_graph.svg, and counts modules and lines.

    python docs/import_graph.py             # draws
    python docs/import_graph.py --counts    # prints modules and lines of each room

A room is a folder of `reskeras/` or `tuning/`; its floor is its layer in the contracts of
pyproject.toml, so the picture shows what import-linter checks. An arrow is left out where a longer
way says the same: who imports `nets` may import what `nets` imports. The modules that everything
uses (`errors`, `words`, `files`) are left out too. Needs grimp, which import-linter brings.
"""

import collections
import re
import sys
import tomllib
from pathlib import Path

import click
import grimp

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "import_graph.svg"
PACKAGES = ("reskeras", "tuning")
_COLORS = {"reskeras": ("#cfe0f3", "#3a6796"), "tuning": ("#cde7d9", "#36795a")}
_INK, _GRAY = "#1f2933", "#7b8794"
_WIDE, _TALL, _GAP, _FLOOR, _MARGIN, _APART = 96, 38, 24, 84, 16, 96
_FONT = 'font-family="DejaVu Sans, sans-serif" text-anchor="middle"'


@click.command()
@click.option("--counts", is_flag=True, help="Print modules and lines of each room instead.")
def main(counts: bool) -> None:
    """Draws the picture, or prints the counts."""
    if counts:
        print_counts()
    else:
        PICTURE.write_text(draw(), encoding="utf-8")


def floors(package: str) -> list[list[str]]:
    """The rooms of a package by the layers of its contract, the highest floor first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = next(
        contract["layers"]
        for contract in contracts["contracts"]
        if contract["type"] == "layers" and contract["containers"] == [package]
    )
    folders = {folder.name for folder in (ROOT / package).iterdir() if folder.is_dir()}
    named = [[name for name in re.findall(r"\w+", layer) if name in folders] for layer in layers]
    return [[f"{package}.{name}" for name in floor] for floor in named if floor]


def imports() -> collections.Counter[tuple[str, str]]:
    """From pairs of rooms to how many modules of the first import one of the second."""
    sys.path.insert(0, str(ROOT))
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True)
    found: set[tuple[str, str, str]] = set()
    for module in graph.modules:
        for other in graph.find_modules_directly_imported_by(module):
            if room(module) != room(other):
                found.add((room(module), room(other), module))
    return collections.Counter((source, target) for source, target, _ in found)


def room(module: str) -> str:
    """The room of a module: the first two parts of its name."""
    return ".".join(module.split(".")[:2])


def reduced(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The pairs that no longer way joins as well (the transitive reduction)."""
    targets: dict[str, set[str]] = collections.defaultdict(set)
    for source, target in pairs:
        targets[source].add(target)

    def reach(name: str) -> set[str]:
        return targets[name].union(*(reach(target) for target in targets[name]))

    return {
        (source, target)
        for source, target in pairs
        if not any(target in reach(other) for other in targets[source] - {target})
    }


def draw() -> str:
    """The picture as SVG; the same imports give the same bytes."""
    place: dict[str, tuple[float, float]] = {}
    (cli,), *library = floors("reskeras")
    application = floors("tuning")
    left = _MARGIN
    for column in (library, application):
        most = max(map(len, column))
        room_width = most * _WIDE + (most - 1) * _GAP
        for floor, rooms in enumerate(column, start=1):
            # The library's rooms stand in the middle, those of the application on the left: so the
            # fewest arrows pass behind a room.
            spare = room_width - len(rooms) * _WIDE - (len(rooms) - 1) * _GAP
            x = left + (spare / 2 if column is library else 0)
            for number, name in enumerate(rooms):
                place[name] = x + number * (_WIDE + _GAP), _MARGIN + floor * _FLOOR
        left += room_width + _APART
    width, height = left - _APART + _MARGIN, max(y for _, y in place.values()) + _TALL + _MARGIN
    place[cli] = (width - _WIDE) / 2, _MARGIN
    known = {pair: count for pair, count in imports().items() if set(pair) <= set(place)}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}">',
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="white"/>',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" markerUnits="userSpaceOnUse" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="{_GRAY}"/></marker></defs>',
    ]
    for source, target in sorted(reduced(set(known))):
        (x0, y0), (x1, y1) = place[source], place[target]
        start, end = x0 + _WIDE / 2, x1 + _WIDE / 2
        if y1 > y0:
            start, end = start + 0.16 * (end - start), end - 0.05 * (end - start)
            start = min(max(start, x0 + 8), x0 + _WIDE - 8)
            end = min(max(end, x1 + 8), x1 + _WIDE - 8)
            y0, y1 = y0 + _TALL, y1 - 2
            half = (y1 - y0) / 2
            path = f"M{start:.0f} {y0:.0f}C{start:.0f} {y0 + half:.0f} {end:.0f} {y1 - half:.0f} "
            path += f"{end:.0f} {y1:.0f}"
        else:  # beside each other, in two columns
            y0, y1 = y0 + _TALL / 2, y1 + _TALL / 2
            start, end = x0, x1 + _WIDE + 2
            path = f"M{start:.0f} {y0:.0f}C{start - 50:.0f} {y0:.0f} {end + 50:.0f} {y1:.0f} "
            path += f"{end:.0f} {y1:.0f}"
        parts.append(
            f'<path d="{path}" fill="none" stroke="{_GRAY}" stroke-width="1.3" '
            f'marker-end="url(#tip)"><title>{source} imports {target}</title></path>'
        )
    for name, (x, y) in place.items():
        package, _, own = name.partition(".")
        fill, edge = _COLORS[package]
        parts.append(
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{_WIDE}" height="{_TALL}" rx="6" fill="{fill}" '
            f'stroke="{edge}"/>'
            f'<text x="{x + _WIDE / 2:.0f}" y="{y + 17:.0f}" font-size="12.5" fill="{_INK}" '
            f"{_FONT}>{own}</text>"
            f'<text x="{x + _WIDE / 2:.0f}" y="{y + 30:.0f}" font-size="9.5" fill="{edge}" '
            f"{_FONT}>{package}</text>"
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def print_counts() -> None:
    """Modules and lines of each room, as a Markdown table."""
    print("| room | modules | lines |\n|---|---|---|")  # noqa: T201
    total = [0, 0]
    for package in PACKAGES:
        folders = sorted(p for p in (ROOT / package).iterdir() if p.is_dir() and p.name[0] != "_")
        for folder in [ROOT / package, *folders]:
            files = list(folder.glob("*.py") if folder.name == package else folder.rglob("*.py"))
            lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)
            total = [total[0] + len(files), total[1] + lines]
            print(f"| `{folder.relative_to(ROOT)}/` | {len(files)} | {lines:,} |")  # noqa: T201
    print(f"| all | {total[0]} | {total[1]:,} |")  # noqa: T201


if __name__ == "__main__":
    main()
