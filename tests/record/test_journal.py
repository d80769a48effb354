"""A journal notices damage, and a repaired one costs no more than what was damaged."""

import json
from pathlib import Path
from typing import Any

import journals
import numpy as np
import pytest
from stubs import run_evaluation, run_trial, tiny

import reskeras
from reskeras.data import ImageData, from_arrays
from tuning import Range, tune
from tuning.record.entries import Conclusion, EpochRecord, FinalPlan, Started, TrialRecord
from tuning.record.journal import Journal, begun, read_header, write_line
from tuning.record.repair import repair

PATH = Path("s/journal.jsonl")


@pytest.fixture(scope="module")
def data(blobs: dict[str, np.ndarray]) -> ImageData:
    return from_arrays(blobs, name="blobs")


@pytest.fixture
def _stubs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuning.running.executor.run_trial", run_trial)
    monkeypatch.setattr("tuning.running.executor.run_evaluation", run_evaluation)


def flipped(line: bytes, place: int) -> bytes:
    return line[:place] + bytes([line[place] ^ 1]) + line[place + 1 :]


def search(data: ImageData, oracle: str, **more: Any) -> Any:
    vary = {
        "block.kind": ["plain", "basic"],
        "stages.*.blocks": [1, 2],
        "train.learning_rate": Range(low=1e-3, high=1e-1, log=True)
        if oracle != "grid"
        else [0.01, 0.03],
    }
    how: dict[str, Any] = {"oracle": oracle, "trials": 5, "epochs": 3, "final_epochs": 1}
    return tune(tiny(3, **vary), data, directory="s", **how | more)


def scores(result: Any) -> dict[int, float | None]:
    return {record.number: record.score for record in result.trials}


@pytest.mark.parametrize("oracle", ["random", "tpe", "grid", "hyperband", "nested"])
@pytest.mark.usefixtures("_stubs")
def test_each_damaged_line_costs_no_more_than_its_trial(data: ImageData, oracle: str) -> None:
    whole = scores(search(data, oracle))
    lines = PATH.read_bytes().splitlines(keepends=True)
    random = np.random.default_rng(3)
    by_kind: dict[str, list[int]] = {}
    for number in range(1, len(lines)):
        by_kind.setdefault(json.loads(lines[number])["kind"], []).append(number)
    for number in [int(random.choice(numbers)) for numbers in by_kind.values()]:
        place = int(random.integers(1, len(lines[number]) - 1))
        damaged = [*lines[:number], flipped(lines[number], place), *lines[number + 1 :]]
        PATH.write_bytes(b"".join(damaged))
        with pytest.raises(
            reskeras.RequestError, match=rf":{number + 1}: this line is damaged; --repair"
        ):
            search(data, oracle)
        assert PATH.read_bytes() == b"".join(damaged)
        found = scores(search(data, oracle, repair=True))
        hit = json.loads(lines[number]).get("number")
        for trial, score in whole.items():
            if trial != hit:
                assert found[trial] == score, (number, trial, lines[number])
        # The repaired journal is whole, and says no more than before.
        assert scores(search(data, oracle)) == found
        (aside,) = PATH.parent.glob("journal.jsonl.damaged*")
        assert aside.read_bytes() == b"".join(damaged)
        aside.unlink()


def small_journal() -> tuple[Journal, list[bytes]]:
    journal = Journal(PATH)
    journal.begin(journals.header())
    for number in (1, 2):
        journal.add(Started(number=number, values={"a": number}))
        for epoch in (1, 2):
            metrics = {"val_accuracy": number / 10 + epoch / 100}
            journal.add(EpochRecord(number=number, epoch=epoch, metrics=metrics, seconds=1.0))
        journal.add(
            TrialRecord(
                number=number,
                values={"a": number},
                status="completed",
                score=metrics["val_accuracy"],
                metrics=metrics,
                epochs=2,
                params=7,
            )
        )
    plan = FinalPlan(epochs=0, top=1, seeds=1)
    journal.add(Conclusion(winner=2, plan=plan, test={"accuracy": 0.5}))
    return journal, PATH.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (1, "line 2: when trial 1 started"),
        (2, "line 3: an epoch of trial 1"),
        (4, "line 5: the end of trial 1, whose last epoch is its score"),
        (9, "line 10: a line of the kind 'conclusion'"),
    ],
)
def test_a_repair_says_what_it_leaves_out(number: int, says: str) -> None:
    _, lines = small_journal()
    place = lines[number].index(b'"time"') + 9
    PATH.write_bytes(
        b"".join([*lines[:number], flipped(lines[number], place), *lines[number + 1 :]])
    )
    assert repair(PATH) == [says, "the damaged journal is kept as s/journal.jsonl.damaged1"]
    again = Journal(PATH)
    assert [(r.number, r.score) for r in again.trials] == [
        (1, pytest.approx(0.12)),
        (2, pytest.approx(0.22)),
    ]
    assert len(again.conclusions) == (number != 9)
    assert repair(PATH) == []


def test_a_trial_whose_end_cannot_be_read_is_not_given_a_score() -> None:
    _, lines = small_journal()
    place = lines[4].index(b'"completed"') + 4
    PATH.write_bytes(b"".join([*lines[:4], flipped(lines[4], place), *lines[5:]]))
    assert repair(PATH)[0] == "line 5: the end of trial 1, which counts as failed"
    first, second = Journal(PATH).trials
    assert (first.status, first.score, second.score) == ("failed", None, pytest.approx(0.22))


def test_a_trial_of_which_nothing_is_left_is_named_and_passed_over() -> None:
    _, lines = small_journal()
    PATH.write_bytes(b"".join([lines[0], b"\x00" * 50 + b"\n", *lines[5:]]))
    assert repair(PATH)[0] == "line 2: trial 1"
    assert [(r.number, r.score) for r in Journal(PATH).trials] == [(2, 0.22)]


def test_the_first_line_cannot_be_repaired() -> None:
    _, lines = small_journal()
    PATH.write_bytes(flipped(lines[0], 30) + b"".join(lines[1:]))
    with pytest.raises(reskeras.RequestError, match=r"journal\.jsonl:1: .*damaged; start over"):
        repair(PATH)
    with pytest.raises(
        reskeras.RequestError, match=r"journal\.jsonl:1: this line is damaged; start"
    ):
        Journal(PATH)
    assert read_header(PATH) is None
    assert begun(PATH.parent) == 0


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"seed": "x"}, "seed: input should be a valid integer"),
        ({"space": []}, "space: input should be a valid dictionary"),
        ({"objective": None}, "objective: input should be a valid string"),
        ({"about": {"data": 3}}, "about.data: input should be a valid dictionary"),
        ({"about": {"started": "now"}}, "about.started: input should be a valid number"),
    ],
)
def test_a_header_of_wrong_types_is_refused_in_a_line(changes: Any, place: str) -> None:
    PATH.parent.mkdir()
    PATH.write_bytes(write_line("search", journals.header(**changes)))
    with pytest.raises(reskeras.RequestError, match=rf"^s/journal\.jsonl:1: {place}") as refused:
        Journal(PATH)
    assert "\n" not in str(refused.value)
    assert read_header(PATH) is None


def test_lines_are_json_that_people_can_read() -> None:
    _, lines = small_journal()
    assert [json.loads(line)["kind"] for line in lines[:3]] == ["search", "started", "epoch"]
    assert all(len(json.loads(line)["crc"]) == 8 for line in lines)


@pytest.mark.usefixtures("_stubs")
def test_an_exhausted_space_says_so(data: ImageData) -> None:
    space = tiny(1, **{"block.kind": ["plain", "basic"]})
    few = tune(space, data, directory="s", trials=9, oracle="random")
    assert few.exhausted == "the space has no more points to try: 2 of 9 trials ran"
    assert tune(space, data, directory="s", trials=2, oracle="random").exhausted is None
    grid = tune(space, data, directory="g", trials=None, oracle="grid")
    assert grid.exhausted == "the space has no more points to try: 2 trials ran"
