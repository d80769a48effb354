"""Makes the docs' pictures of pages: `python docs/screenshots.py FOLDER`.

FOLDER is where a finished `reskeras tune` ran.

Needs Playwright and Chromium (see `tests/browser/chromium.py`) and, as everything here,
reskeras itself.
"""

import subprocess
import sys
from pathlib import Path
from urllib.parse import urljoin

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "browser"))
import chromium
from playwright.sync_api import Page, expect

IMAGES = Path(__file__).parent / "images"
SIZE = {"width": 1400, "height": 900}


def save(page: Page, name: str) -> None:
    """The page as it is."""
    path = IMAGES / name
    page.screenshot(path=path)
    with Image.open(path) as image:
        image.convert("RGB").save(path, optimize=True)


def without_assistant(page: Page) -> None:
    """Closes the panel that MLflow opens by itself the first time."""
    close = page.locator("[data-component-id='mlflow.assistant.chat_panel.close']")
    close.click()
    expect(close).to_have_count(0)


def mlflow_pages(page: Page, name: str, link: str) -> None:
    """The charts and the table of the trials, and the page of the search of this name."""
    page.goto(link)
    expect(page.get_by_role("heading", name="Parallel Coordinates")).to_be_visible()
    without_assistant(page)
    expect(page.locator(".parcoords .dimension").first).to_be_visible()
    expect(page.locator("path.js-line").first).to_be_attached()
    save(page, "mlflow.png")
    page.goto("about:blank")
    page.goto(link.replace("CHART", "TABLE"))
    expect(page.locator(".ag-row [col-id='params.`depth`']").first).to_be_visible()
    save(page, "mlflow_table.png")
    page.goto(
        link.split("/runs?", maxsplit=1)[0]
        + "/runs?workflowType=machine_learning&searchFilter=tags.`reskeras.kind`%20%3D%20'search'"
    )
    run = page.get_by_role("link", name=name, exact=True).and_(page.locator("[href*='/runs/']"))
    # MLflow's own links lead to the pages that it shows for GenAI.
    address = urljoin(link, run.get_attribute("href")).partition("?")[0]
    page.goto("about:blank")
    page.goto(f"{address}?workflowType=machine_learning")
    page.get_by_role("button", name="Expand description").click()
    expect(page.get_by_role("button", name="Collapse description")).to_be_visible()
    save(page, "mlflow_search.png")


def report_page(page: Page, folder: Path) -> None:
    """The top of report.html of the folder's search."""
    (report,) = folder.glob("searches/*/report.html")
    page.goto(report.resolve().as_uri())
    expect(page.locator("#over-time .scatterlayer path.point").first).to_be_attached()
    save(page, "report.png")


if __name__ == "__main__":
    where = Path(sys.argv[1])
    command = [sys.executable, "-m", "reskeras", "ui", "--no-browser"]
    with (
        subprocess.Popen(command, cwd=where, stdout=subprocess.PIPE, text=True) as server,
        chromium.launched() as browser,
    ):
        assert server.stdout is not None
        try:
            search, url = server.stdout.readline().strip().split(": ", 1)
            shown = browser.new_page(viewport=SIZE)
            shown.set_default_timeout(60_000)
            expect.set_options(timeout=60_000)
            mlflow_pages(shown, search, url)
            report_page(shown, where)
        finally:
            server.terminate()
