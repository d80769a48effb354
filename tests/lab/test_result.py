"""Verdicts, by hand."""

import pytest

from reskeras.lab import Bound, Check, Verdict


@pytest.mark.parametrize(
    ("bound", "tolerance", "measured", "passes"),
    [
        (Bound.EQUAL, 0.5, 2.5, True),
        (Bound.EQUAL, 0.5, 1.4, False),
        (Bound.EQUAL, 0.5, float("nan"), False),
        (Bound.AT_LEAST, 0.0, 2.0, True),
        (Bound.AT_LEAST, 0.0, 9.0, True),
        (Bound.AT_LEAST, -0.5, 2.4, False),
        (Bound.AT_LEAST, -0.5, 2.6, True),
        (Bound.AT_MOST, 0.5, 2.4, True),
        (Bound.AT_MOST, -0.5, 1.6, False),
        (Bound.AT_MOST, 0.0, float("nan"), False),
    ],
)
def test_a_verdict(bound: Bound, tolerance: float, measured: float, *, passes: bool) -> None:
    check = Check(
        claim="", source="", expected=2.0, measured=measured, tolerance=tolerance, bound=bound
    )
    assert check.verdict is (Verdict.PASS if passes else Verdict.FAIL)
    assert check.document()["bound"] == bound.value
