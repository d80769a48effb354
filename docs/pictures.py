"""Makes the README's pictures of a finished search: `python docs/pictures.py FOLDER`.

FOLDER is where `reskeras tune` ran.

Needs Chromium (Debian: chromium) and, as everything here, reskeras itself. The terminal is shown by
replaying the finished search; the pictures of pages are made by screenshots.py.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

IMAGES = Path(__file__).parent / "images"
CHROMIUM = [
    *(
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--force-device-scale-factor=1",
    ),
    *(
        "--disable-background-networking",
        "--no-first-run",
        "--disable-sync",
        "--disable-component-update",
    ),
]


def photograph(url: str, picture: Path, width: int, height: int, milliseconds: int) -> None:
    """A screenshot of a page, taken after so many milliseconds of its own time."""
    with tempfile.TemporaryDirectory() as profile:
        size = [
            f"--window-size={width},{height}",
            f"--virtual-time-budget={milliseconds}",
            f"--user-data-dir={profile}",
        ]
        subprocess.run(
            [*CHROMIUM, *size, f"--screenshot={picture}", url],
            check=True,
            capture_output=True,
            timeout=300,
        )


def terminal(recording: Path, picture: Path) -> None:
    """A picture of what a terminal showed, colors included."""
    text = Text.from_ansi(recording.read_text(encoding="utf-8"))
    console = Console(record=True, width=100, file=open("/dev/null", "w"), force_terminal=True)  # noqa: SIM115
    console.print(text)
    with tempfile.TemporaryDirectory() as folder:
        svg = Path(folder) / "terminal.svg"
        svg.write_text(console.export_svg(title="reskeras tune"), encoding="utf-8")
        width, height = map(
            float,
            re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg.read_text(encoding="utf-8")).groups(),
        )
        photograph(svg.as_uri(), picture, round(width), round(height), 2000)


if __name__ == "__main__":
    where = Path(sys.argv[1])
    IMAGES.mkdir(exist_ok=True)
    if (where / "terminal.ansi").exists():
        terminal(where / "terminal.ansi", IMAGES / "tune.png")
