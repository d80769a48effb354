"""What a person sees after a search: MLflow's pages and report.html, in a real browser."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

pytest.importorskip("playwright", reason="pip install playwright")

import chromium
from playwright.sync_api import Browser, Locator, Page, expect

pytestmark = pytest.mark.xdist_group("browser")

SPACE = """
family: resnet
input_shape: [8, 8, 1]
stem: {kind: cifar, width: 4}
block: {kind: basic}
stages:
  - {blocks: 1, width: 8, stride: 2}
head: {kind: classifier, classes: 3}
train: {epochs: 2, batch_size: 32, learning_rate: 0.01}
vary:
  stages.*.blocks: {low: 1, high: 2}
  block.kind: [plain, basic]
  norm_order: [original, full_preact]
  train.learning_rate: {low: 0.001, high: 0.1, log: true}
"""
TRIALS = 6
COLUMNS = ["blocks", "block", "norm_order", "lr", "depth"]
AXES = ["blocks", "block", "norm_order", "log10_lr", "depth", "val_accuracy"]
MLFLOWS_OWN = re.compile(
    r"<(g|path|rect)> attribute|ResizeObserver|the server responded with a status of 404"
)
"""Its parallel coordinates are drawn once without any height, and it asks for a user, which a
server without login has not."""


class Search(NamedTuple):
    folder: Path
    trials: list[dict[str, Any]]
    """The best first, as `reskeras tune --json` prints them."""
    link: str
    """As `reskeras ui` prints it."""

    @property
    def server(self) -> str:
        return self.link.split("/#")[0]


@pytest.fixture(scope="session")
def search(
    tmp_path_factory: pytest.TempPathFactory, blobs: dict[str, np.ndarray]
) -> Iterator[Search]:
    folder = tmp_path_factory.mktemp("search")
    np.savez(folder / "blobs.npz", **blobs)
    (folder / "space.yaml").write_text(SPACE)
    reskeras = [sys.executable, "-m", "reskeras"]
    tune = [
        *reskeras,
        "tune",
        "space.yaml",
        "--data",
        "blobs.npz",
        "--trials",
        str(TRIALS),
        "--oracle",
        "random",
        "--json",
    ]
    told = subprocess.run(tune, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    with subprocess.Popen(
        [*reskeras, "ui", "--no-browser"], cwd=folder, stdout=subprocess.PIPE, text=True
    ) as ui:
        try:
            assert ui.stdout is not None
            name, link = ui.stdout.readline().strip().split(": ", 1)
            assert name == "space-blobs"
            yield Search(folder, json.loads(told.stdout)["trials"], link)
        finally:
            ui.terminate()
    assert ui.returncode == 0


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if chromium.installed() is None:
        pytest.skip(chromium.MISSING)
    with chromium.launched() as launched:
        yield launched


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_context(viewport={"width": 2000, "height": 2600}) as context:
        context.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        wrong: list[str] = []
        context.on("weberror", lambda error: wrong.append(str(error.error)))
        context.on(
            "console", lambda said: wrong.append(said.text) if said.type == "error" else None
        )
        yield context.new_page()
        assert [text for text in wrong if not MLFLOWS_OWN.search(text)] == []


def title(trial: dict[str, Any]) -> str:
    values = trial["values"]
    words = [values["block.kind"], values["norm_order"], str(values["stages.*.blocks"])]
    return " · ".join([*words, f"lr {values['train.learning_rate']:.3g}"])


def card(page: Page, name: str) -> Locator:
    found = page.get_by_test_id("experiment-view-compare-runs-card").filter(
        has=page.get_by_role("heading", name=name, exact=True)
    )
    found.scroll_into_view_if_needed()
    return found


def open_search(page: Page, search: Search) -> None:
    """Goes where a person finds it: in the list of all runs, by its name."""
    experiment = search.link.split("/runs?")[0]
    page.goto(
        f"{experiment}/runs?workflowType=machine_learning&searchFilter=tags.`reskeras.kind`%20%3D%20'search'"
    )
    page.get_by_role("link", name="space-blobs", exact=True).click()
    expect(page.get_by_role("heading", name="space-blobs")).to_be_visible()


def test_the_printed_link_opens_charts_of_all_trials(page: Page, search: Search) -> None:
    page.goto(search.link)
    expect(page.get_by_text(f"{TRIALS} matching runs")).to_be_visible()
    names = page.locator(".ag-row [col-id='attributes.`Run Name`']").or_(page.locator(".ag-row a"))
    assert {title(trial) for trial in search.trials} <= {
        text.strip() for text in names.all_inner_texts()
    }

    parallel = card(page, "Parallel Coordinates")
    expect(parallel.locator(".dimension .label")).to_have_text(AXES)
    scores = [trial["score"] for trial in search.trials]
    page.wait_for_function(f"scores => ({ENDS})(scores)?.every(ends => ends)", arg=scores)
    assert page.evaluate(ENDS, [(min(scores) + max(scores)) / 2]) == [False], (
        "is it the lines that are seen?"
    )

    for metric in ("val_accuracy", "accuracy", "val_loss", "loss"):
        curves = card(page, metric).locator("path.js-line")
        expect(curves.nth(TRIALS - 1)).to_be_attached()
        drawn = {curve.get_attribute("d") for curve in curves.all()}
        assert 1 < len(drawn) <= TRIALS
        assert "loss" not in metric or len(drawn) == TRIALS

    contour = card(page, "log10_lr vs. depth vs. val_accuracy")
    expect(contour.locator(".contourlayer path, .heatmaplayer image").first).to_be_attached()
    for name in ("params_millions", "log10_lr", "depth"):
        expect(card(page, f"{name} vs. val_accuracy").locator("path.point")).to_have_count(TRIALS)


ENDS = """([...scores]) => {
    const chart = document.querySelector(".parcoords");
    const canvas = chart?.querySelector("canvas.foreground");
    const axis = [...(chart?.querySelectorAll(".dimension") ?? [])].pop();
    const marks = [...(axis?.querySelectorAll(".tick") ?? [])];
    if (!canvas || marks.length < 2) return null;
    const middle = part => {
        const box = part.getBoundingClientRect();
        return box.top + box.height / 2;
    };
    const [[y0, v0], [y1, v1]] = [marks[0], marks[marks.length - 1]].map(
        mark => [middle(mark.querySelector("line")), Number(mark.querySelector("text").textContent)]
    );
    const place = canvas.getBoundingClientRect();
    const x = axis.querySelector(".domain").getBoundingClientRect().right - place.left;
    return scores.map(score => {
        const y = y0 + (y1 - y0) * (score - v0) / (v1 - v0) - place.top;
        const [left, top] = [Math.round(x) - 4, Math.round(y) - 5];
        const pixels = canvas.getContext("2d").getImageData(left, top, 4, 11).data;
        return pixels.some((value, index) => index % 4 === 3 && value > 0);
    });
}"""
"""Whether a line ends at each of these scores, on the last axis of parallel coordinates, whose
labels say where a score is."""


def test_the_table_has_what_was_searched_the_best_first(page: Page, search: Search) -> None:
    open_search(page, search)
    page.get_by_role("button", name="Expand description").click()
    link = page.get_by_role("link", name="in a table")
    address = link.evaluate("a => a.href")
    with page.context.expect_page() as opened:
        link.click()
    table = opened.value
    expect(table.get_by_text(f"{TRIALS} matching runs")).to_be_visible()
    heads = table.locator(".ag-header-cell[col-id*='`']")
    order = ["Run Name", "rank", "val_accuracy", *COLUMNS, "params_millions", "trial_seconds"]
    # MLflow 3.17 forgets a saved view, or its order, if its runs arrive late, as on a busy machine.
    for _ in range(2):
        try:
            expect(heads).to_have_text(order, use_inner_text=True, timeout=20_000)
        except AssertionError:
            table.goto("about:blank")
            table.goto(address)
    expect(heads).to_have_text(order, use_inner_text=True)
    # MLflow's own widths would cut names of more than twelve letters; it sets ours after a moment.
    whole = """() => [...document.querySelectorAll(".ag-header-cell[col-id*='`'] *")].every(
        part => part.scrollWidth <= part.clientWidth + 1
            || getComputedStyle(part).overflowX !== "hidden"
    )"""
    table.wait_for_function(whole)

    def cells(column: str) -> list[str]:
        """Without the color of a run, which stands hidden before its name."""
        shown = table.locator(f".ag-row [col-id='{column}']")
        expect(shown).to_have_count(TRIALS)
        rows = shown.evaluate_all("""cells => cells.map(cell => [
            Number(cell.closest(".ag-row").getAttribute("row-index")),
            cell.textContent.trim().replace(/^#[0-9a-f]{6}/, ""),
        ])""")
        return [text for _, text in sorted(rows)]

    scores = [float(text) for text in cells("metrics.`val_accuracy`")]
    assert scores == pytest.approx([trial["score"] for trial in search.trials], abs=1e-6)
    ranked = [search.trials[int(rank) - 1] for rank in cells("metrics.`rank`")]
    assert cells("attributes.`Run Name`") == [title(trial) for trial in ranked]
    for column, path in {
        "block": "block.kind",
        "norm_order": "norm_order",
        "blocks": "stages.*.blocks",
    }.items():
        assert cells(f"params.`{column}`") == [str(trial["values"][path]) for trial in ranked]
    assert [float(rate) for rate in cells("params.`lr`")] == [
        trial["values"]["train.learning_rate"] for trial in ranked
    ]
    # The stem, two layers for each block, the classifier.
    assert cells("params.`depth`") == [
        str(2 + 2 * trial["values"]["stages.*.blocks"]) for trial in ranked
    ]


def test_the_search_tells_who_won_and_leads_to_it(page: Page, search: Search) -> None:
    open_search(page, search)
    best = search.trials[0]
    share = f"{100 * best['score']:.1f} %"
    sentence = page.get_by_text(
        f"The best of {TRIALS} trials on blobs is {title(best)} (trial {best['number']}): "
        f"val_accuracy {share}"
    )
    expect(sentence).to_be_visible()
    page.get_by_role("button", name="Expand description").click()
    rows = page.get_by_role("row").filter(has=page.get_by_role("link"))
    leaders = [row.inner_text().split() for row in rows.all()]
    assert [(leader[0], leader[1]) for leader in leaders[:TRIALS]] == [
        (str(rank), str(trial["number"])) for rank, trial in enumerate(search.trials, start=1)
    ]
    with page.context.expect_page() as opened:
        page.get_by_role("link", name=f"trial {best['number']}", exact=True).click()
    trial = opened.value
    expect(trial.get_by_role("heading", name=title(best))).to_be_visible()
    expect(trial.get_by_text("trains this network again")).to_be_visible()

    trial.get_by_role("tab", name="Artifacts").click()
    trial.get_by_text("spec.yaml", exact=True).click()
    expect(trial.get_by_text(f"kind: {best['values']['block.kind']}").first).to_be_visible()
    trial.get_by_text("architecture.svg", exact=True).click()
    picture = trial.locator("img[src^='blob:'], img[src*='architecture']").first
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100


def test_the_winner_is_the_registered_champion(page: Page, search: Search) -> None:
    page.goto(f"{search.server}/#/models/space-blobs?workflowType=machine_learning")
    version = page.get_by_role("row").filter(has=page.get_by_role("link", name="Version 1"))
    expect(version).to_contain_text("champion")
    expect(version).to_contain_text(title(search.trials[0])[:8])


def test_the_report_is_one_file_that_asks_for_nothing(page: Page, search: Search) -> None:
    asked: list[str] = []
    page.context.set_offline(True)
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith(("file:", "data:", "blob:"))
            else asked.append(request.url)
        ),
    )
    page.goto((search.folder / "searches" / "space-blobs" / "report.html").as_uri())
    expect(page.locator("#answer")).to_contain_text(f"Trial {search.trials[0]['number']} won")
    expect(page.locator("#leaderboard tbody tr")).to_have_count(TRIALS)
    expect(page.locator("#over-time .scatterlayer path.point")).not_to_have_count(0)
    expect(page.locator("#parallel path")).not_to_have_count(0)
    expect(page.locator("#curves .scatterlayer path.js-line")).to_have_count(TRIALS)
    for name in ("over-time", "importance", "parallel", "factors", "curves"):
        section = page.locator(f"#{name}")
        expect(section.get_by_role("heading")).to_be_visible()
        drawn = section.locator("svg, td, p").filter(visible=True)
        assert drawn.first.evaluate("drawn => drawn.getBoundingClientRect().height") > 10
    assert asked == []
