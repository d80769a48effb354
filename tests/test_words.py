"""Numbers as people read them; the expected texts are worked out by hand."""

import pytest

from reskeras.cli.values import COUNT
from reskeras.words import age, compact, duration, in_bytes, on_a_line, three_digits


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (812, "812"),
        (999, "999"),
        (1000, "1.00k"),
        (77_610, "77.6k"),
        (999_499, "999k"),
        (999_500, "1.00M"),
        (9_994_999, "9.99M"),
        (9_995_001, "10.0M"),
        (25_557_032, "25.6M"),
        (31_031_685, "31.0M"),
        (4_089_000_000, "4.09G"),
        (2.5e15, "2,500T"),
    ],
)
def test_counts_have_three_digits(count: float, text: str) -> None:
    assert compact(count) == text


def test_options_read_counts_as_they_are_written() -> None:
    for count in (812, 77_600, 25_600_000, 4_090_000_000):
        assert COUNT.convert(compact(count), None, None) == count


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (812, "812 B"),
        (1023, "1,023 B"),
        (1024, "1.00 KiB"),
        (100 * 2**20, "100 MiB"),
        (1.5 * 2**30, "1.50 GiB"),
    ],
)
def test_sizes_are_in_powers_of_1024(size: float, text: str) -> None:
    assert in_bytes(size) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.004593, "0.00459"),
        (1e-5, "1e-05"),
        (0.1, "0.1"),
        (1.0, "1"),
        (2_000_000.0, "2000000"),
        (12, "12"),
        ("basic", "basic"),
    ],
)
def test_fractions_have_three_digits(value: object, text: str) -> None:
    assert three_digits(value) == text


@pytest.mark.parametrize(
    ("seconds", "took", "ago"),
    [
        (0.2, "0 s", "0 s"),
        (59.6, "1 min 0 s", "59 s"),
        (125, "2 min 5 s", "2 min"),
        (5009, "1 h 23 min", "1 h"),
        (266_400, "74 h 0 min", "3 d"),
    ],
)
def test_times(seconds: float, took: str, ago: str) -> None:
    assert (duration(seconds), age(seconds)) == (took, ago)


def test_names_stay_on_their_line() -> None:
    assert on_a_line("two\nlines\tof é\u2028.png") == "two\\nlines\\tof é\\u2028.png"
