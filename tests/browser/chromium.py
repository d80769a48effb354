"""A browser for the tests: the one that is here, or Debian's, installed where nobody is asked (a
fresh machine that runs tox)."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_ARGUMENTS = (
    *(
        "--disable-gpu",
        "--disable-quic",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ),
    *(
        "--no-first-run",
        "--hide-scrollbars",
        "--use-gl=angle",
        "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader",
    ),
)
MISSING = "no Chromium: install Debian's (apt-get install chromium) or Google Chrome"


def found() -> str | None:
    """The program of a browser; None where there is none."""
    return next((path for name in _NAMES if (path := shutil.which(name)) is not None), None)


def installed() -> str | None:
    """The program of a browser, installed first where there is none and this is root on Debian;
    None where there still is none."""
    if (path := found()) is not None or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return path
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", "chromium"]):
        done = subprocess.run(
            ["apt-get", "-qq", *command], env=quiet, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            print(f"apt-get {command[0]}: {(done.stderr or done.stdout).strip()[-2000:]}")  # noqa: T201  pytest shows it
            return None
    return found()


@contextmanager
def launched() -> Iterator[Any]:
    """A headless Playwright browser.

    Raises:
        FileNotFoundError: there is none, and none could be installed.
    """
    from playwright.sync_api import sync_playwright

    if (path := installed()) is None:
        raise FileNotFoundError(MISSING)
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*root, *_ARGUMENTS])
        try:
            yield browser
        finally:
            browser.close()
