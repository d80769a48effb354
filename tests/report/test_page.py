"""The page of a search, from journals written by hand."""

import base64
import json
import math
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import journals
import pytest
from stubs import tiny

from reskeras.drawing.palette import HIGHLIGHT
from reskeras.errors import RequestError
from tuning.record.entries import (
    Conclusion,
    Dropped,
    Entry,
    EpochRecord,
    Final,
    FinalEpoch,
    FinalPlan,
    Started,
    TrialRecord,
)
from tuning.record.journal import Journal
from tuning.report.page import write_report
from tuning.space import Range, Space

LR, BLOCK = "train.learning_rate", "block.kind"
SPACE = tiny(**{BLOCK: ["plain", "basic", "bottleneck"], LR: Range(low=1e-3, high=1e-1, log=True)})
BASE = {BLOCK: "basic", LR: SPACE.base.train.learning_rate}
NAN = math.nan


class Page(HTMLParser):
    """What a browser makes of the page before its scripts run."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        """All that stands in each element with an id, and in `head` the title."""
        self.scripts: list[str] = []
        self._open: list[tuple[str, str | None]] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.data = json.loads(
            next(s for s in self.scripts if s.startswith("{")), parse_constant=pytest.fail
        )
        self.rows = [
            dict(zip(self.columns, row, strict=True)) for row in self.data["leaderboard"]["rows"]
        ]

    @property
    def columns(self) -> list[str]:
        return [name for name, _, _ in self.data["leaderboard"]["columns"]]

    def traces(self, figure: str) -> dict[str, Any]:
        return {trace["name"]: trace for trace in self.data["figures"][figure]["data"]}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "img"):
            self._open.append((tag, dict(attrs).get("id")))
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1][0] == "script":
            self.scripts[-1] += data
            return
        for tag, name in self._open:
            key = name or (tag if tag in ("header", "title") else None)
            if key is not None:
                self.texts[key] = self.texts.get(key, "") + data.replace("\N{NO-BREAK SPACE}", " ")


def trial(
    number: int, score: float | None, at: float, *, epochs: int = 1, values: Any = None, **more: Any
) -> TrialRecord:
    status = more.pop("status", "failed" if score is None else "completed")
    metrics = {} if score is None else {"val_accuracy": score, "val_loss": 1 - score}
    values = {**BASE, **(values or {})}
    return TrialRecord(
        number=number,
        score=score,
        time=at,
        epochs=epochs,
        values=values,
        status=status,
        metrics=metrics,
        params=7,
        **more,
    )


def story(
    *records: TrialRecord, curves: dict[int, Sequence[tuple[int, float]]] | None = None
) -> list[Entry]:
    """A start of each trial a second before its first epoch, a second between epochs."""
    entries: list[Entry] = []
    for record in records:
        told = (curves or {}).get(record.number, [])
        entries.append(
            Started(number=record.number, values=record.values, time=record.time - len(told) - 1)
        )
        for place, (epoch, score) in enumerate(told):
            at = record.time - len(told) + place
            metrics = {"val_accuracy": score, "val_loss": 1 - score}
            entries.append(
                EpochRecord(
                    number=record.number, epoch=epoch, metrics=metrics, seconds=1.0, time=at
                )
            )
        entries.append(record)
    return entries


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    # Not 5 MB to be read again by each test
    monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "var Plotly;")

    def make(entries: Sequence[Entry], space: Space = SPACE, **header: Any) -> Page:
        path = tmp_path / "journal.jsonl"
        path.unlink(missing_ok=True)
        journal = Journal(path)
        journal.begin(journals.header(**header))
        for entry in entries:
            journal.add(entry)
        write(tmp_path, space)
        return Page(tmp_path / "report.html")

    return make


def write(folder: Path, space: Space = SPACE) -> None:
    picture = folder / "factors.svg"
    picture.write_text(PICTURE)
    write_report(folder / "report.html", Journal(folder / "journal.jsonl"), space, factors=picture)


# As matplotlib begins and ends its pictures.
PICTURE = """<?xml version="1.0" encoding="utf-8" standalone="no"?>
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">
<svg xmlns="http://www.w3.org/2000/svg" version="1.1"><metadata>http://creator</metadata>
<defs><style type="text/css">*{stroke-linejoin: round}</style></defs><text>dropout</text></svg>
"""


THREE = story(
    trial(1, 0.90, 100),
    trial(2, 0.95, 110, values={BLOCK: "plain", LR: 0.01}),
    trial(3, None, 120, error="Traceback (most recent call last):\n  x\nValueError: too wide"),
    trial(4, 0.80, 130, values={BLOCK: "plain"}, status="stopped"),
)


def test_the_leaderboard_has_the_best_first_and_failed_ones_last_with_their_reason(
    page: Any,
) -> None:
    found = page(THREE)
    assert [row["trial"] for row in found.rows] == [2, 1, 4, 3]
    assert [row["val_accuracy"] for row in found.rows] == [0.95, 0.9, 0.8, None]
    assert [row["status"] for row in found.rows] == [
        "",
        "",
        "stopped early",
        "failed: ValueError: too wide",
    ]
    assert found.rows[0] == {
        **found.rows[0],
        "rank": 1,
        "block": "plain",
        "lr": 0.01,
        "epochs": 1,
        "params": 7,
    }
    # A stem, a block of two layers and the head, by hand: 8x8 pixels times 3x3x1x4; 4x4 times
    # (3x3x4x8 + 3x3x8x8); 8x3.
    assert {(row["depth"], row["MACs"]) for row in found.rows if row["block"] == "plain"} == {
        (4, 2304 + 4608 + 9216 + 24)
    }
    assert "parent" not in found.columns  # nobody has one
    assert "memory" not in found.columns
    assert found.data["winner"] == 2


def test_for_a_loss_less_is_better(page: Any) -> None:
    found = page(THREE, objective="val_loss")
    # What the journal has as scores, read as losses.
    assert [row["trial"] for row in found.rows] == [4, 1, 2, 3]
    assert "0.1 better than the base (trial 1, 0.9000)" in found.texts["answer"]
    assert found.data["leaderboard"]["columns"][2] == ["val_loss", "loss", False]


def test_the_answer_names_the_winner_and_its_lead(page: Any) -> None:
    found = page(
        [
            *THREE,
            Conclusion(
                winner=2,
                plan=FinalPlan(epochs=0, top=1, seeds=1),
                test={"accuracy": 0.9333},
                time=140,
            ),
        ]
    )
    assert (
        "Trial 2 won, plain · lr 0.01: 95.0 % val_accuracy, 93.3 % on the 30 test images; 5 "
        "points better than the best with block "
        "basic (trial 1, 90.0 %) and 5 points better than the base (trial 1, 90.0 %)."
    ) in found.texts["answer"]
    assert "reskeras tune --name 'by hand'" in found.texts["answer"]
    assert "best.yaml --data 'a folder'" in found.texts["answer"]
    for fact in (
        "hand",
        "blobs: 90 train, 30 val, 30 test images of 8 × 8 × 1 in 3 classes",
        "random",
        "4 (1 failed)",
        "41 s",
    ):
        assert fact in found.texts["header"]


def final(number: int, repeat: int, score: float, at: float) -> list[Entry]:
    metrics = {"val_accuracy": score}
    epochs = [
        EpochRecord(number=number, epoch=e, metrics=metrics, seconds=1.0, time=at - 2 + e)
        for e in (1, 2)
    ]
    record = trial(number, score, at, epochs=2, values={BLOCK: "plain"} if number == 2 else None)
    return [
        *(FinalEpoch(repeat=repeat, epochs=2, record=e) for e in epochs),
        Final(repeat=repeat, epochs=2, record=record),
    ]


def test_final_trainings_decide_and_are_shown_with_their_spread(page: Any) -> None:
    finals = [
        e
        for place, (n, r, s) in enumerate([(2, 0, 0.90), (2, 1, 0.92), (1, 0, 0.96), (1, 1, 0.98)])
        for e in final(n, r, s, 140 + place)
    ]
    ended = Conclusion(winner=1, plan=FinalPlan(epochs=2, top=2, seeds=2), test=None, time=150)
    found = page([*THREE, *finals, ended])
    # Standard deviations of 90, 92 and of 96, 98: the square root of 2.
    assert (
        "97.0 % ± 1.4 % val_accuracy (mean of 2 final trainings of 2 epochs); its trial scored "
        "90.0 %" in found.texts["answer"]
    )
    assert (
        "5 points worse than the best with block plain (trial 2, 95.0 %)." in found.texts["answer"]
    )
    assert "91.0 % ± 1.4 %" in found.texts["finals"]
    assert "96.0 %, 98.0 %" in found.texts["finals"]
    dashed = {
        name for name, trace in found.traces("curves").items() if trace["line"]["dash"] == "dash"
    }
    assert dashed == {"final trainings of others", "final trainings of the winner"}
    # Those of an earlier plan do not count.
    once = Conclusion(winner=1, plan=FinalPlan(epochs=2, top=2, seeds=1), test=None, time=155)
    assert (
        "96.0 % val_accuracy (final training of 2 epochs)"
        in page([*THREE, *finals, ended, once]).texts["answer"]
    )
    other = Conclusion(winner=2, plan=FinalPlan(epochs=0, top=1, seeds=1), test=None, time=160)
    assert "finals" not in page([*THREE, *finals, ended, other]).texts


def test_the_best_so_far_rises_when_a_better_trial_ends_and_pauses_are_taken_out(page: Any) -> None:
    records = [
        trial(n, score, at)
        for n, score, at in [(1, 0.5, 10), (2, 0.9, 20), (3, 0.7, 5030), (4, 0.99, 5040)]
    ]
    found = page(story(*records))
    best = found.traces("over-time")["best so far"]
    # The search begins at second 9, with the first entry. From 20 to 5029, when trial 3 begins, it
    # does not run.
    assert best["x"] == [1, 11, 22, 22]
    assert best["y"] == pytest.approx(
        [-math.log10(error) for error in (0.5, 0.1, 0.01, 0.01)], abs=1e-3
    )
    assert found.traces("over-time")["winner"]["x"] == [22]
    assert "1 h 23 min in total" in found.texts["over-time"]  # 5009 seconds


def test_a_long_epoch_is_no_pause(page: Any) -> None:
    (record,) = [trial(1, 0.5, 4000, seconds=3999.0)]
    epoch = EpochRecord(number=1, epoch=1, metrics={"val_accuracy": 0.5}, seconds=3998.0, time=3999)
    found = page([Started(number=1, values=BASE, time=1), epoch, record])
    assert "Pauses" not in found.texts["over-time"]
    assert "1 h 6 min" in found.texts["header"]


GROWN = story(
    trial(1, 0.5, 10, epochs=1),
    trial(2, 0.6, 20, epochs=1),
    trial(3, 0.7, 30, epochs=3, parent=1),
    trial(4, 0.8, 40, epochs=3, parent=2),
    trial(5, 0.9, 50, epochs=9, parent=3),
    trial(6, None, 60, epochs=0, parent=3, error="killed"),
    trial(7, 0.4, 70, epochs=1),
    curves={1: [(1, 0.5)], 3: [(2, 0.65), (3, 0.7)]},
)


def test_the_lineage_leads_from_each_parent_to_its_children(page: Any) -> None:
    found = page(GROWN)
    *lines, nodes = found.data["figures"]["lineage"]["data"]
    places = dict(zip(zip(nodes["x"], nodes["y"], strict=True), nodes["customdata"], strict=True))
    edges = set()
    for line in lines:
        corners = list(zip(line["x"], line["y"], strict=True))
        edges |= {
            (places[corners[at]], places[corners[at + 3]]) for at in range(0, len(corners), 5)
        }
    assert edges == {(1, 3), (2, 4), (3, 5), (3, 6)}
    assert sorted(nodes["customdata"]) == [1, 2, 3, 4, 5, 6]  # nobody grew out of 7
    assert "Not shown: trials outside these families (1)." in found.texts["lineage"]
    marked = {
        places[point] for point in zip(lines[1]["x"], lines[1]["y"], strict=True) if point in places
    }
    assert marked == {1, 3, 5}  # the way to the winner
    labels = dict(zip(nodes["customdata"], nodes["text"], strict=True))
    assert labels[5] == "<b>5</b>  90.0 % · depth 4"
    assert labels[6].startswith("<b>6</b>  failed")
    assert found.data["figures"]["lineage"]["layout"]["xaxis"]["ticktext"] == [
        "1 epoch",
        "3 epochs",
        "9 epochs",
    ]
    assert "lineage" not in page(THREE).texts


def test_the_curve_of_a_grown_network_goes_on_from_its_parents(page: Any) -> None:
    trace = page(GROWN).traces("curves")["trial"]
    assert sorted(trace["x"], key=str) == [1, 1, 2, 3, None, None]
    assert "trial 3<br>basic · lr 0.003<br>epoch 3: 70.0 %" in trace["text"]


def test_places_in_parallel_coordinates(page: Any) -> None:
    found = page(THREE)
    block, rate, score = found.data["parallel"]["axes"]
    assert [text for _, text in block["ticks"]] == ["plain", "basic", "bottleneck"]
    assert dict(map(reversed, rate["ticks"])) == pytest.approx(
        {"0.001": 0, "0.003": 0.2386, "0.01": 0.5, "0.03": 0.7386, "0.1": 1}, abs=1e-3
    )
    assert (score["name"], score["lacks"]) == ("val_accuracy", "failed")
    lines = {number: places for number, _, *places in found.data["parallel"]["lines"]}
    assert lines[2][0] < 1 / 3 < lines[1][0] < 2 / 3
    assert (lines[2][1], lines[1][1]) == (0.5, pytest.approx(math.log(3) / math.log(100), abs=1e-4))
    assert lines[2][2] == 1 > lines[1][2] > lines[4][2] > 0
    assert lines[3][2] is None


def test_a_value_of_another_kind_is_left_out(page: Any) -> None:
    space = tiny(**{BLOCK: ["basic", "dense"], "block.growth_rate": Range(low=4, high=24)})
    records = [
        trial(1, 0.5, 10, values={"block.growth_rate": 9}),
        trial(2, 0.6, 20, values={BLOCK: "dense", "block.growth_rate": 9}),
    ]
    found = page(story(*records), space)
    assert {row["trial"]: row["growth_rate"] for row in found.rows} == {1: None, 2: 9}
    assert {line[0]: line[3] for line in found.data["parallel"]["lines"]} == {1: None, 2: 0.25}


HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&amp;{{data}}\u2028"


def test_hostile_names_stay_words(page: Any) -> None:
    records = [trial(1, 0.5, 10), trial(2, None, 20, error=HOSTILE)]
    dropped = Dropped(values=BASE, reason=HOSTILE, time=21)
    ended = Conclusion(winner=1, plan=FinalPlan(epochs=0, top=1, seeds=1), test=None, time=22)
    about = {"name": HOSTILE, "command": ["reskeras", "tune", "--data", HOSTILE]}
    found = page(
        [*story(*records), dropped, ended],
        about=about,
        data={"name": HOSTILE, "source": HOSTILE, "class_names": [HOSTILE]},
    )
    assert len(found.scripts) == 3
    assert "<" not in found.scripts[0]
    assert not [tag for tag, _ in found.elements if tag == "img"]
    assert not [
        key for _, attributes in found.elements for key in attributes if key.startswith("on")
    ]
    assert found.texts["header"].startswith(HOSTILE)
    assert f"{HOSTILE}: 90 train" in found.texts["header"]
    assert f"--data '{HOSTILE}'" in found.texts["answer"]
    assert f"Points not run: 1 {HOSTILE}." in found.texts["leaderboard"]
    assert found.rows[1]["status"] == f"failed: {HOSTILE.splitlines()[0]}"
    # Plotly makes elements of what it is given.
    assert "<script" not in json.dumps(found.data["figures"])
    assert "<img" not in json.dumps(found.data["figures"])


def test_all_that_failed_is_told_without_a_figure(page: Any) -> None:
    found = page(story(trial(1, None, 10, error="one"), trial(2, None, 20, error="two")))
    assert "No winner" in found.texts["answer"]
    assert [row["status"] for row in found.rows] == ["failed: one", "failed: two"]
    assert (
        set(found.texts) & {"over-time", "importance", "parallel", "factors", "lineage", "curves"}
        == set()
    )
    assert (found.data["figures"], found.data["parallel"], found.data["winner"]) == ({}, None, None)


def test_a_kind_of_which_all_failed_is_no_rival(page: Any) -> None:
    records = [
        trial(1, 0.5, 10),
        trial(2, None, 20, values={BLOCK: "plain"}, error="x"),
        trial(3, 0.4, 30, values={LR: 0.01}),
    ]
    found = page(story(*records))
    assert (
        "50.0 % val_accuracy; 10 points better than the runner-up (trial 3, 40.0 %)."
        in found.texts["answer"]
    )


def test_one_trial_alone(page: Any) -> None:
    found = page(story(trial(1, 0.5, 10), curves={1: [(1, 0.4), (2, 0.5)]}))
    assert (
        "Trial 1 won, basic · lr 0.003: 50.0 % val_accuracy; no other trial has a score."
        in found.texts["answer"]
    )
    assert (
        "Too few trials have a score: 1. Importance takes at least 8." in found.texts["importance"]
    )
    assert set(found.traces("curves")) == {"winner"}


def test_all_trials_equal(page: Any) -> None:
    records = [
        trial(n, 1.0, 10 * n, values={BLOCK: "plain" if n % 2 else "basic"}) for n in range(1, 11)
    ]
    found = page(story(*records))
    assert "as good as the best with block basic (trial 2, 100.0 %)" in found.texts["answer"]
    assert "do not predict their scores" in found.texts["importance"]
    assert found.traces("over-time")["best so far"]["x"] == [1, 91]


def test_scores_that_are_no_numbers(page: Any) -> None:
    # As `parse_constant` above sees to, none of them gets into the page.
    broken = trial(2, NAN, 20)
    found = page(
        story(
            trial(1, 0.5, 10),
            broken,
            trial(3, math.inf, 30),
            curves={1: [(1, NAN), (2, 0.5)], 2: [(1, NAN)]},
        )
    )
    assert found.data["winner"] == 1


def test_importance_says_how_far_to_trust_it(page: Any) -> None:
    rates = [1e-3 * 10 ** (n / 12) for n in range(24)]
    records = [
        trial(n, 0.3 + rate, 10 * n, values={LR: rate}) for n, rate in enumerate(rates, start=1)
    ]
    text = page(story(*records), oracle="tpe").texts["importance"]
    assert (
        "With 24 trials, a large importance varies by about a sixth from search to search" in text
    )
    assert "This oracle learns" in text
    assert "lr100 %" in text
    assert "This oracle learns" not in page(story(*records)).texts["importance"]


def test_of_many_trials_some_are_drawn_and_the_page_says_so(page: Any) -> None:
    records = [trial(n, 0.5 + n / 2000, n) for n in range(1, 601)]
    found = page(story(*records))
    assert len(found.rows) == 600
    lines = found.data["parallel"]["lines"]
    assert len(lines) == 500
    assert {600, 599, 598, 1} <= {line[0] for line in lines}
    assert (
        "500 of 600 trials are drawn: the best 250 and an even selection of the others."
        in found.texts["parallel"]
    )


def test_nothing_is_fetched(page: Any) -> None:
    found = page(GROWN)
    for tag, attributes in found.elements:
        for key in ("src", "href", "xlink:href", "action", "data", "srcset"):
            assert (attributes.get(key) or "#").startswith("#"), (tag, attributes)
    assert not {tag for tag, _ in found.elements} & {
        "link",
        "iframe",
        "base",
        "img",
        "object",
        "embed",
    }
    own = found.scripts[-1]
    assert "drawLeaderboard" in own
    for word in (
        "http:",
        "https:",
        "fetch(",
        "import(",
        "XMLHttpRequest",
        "localStorage",
        "cookie",
    ):
        assert word not in own.replace("http://www.w3.org/2000/svg", "")


def evaluated(folder: Path, split: str, name: str = "cat") -> dict[str, Any]:
    """An evaluation as `reskeras.evaluation` writes it, of two classes, with one picture."""
    interval = {"accuracy": [0.6, 0.9], "loss": [0.1, 0.3]}
    rival = {"accuracy": 0.5}
    metrics = {"support": 20, "precision": 0.8, "recall": None, "f1": 0.7}
    document = {
        "task": "classification",
        "split": split,
        "images": 40,
        "metrics": {"accuracy": 0.8, "loss": 0.2},
        "intervals": interval,
        "rivals": [{"name": "majority class", "metrics": rival, "text": "trial 1 is better"}],
        "classes": [{"name": name, **metrics}],
    }
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "metrics.json").write_text(json.dumps(document))
    (folder / "evaluation" / "worst.png").write_bytes(b"a picture")
    return document


@pytest.mark.parametrize(
    ("split", "told"),
    [
        ("test", "On the 40 test images, which nothing else in the search has used."),
        ("val", "On the 40 validation images, by which it was chosen"),
    ],
)
def test_the_evaluation_is_told_with_its_intervals_beside_the_baselines(
    page: Any, tmp_path: Path, split: str, told: str
) -> None:
    evaluated(tmp_path, split, HOSTILE)
    found = page(THREE)
    text = found.texts["evaluation"]
    assert told in text
    assert "Trial 1 is better." in text
    assert "Accuracy80.0 %60.0 to 90.0 %50.0 %" in text
    assert "Loss0.20000.1000 to 0.3000-" in text
    assert f"{HOSTILE}2080.0 %-70.0 %" in text
    (picture,) = [attributes["src"] for tag, attributes in found.elements if tag == "img"]
    assert base64.b64decode(picture.removeprefix("data:image/png;base64,")) == b"a picture"
    ids = [attributes["id"] for tag, attributes in found.elements if tag == "section"]
    assert ids[:3] == ["answer", "evaluation", "leaderboard"]


def test_windows_are_not_called_images(page: Any, tmp_path: Path) -> None:
    plan = FinalPlan(epochs=0, top=1, seeds=1)
    end = Conclusion(winner=2, plan=plan, test={"accuracy": 0.9333}, time=140)
    texts = page([*THREE, end], data={"resize": "patch"}).texts
    assert "30 test patches of 8 × 8 × 1" in texts["header"]
    assert "93.3 % on the test images;" in texts["answer"]
    document = evaluated(tmp_path, "test") | {"images": 3, "windows": 1234, "kind": "volumes"}
    document["intervals"] = {"accuracy": [None, None], "loss": [None, None]}
    (tmp_path / "evaluation" / "metrics.json").write_text(json.dumps(document))
    text = page(THREE).texts["evaluation"]
    assert "On the 1,234 windows of 3 test volumes, which nothing else" in text
    assert "Accuracy80.0 %-50.0 %" in text


def test_an_evaluation_that_is_damaged_is_named(page: Any, tmp_path: Path) -> None:
    evaluated(tmp_path, "test")
    (tmp_path / "evaluation" / "metrics.json").write_text("{")
    with pytest.raises(RequestError, match=r"evaluation/metrics.json: .*; remove "):
        page(THREE)


def test_sections_stand_in_their_order_under_their_ids(page: Any) -> None:
    ids = [attributes["id"] for tag, attributes in page(GROWN).elements if tag == "section"]
    assert ids == [
        "answer",
        "leaderboard",
        "over-time",
        "importance",
        "parallel",
        "factors",
        "lineage",
        "curves",
    ]


def test_the_same_journal_gives_the_same_bytes(page: Any, tmp_path: Path) -> None:
    page(GROWN)
    first = (tmp_path / "report.html").read_bytes()
    write(tmp_path)
    assert (tmp_path / "report.html").read_bytes() == first


def test_every_color_of_the_page_is_the_palettes(page: Any, tmp_path: Path) -> None:
    page(THREE)
    style = (tmp_path / "report.html").read_text().partition("</style>")[0]
    defined = dict(re.findall(r"--(\w+): (#\w+)", style))
    assert set(re.findall(r"var\(--(\w+)\)", style)) == set(defined)
    assert defined["star"] == HIGHLIGHT


def test_the_picture_of_the_factors_is_a_section_whose_style_is_its_own(
    page: Any, tmp_path: Path
) -> None:
    found = page(THREE)
    assert "dropout" in found.texts["factors"]
    text = (tmp_path / "report.html").read_text()
    assert "#factors svg *{stroke-linejoin: round}" in text
    assert '<style type="text/css">*' not in text
    assert "http://creator" not in text
    write_report(tmp_path / "report.html", Journal(tmp_path / "journal.jsonl"), SPACE)
    assert "factors" not in Page(tmp_path / "report.html").texts


def test_plotly_comes_along(tmp_path: Path) -> None:
    from plotly.offline import get_plotlyjs

    journal = Journal(tmp_path / "journal.jsonl")
    journal.begin(journals.header())
    for entry in story(trial(1, 0.5, 10)):
        journal.add(entry)
    write_report(tmp_path / "report.html", Journal(journal.path), SPACE)
    script = get_plotlyjs()
    assert "</script" not in script
    assert f"<script>{script}</script>" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []
