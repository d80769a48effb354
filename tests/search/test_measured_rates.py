"""A search with the learning rates of a range test: measured once, and recorded."""

from pathlib import Path
from typing import Any

import pytest
from stubs import tiny

import tuning.search.rates
from reskeras.data import from_arrays
from reskeras.errors import RequestError
from tuning import Range, Space, tune
from tuning.search.rates import measured_rates, recorded_rates
from tuning.space.limits import Limits


def test_a_search_that_resumes_has_the_rates_it_began_with(
    blobs: dict[str, Any], tmp_path: Path
) -> None:
    data, space = from_arrays(blobs), tiny()
    space = Space(
        space.base,
        space.vary,
        start=[{"train.learning_rate": 1e-3}, {"train.learning_rate": 1e-1}],
    )
    assert recorded_rates(space, tmp_path / "search") is None
    measured = measured_rates(space, data, Limits())
    range_ = measured.vary["train.learning_rate"]
    assert isinstance(range_, Range)
    assert range_.log
    assert 1e-6 < range_.low < measured.base.train.learning_rate < range_.high < 10
    for point in measured.start:
        assert range_.low <= point["train.learning_rate"] <= range_.high
    result = tune(measured, data, directory=tmp_path / "search", trials=1, oracle="random")
    assert result.best.values["train.learning_rate"] == measured.base.train.learning_rate
    again = recorded_rates(space, tmp_path / "search")
    assert again is not None
    resumed = tune(again, data, directory=tmp_path / "search", trials=1, oracle="random")
    assert len(resumed.trials) == 1


def test_a_space_without_rates_gets_one(
    blobs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Found:
        low, high, suggested = 0.00123456, 0.1, 0.01111111

    monkeypatch.setattr(tuning.search.rates, "range_test", lambda *_: Found)
    data, space = from_arrays(blobs), tiny(**{"block.kind": ["plain", "basic"]})
    measured = measured_rates(space, data, Limits())
    assert measured.vary == space.vary
    assert measured.base.train.learning_rate == 0.0111
    assert measured_rates(tiny(), data, Limits()).vary["train.learning_rate"] == Range(
        low=0.00123, high=0.1, log=True
    )
    with pytest.raises(RequestError, match="own network, which has more than 10 parameters"):
        measured_rates(space, data, Limits(params=10))
