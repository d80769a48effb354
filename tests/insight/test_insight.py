"""What mattered in a search: importances against known variances, ends of ranges, factors.svg."""

import dataclasses
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reskeras.errors import RequestError
from reskeras.spec import BasicBlock, CifarStem, Classifier, Recipe, ResNet, Stage
from reskeras.tasks import Facts, task_called
from tuning.insight.boundary import boundary
from tuning.insight.importance import FEWEST, importances, scored
from tuning.insight.scales import limits, marks, scale_of
from tuning.insight.summary import best_of_each, what_mattered
from tuning.record.entries import TrialRecord
from tuning.report.factors import factor_figure, factor_plot
from tuning.space import Range, Space, default_space

CLASSIFICATION = task_called("classification")

NET = ResNet(
    input_shape=(8, 8, 1),
    stem=CifarStem(width=16),
    block=BasicBlock(),
    stages=(Stage(blocks=1, width=16),),
    head=Classifier(classes=3),
)
KINDS = ("plain", "basic", "bottleneck", "dense")
LR, DROP, BLOCK, RATE, BLOCKS = (
    "train.learning_rate",
    "dropout",
    "block.kind",
    "block.growth_rate",
    "stages.*.blocks",
)
DEFAULT = default_space(Facts((8, 8, 1), 10), CLASSIFICATION)


def space(**vary: Any) -> Space:
    return Space(
        Recipe(spec=NET), {path: vary[name] for name, path in PATHS.items() if name in vary}
    )


PATHS = {
    "lr": LR,
    "drop": DROP,
    "block": BLOCK,
    "rate": RATE,
    "blocks": BLOCKS,
    "width": "stages.*.width",
    "bias": "train.recompute",
}
TWO = space(lr=Range(low=1e-3, high=1e-1, log=True), drop=Range(low=0.0, high=0.5))


def draw(space: Space, random: np.random.Generator) -> dict[str, Any]:
    values: dict[str, Any] = {"tuner/epochs": 3}
    for path, item in space.vary.items():
        if isinstance(item, tuple):
            values[path] = item[random.integers(len(item))]
        elif space.is_whole(path):
            values[path] = int(random.integers(int(item.low), int(item.high) + 1))
        elif item.log:
            values[path] = math.exp(random.uniform(math.log(item.low), math.log(item.high)))
        else:
            values[path] = random.uniform(item.low, item.high)
    for path in space.vary:
        if (condition := space.condition(path)) and values[condition[0]] not in condition[1]:
            del values[path]
    return values


def trials(
    space: Space, score: Callable[[dict[str, Any]], float], count: int = 40, seed: int = 0
) -> list[TrialRecord]:
    random = np.random.default_rng(seed)
    drawn = [draw(space, random) for _ in range(count)]
    return [
        TrialRecord(
            number=number,
            values=values,
            status="completed",
            score=score(values),
            metrics={"val_loss": 1.0},
            epochs=3,
        )
        for number, values in enumerate(drawn, start=1)
    ]


def rescored(records: Sequence[TrialRecord], change: Callable[[float], float]) -> list[TrialRecord]:
    return [dataclasses.replace(record, score=change(record.score or 0.0)) for record in records]


def unit_lr(values: dict[str, Any]) -> float:
    """Uniform from 0 to 1 where the learning rate is uniform on its logarithm from 1e-3 to 1e-1."""
    return (math.log10(values[LR]) + 3) / 2


@pytest.mark.parametrize(("lr", "drop"), [(3, 1), (1, 1), (1, 3), (1, 0)])
def test_importances_are_shares_of_the_variance_where_factors_add_up(
    lr: float, drop: float
) -> None:
    records = trials(TWO, lambda v: lr * unit_lr(v) + drop * 2 * v[DROP], 60)
    known = importances(records, TWO, "val_accuracy")
    # Near 9 to 1, 1 to 1 and so on; of the trials drawn it is known exactly.
    terms = np.var(
        [(lr * unit_lr(record.values), drop * 2 * record.values[DROP]) for record in records],
        axis=0,
    )
    assert known[LR] == pytest.approx(terms[0] / terms.sum(), abs=0.06)
    assert list(known.values()) == sorted(known.values(), reverse=True)
    assert sum(known.values()) == pytest.approx(1)


def test_importances_of_words_and_integers_are_shares_of_the_variance() -> None:
    both = space(block=KINDS, blocks=Range(low=1, high=4))
    worth = {"plain": 0, "basic": 1, "bottleneck": 1, "dense": 2}
    records = trials(both, lambda v: 2 * worth[v[BLOCK]] + v[BLOCKS], 60)
    terms = np.var(
        [(2 * worth[record.values[BLOCK]], record.values[BLOCKS]) for record in records], axis=0
    )
    assert importances(records, both, "val_accuracy")[BLOCK] == pytest.approx(
        terms[0] / terms.sum(), abs=0.08
    )


def test_a_valley_matters_as_much_as_a_slope_of_its_variance() -> None:
    # |u - 1/2| has the variance 1/48 and v / 2 that too.
    known = importances(trials(TWO, lambda v: abs(unit_lr(v) - 0.5) + v[DROP], 80), TWO, "val_loss")
    assert known[LR] == pytest.approx(0.5, abs=0.15)


def test_a_factor_without_effect_has_no_importance() -> None:
    five = space(
        lr=Range(low=1e-3, high=1e-1, log=True),
        drop=Range(low=0.0, high=0.5),
        block=KINDS,
        blocks=Range(low=1, high=4),
        width=(8, 16, 32),
    )
    noise = np.random.default_rng(3)
    known = importances(
        trials(five, lambda v: unit_lr(v) + 0.05 * noise.normal(), 40), five, "val_accuracy"
    )
    assert list(known) == [LR, *list(known)[1:]]
    assert known[LR] > 0.9


def test_a_factor_of_one_kind_counts_within_it() -> None:
    three = space(block=KINDS, rate=Range(low=4, high=24), drop=Range(low=0.0, high=0.5))

    def score(values: dict[str, Any]) -> float:
        return 1.0 + (values[RATE] - 4) / 20 if values[BLOCK] == "dense" else 0.0

    known = importances(trials(three, score, 120), three, "val_accuracy")
    # Of ranks from 0 to 1, of which dense has the upper quarter: exchanging the kind moves one by
    # about a half in 3 of 8 pairs, exchanging the rate by less than a quarter, in one of 4.
    assert known[BLOCK] > 0.85
    assert known[RATE] > known[DROP]
    # Within one kind it is all there is, though the values of other kinds' trials still name it.
    alone = [
        dataclasses.replace(r, score=r.values[RATE] if r.values[BLOCK] == "dense" else None)
        for r in trials(three, score, 120)
    ]
    assert importances(alone, three, "val_accuracy")[RATE] > 0.9


def test_a_value_left_over_from_another_kind_does_not_count() -> None:
    three = space(block=KINDS, rate=Range(low=4, high=24), drop=Range(low=0.0, high=0.5))
    random = np.random.default_rng(1)
    records = trials(three, lambda v: v[DROP] + (v[BLOCK] == "dense"))
    left = [
        dataclasses.replace(r, values={RATE: int(random.integers(4, 25)), **r.values})
        for r in records
    ]
    assert importances(left, three, "val_accuracy") == importances(records, three, "val_accuracy")
    best = dataclasses.replace(records[0], values={BLOCK: "plain", RATE: 24, DROP: 0.2})
    assert boundary(best, three) == []


def test_the_other_direction_gives_the_same() -> None:
    records = trials(TWO, lambda v: 3 * unit_lr(v) + 2 * v[DROP])
    up = importances(records, TWO, "val_accuracy")
    assert up == importances(rescored(records, lambda score: -score), TWO, "val_loss")
    assert up == importances(records[::-1], TWO, "val_accuracy")


@settings(max_examples=8)
@given(
    st.lists(st.integers(-50, 50), min_size=FEWEST, max_size=16),
    st.sampled_from([0.25, 1.0, 8.0]),
    st.sampled_from([-64.0, 0.0, 3.0]),
)
def test_importances_sum_to_one_and_ignore_affine_changes_of_the_score(
    scores: list[int], factor: float, offset: float
) -> None:
    given_scores = iter(scores)
    records = trials(TWO, lambda v: float(next(given_scores)), len(scores))
    known = importances(records, TWO, "val_accuracy")
    assert not known or sum(known.values()) == pytest.approx(1)
    assert all(importance >= 0 for importance in known.values())
    assert set(known) in (set(), set(TWO.vary))
    assert (
        importances(rescored(records, lambda score: factor * score + offset), TWO, "val_accuracy")
        == known
    )


def test_the_scale_of_a_factor_makes_no_difference() -> None:
    records = trials(TWO, lambda v: 3 * unit_lr(v) + 2 * v[DROP])
    squares = [
        dataclasses.replace(record, values={**record.values, LR: record.values[LR] ** 2})
        for record in records
    ]
    plain = space(lr=Range(low=1e-6, high=1e-2), drop=Range(low=0.0, high=0.5))
    assert (
        importances(squares, plain, "val_accuracy")
        == importances(records, TWO, "val_accuracy")
        != {}
    )


def test_one_diverged_trial_does_not_decide() -> None:
    records = trials(TWO, lambda v: 1.0 + unit_lr(v))
    worst = max(records, key=lambda r: r.values[DROP])
    spoilt = [dataclasses.replace(r, score=1e9) if r is worst else r for r in records]
    assert importances(spoilt, TWO, "val_loss")[LR] > 0.9


def test_too_few_or_equal_scores_say_nothing() -> None:
    records = trials(TWO, unit_lr, 20)
    failed = [dataclasses.replace(r, status="failed", score=None, error="boom") for r in records]
    assert importances([], TWO, "val_accuracy") == {}
    assert importances(records[: FEWEST - 1], TWO, "val_accuracy") == {}
    assert importances(failed, TWO, "val_accuracy") == {}
    assert importances(rescored(records, lambda score: 0.5), TWO, "val_accuracy") == {}
    assert (
        importances([*records, *failed], TWO, "val_accuracy")
        == importances(records, TWO, "val_accuracy")
        != {}
    )
    nan = [dataclasses.replace(record, score=math.nan) for record in records]
    assert importances([*records, *nan], TWO, "val_accuracy") == importances(
        records, TWO, "val_accuracy"
    )
    random = np.random.default_rng(0)
    assert importances(trials(TWO, lambda v: random.normal(), 40), TWO, "val_accuracy") == {}


def test_a_single_factor_has_importance_one() -> None:
    one = space(lr=Range(low=1e-3, high=1e-1, log=True))
    assert importances(trials(one, unit_lr, 20), one, "val_accuracy") == {LR: 1.0}


def at(space: Space, **values: Any) -> list[tuple[str, str]]:
    best = TrialRecord(
        number=1,
        values={PATHS[name]: value for name, value in values.items()},
        status="completed",
        score=1.0,
    )
    return [(end.path, end.end) for end in boundary(best, space)]


@pytest.mark.parametrize(
    ("lr", "ends"),
    # 5 % of two decades is a factor of 1.259.
    [
        (0.00125, [(LR, "lower")]),
        (0.00127, []),
        (0.0790, []),
        (0.0800, [(LR, "upper")]),
        (0.1, [(LR, "upper")]),
    ],
)
def test_ends_of_a_range_of_factors(lr: float, ends: list[tuple[str, str]]) -> None:
    assert at(TWO, lr=lr, drop=0.2) == ends


def test_ends_of_a_plain_range_and_of_the_spec() -> None:
    assert at(TWO, lr=0.01, drop=0.48) == [(DROP, "upper")]
    assert at(TWO, lr=0.01, drop=0.47) == []
    assert at(TWO, lr=0.01, drop=0.0) == []  # no dropout is less than none
    blocks = space(blocks=Range(low=1, high=4))
    assert at(blocks, blocks=4) == [(BLOCKS, "upper")]
    assert at(blocks, blocks=3) == at(blocks, blocks=1) == []  # no stage has 0 blocks
    assert at(space(blocks=Range(low=2, high=4)), blocks=2) == [(BLOCKS, "lower")]
    # In steps of 2 from 1 the last is 5.
    assert at(space(blocks=Range(low=1, high=6, step=2)), blocks=5) == [(BLOCKS, "upper")]


def test_ends_of_lists() -> None:
    width = space(width=(32, 8, 16))
    assert at(width, width=32) == [("stages.*.width", "upper")]
    assert at(width, width=8) == [("stages.*.width", "lower")]
    assert at(width, width=16) == []
    assert (
        at(space(width=(16,)), width=16)
        == at(space(block=KINDS), block="dense")
        == at(space(bias=(True, False)), bias="true")
        == []
    )
    assert at(space(lr=(1e-4, 1e-2)), lr=1e-4) == [(LR, "lower")]
    assert at(space(drop=(0, 0.25, 0.5)), drop="0") == []
    # Keras Tuner keeps mixed numbers by their text
    assert at(space(drop=(0, 0.25, 0.5)), drop="0.5") == [(DROP, "upper")]


def test_the_end_of_a_factor_of_one_kind_is_tried_with_that_kind() -> None:
    dense = space(block=KINDS, rate=Range(low=4, high=24))
    assert at(dense, block="dense", rate=24) == [(RATE, "upper")]
    assert at(dense, block="basic") == []


def test_a_warning_says_what_to_do() -> None:
    best = TrialRecord(number=1, values={LR: 0.0287, BLOCKS: 3}, status="completed", score=1.0)
    assert {end.sentence for end in boundary(best, DEFAULT)} == {
        "blocks 3 is at the upper end of its range (1 to 3): widen it",
        "lr 0.0287 is at the upper end of its range (0.001 to 0.03): widen it",
    }
    wide = TrialRecord(number=1, values={"stages.*.width": 32}, status="completed", score=1.0)
    assert (
        boundary(wide, space(width=(8, 16, 32)))[0].sentence
        == "width 32 is the highest of its values (8, 16, 32): add higher values"
    )


def record(number: int, kind: str, score: float | None) -> TrialRecord:
    return TrialRecord(
        number=number,
        values={BLOCK: kind},
        status="failed" if score is None else "completed",
        score=score,
    )


def test_the_best_of_each_kind() -> None:
    kinds = space(block=KINDS)
    records = [
        record(1, "plain", 0.5),
        record(2, "dense", 0.7),
        record(3, "plain", 0.9),
        record(4, "basic", None),
    ]
    found = [
        (best.value, best.record and best.record.number, best.trials)
        for best in best_of_each(records, kinds, "val_accuracy")
    ]
    assert found == [("plain", 3, 2), ("dense", 2, 1), ("basic", None, 1), ("bottleneck", None, 0)]
    found = [
        (best.value, best.record and best.record.number, best.trials)
        for best in best_of_each(records, kinds, "val_loss")
    ]
    assert found == [("plain", 1, 2), ("dense", 2, 1), ("basic", None, 1), ("bottleneck", None, 0)]


def test_the_best_of_each_takes_the_first_words_there_are() -> None:
    assert best_of_each([], TWO, "val_accuracy") == []
    bias = space(bias=(True, False), width=(8, 16))
    records = [
        TrialRecord(number=n, values={"train.recompute": v}, status="completed", score=n / 9)
        for n, v in ((1, "true"), (2, "false"))
    ]
    assert [best.value for best in best_of_each(records, bias, "val_accuracy")] == [False, True]
    with pytest.raises(
        RequestError,
        match=r"stages\.\*\.width: not a list of words in this space; these are: train.recompute",
    ):
        best_of_each(records, bias, "val_accuracy", "stages.*.width")
    with pytest.raises(RequestError, match="norm: not a list of words"):
        best_of_each(records, bias, "val_accuracy", "norm")


def lines(
    records: Sequence[TrialRecord], space: Space, objective: str = "val_accuracy"
) -> list[str]:
    return [line.plain for line in what_mattered(records, space, objective)]


def score(values: dict[str, Any]) -> float:
    return 0.9 + 0.04 * math.log10(values[LR] / 1e-3) + 0.02 * (values[BLOCK] == "dense")


def test_what_mattered_in_twelve_lines() -> None:
    records = trials(DEFAULT, score)
    shown = lines(records, DEFAULT)
    assert len(shown) <= 12
    assert max(map(len, shown)) <= 80
    assert shown[0] == "what mattered for val_accuracy (40 trials)"
    known = importances(records, DEFAULT, "val_accuracy")
    assert shown[1].split()[0] == "lr"
    assert shown[1].endswith(f"{100 * known[LR]:.0f} %")
    assert shown[5] == "best of each block"
    assert shown[6].split()[0] == "dense"
    assert shown[-1].startswith("! ")
    assert (
        lines(trials(DEFAULT, score, 19), DEFAULT)[0]
        == "what mattered for val_accuracy (19 trials, a rough estimate)"
    )
    assert shown[-1].endswith("widen it")


def test_what_mattered_where_little_is_known() -> None:
    assert lines([], DEFAULT) == []
    assert lines([record(1, "dense", None)], DEFAULT) == []
    shown = lines([record(1, "dense", 0.5), record(2, "plain", None)], DEFAULT)
    assert shown[1] == f"  too few trials to estimate importance; it takes at least {FEWEST}"
    assert shown[3] == "  dense        50.0 %  best of 1: "
    assert shown[4:] == [
        "  plain       1 failed, none has a score",
        "  basic       not tried",
        "  bottleneck  not tried",
    ]
    same = lines(rescored(trials(DEFAULT, score), lambda score: 0.5), DEFAULT)
    assert (
        same[1] == "  no factor stands out: the values of these trials do not predict their scores"
    )
    many = space(
        blocks=(1, 2),
        lr=Range(low=1e-3, high=1e-1),
        drop=Range(low=0.0, high=0.5),
        width=(8, 16),
        bias=(True, False),
    )
    told = lines(trials(many, lambda v: unit_lr(v) + v[DROP], 30), many)
    assert len(told) <= 12
    assert "and 1 more" in told[4]


def words(svg: Path) -> list[str]:
    return [
        "".join(element.itertext()).strip()
        for element in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")
    ]


def mixed(count: int = 40) -> list[TrialRecord]:
    records = trials(DEFAULT, lambda v: min(score(v), 1.0), count)
    records[3] = dataclasses.replace(records[3], status="failed", score=None, error="boom")
    # A trial that a rule ended early is of a status of its own.
    records[5] = dataclasses.replace(records[5], score=0.11, status="stopped")
    return records


def test_the_picture_has_a_panel_for_each_factor_the_most_important_first(tmp_path: Path) -> None:
    records = mixed()
    path = factor_plot(records, DEFAULT, "val_accuracy", tmp_path / "factors.svg")
    told = words(path)
    short = DEFAULT.short_names()
    order = [short[path] for path in importances(records, DEFAULT, "val_accuracy")]
    assert [word for word in told if word in order] == order
    assert {
        "trial",
        "stopped early",
        "far below",
        "failed",
        "best",
        "median",
        "middle half",
        "dense",
        "0.003",
    } <= set(told)
    assert "val_accuracy  ·  39 trials  ·  1 failed" in told
    assert (
        path.read_bytes()
        == factor_plot(records, DEFAULT, "val_accuracy", tmp_path / "again.svg").read_bytes()
    )
    png = factor_plot(records, DEFAULT, "val_accuracy", tmp_path / "factors.png")
    assert png.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "change", [lambda s: 0.5, lambda s: 1.0, lambda s: s - 5, lambda s: 10 ** (8 * s), round]
)
@pytest.mark.parametrize("objective", ["val_accuracy", "val_loss"])
def test_any_scores_can_be_drawn(
    tmp_path: Path, objective: str, change: Callable[[float], float]
) -> None:
    records = rescored(mixed(12), change)
    factor_plot(records, DEFAULT, objective, tmp_path / "p.svg", {})
    better = [r.score if objective == "val_accuracy" else -r.score for r in scored(records)]
    page = factor_figure(records, DEFAULT, objective, {})
    for panel in page.axes:
        low, high = panel.get_ylim()
        heights = sorted(y for _, y in points(panel))
        assert len(heights) == len(better)
        assert low < heights[0] <= heights[-1] < high
    # A trial is at the same height in each panel, and no worse one is above a better one.
    lr = next(panel for panel in page.axes if panel.get_title(loc="left") == "lr")
    places = dict(points(lr))
    by_age = [places[r.values[LR]] for r in scored(records)]
    order = np.argsort(better, kind="stable")
    assert (np.diff(np.array(by_age)[order]) >= 0).all()


def points(panel: Any) -> list[tuple[float, float]]:
    """Where the trials of a panel are; failed ones are not among them."""
    lines = [line for line in panel.lines if line.get_marker() in ("o", "v", "*")]
    return [(float(x), float(y)) for line in lines for x, y in line.get_xydata()]


def nines(count: int) -> float:
    """An accuracy whose error is this power of ten: at height `count`."""
    return 1 - 10.0**-count


def test_points_are_as_high_as_their_scores_on_the_axis_beside_them() -> None:
    one = space(lr=Range(low=1e-3, high=1e-1, log=True))
    rates = (0.002, 0.005, 0.02, 0.05)
    records = [
        TrialRecord(number=n, values={LR: rate}, status="completed", score=nines(n))
        for n, rate in enumerate(rates, start=1)
    ]
    page = factor_figure(records, one, "val_accuracy", {})
    (panel,) = page.axes

    def pixels(x: float, y: float) -> tuple[float, float]:
        return tuple(panel.transData.transform((x, y)))

    found = sorted(pixels(x, y) for x, y in points(panel))
    heights = [y for _, y in found]
    # 90, 99, 99.9 and 99.99 %: one tenth of the error is as far each time, and more than a tenth of
    # the panel.
    steps = np.diff(heights)
    assert steps == pytest.approx([steps[0]] * 3)
    assert steps[0] > 0.1 * panel.bbox.height
    ticks = zip(panel.get_yticks(), panel.get_yticklabels(), strict=True)
    written = {label.get_text(): pixels(0.01, y)[1] for y, label in ticks}
    assert written["90 %"] == pytest.approx(heights[0])
    assert written["99.9 %"] == pytest.approx(heights[2])
    # 0.002 to 0.005 and 0.02 to 0.05 are one factor.
    across = [x for x, _ in found]
    assert across[1] - across[0] == pytest.approx(across[3] - across[2])
    (star,) = [line for line in panel.lines if line.get_marker() == "*"]
    assert star.get_xydata().tolist() == [pytest.approx([0.05, 4.0])]


def test_a_loss_is_the_higher_the_smaller() -> None:
    one = space(lr=Range(low=1e-3, high=1e-1, log=True))
    records = [
        TrialRecord(number=n, values={LR: rate}, status="completed", score=loss)
        for n, (rate, loss) in enumerate([(0.002, 1.0), (0.01, 0.1), (0.05, 0.01)], start=1)
    ]
    page = factor_figure(records, one, "val_loss", {})
    assert [y for _, y in sorted(points(page.axes[0]))] == pytest.approx([0, 1, 2])


@pytest.mark.parametrize("kind", ["words", "numbers"])
def test_the_middle_half_is_from_the_first_quartile_to_the_third(kind: str) -> None:
    if kind == "words":
        one = space(block=("plain", "basic", "dense"))
        values: list[Any] = ["plain", "basic", "dense"]
    else:
        one = space(lr=Range(low=1e-3, high=1e-1, log=True))
        values = [2e-3, 1e-2, 5e-2]
    (path,) = one.vary
    # Heights 1 to 5 at each value: by hand the quartiles are 2 and 4, and the median is 3.
    records = [
        TrialRecord(number=5 * place + n, values={path: value}, status="completed", score=nines(n))
        for place, value in enumerate(values)
        for n in range(1, 6)
    ]
    (panel,) = factor_figure(records, one, "val_accuracy", {}).axes
    bands = [path.vertices[:, 1] for area in panel.collections for path in area.get_paths()]
    assert len(bands) == (3 if kind == "words" else 1)
    for band in bands:
        assert (band.min(), band.max()) == (pytest.approx(2), pytest.approx(4))
    medians = [line.get_ydata() for line in panel.lines if line.get_marker() == "None"]
    assert len(medians) == len(bands)
    for line in medians:
        assert line == pytest.approx([3] * len(line))


def test_conditional_factors_lists_and_one_trial_can_be_drawn(tmp_path: Path) -> None:
    wide = space(
        block=KINDS,
        rate=Range(low=4, high=24),
        width=(8, 16, 32),
        bias=(True, False),
        blocks=Range(low=1, high=60, log=True),
    )
    records = trials(wide, lambda v: v[BLOCKS] / 100)
    told = words(factor_plot(records, wide, "val_accuracy", tmp_path / "a.svg"))
    assert sum("dense only" in word for word in told) == 1
    one = space(lr=Range(low=1e-3, high=1e-1, log=True))
    told = words(factor_plot(trials(one, unit_lr, 1), one, "val_accuracy", tmp_path / "b.svg"))
    assert any("importance of factors unknown" in word for word in told)
    basic = [r for r in records if r.values[BLOCK] != "dense"]
    factor_plot(basic, wide, "val_accuracy", tmp_path / "c.svg")


def test_what_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no trial has a score"):
        factor_plot([record(1, "dense", None)], DEFAULT, "val_accuracy", tmp_path / "a.svg")
    with pytest.raises(RequestError, match=r"unknown suffix \.pdf; use \.svg or \.png"):
        factor_plot(mixed(), DEFAULT, "val_accuracy", tmp_path / "a.pdf")
    assert not list(tmp_path.iterdir())


def test_what_mattered_needs_no_framework_and_loads_the_forest_only_when_asked() -> None:
    code = (
        "import sys, tuning.insight.summary, tuning.report.factors; "
        "heavy = {'tensorflow', 'keras', 'keras_tuner', 'mlflow', 'optuna', 'sklearn', "
        "'matplotlib', 'rich'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_one_score_has_an_axis_of_scores_that_exist() -> None:
    """99.9999 % stood where half of the only error is."""
    scores = np.array([0.162])
    scale = scale_of("val_accuracy", scores)
    written = [text for _, text in marks(scale, *limits(scale.height(scores)))]
    assert written == ["30 %", "20 %", "0 %"]
