"""Numbers and names, formatted for people."""

import os


def printable(name: str | os.PathLike[str]) -> str:
    """A file's name as text: bytes that are not UTF-8 become replacement characters."""
    return os.fsencode(name).decode("utf-8", "replace")


def on_a_line(name: str) -> str:
    """A name without what breaks a line of a table: line breaks and tabs are escaped."""
    return "".join(
        repr(char)[1:-1] if char < " " or char in "\x7f\x85\u2028\u2029" else char for char in name
    )


def counted(images: int, windows: int | None = None, kind: str = "images") -> str:
    """How many images: `360 images`, `1 volume`, or `1,234 windows of 3 images`.

    Args:
        images: how many there are.
        windows: in how many parts they were looked at; None if as a whole.
        kind: the word for them, in the plural.
    """
    told = f"{images:,} {kind.removesuffix('s') if images == 1 else kind}"
    return told if windows is None else f"{windows:,} windows of {told}"


def percent(share: float) -> str:
    """A fraction in percent: 98.3 %."""
    return f"{100 * share:.1f} %"


def compact(count: float) -> str:
    """A count with three digits: 812, 77.6k, 25.6M, 1.00G. `--max-params` reads it back."""
    return _scaled(count, 1000, ("", "k", "M", "G", "T"))


def in_bytes(size: float) -> str:
    """A size in memory or on disk, with three digits: 812 B, 4.00 KiB, 97.7 MiB."""
    return _scaled(size, 1024, (" B", " KiB", " MiB", " GiB", " TiB"))


def three_digits(value: object) -> str:
    """A fraction with three digits, anything else in full: 0.00459, 1e-05, 128, basic."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if value.is_integer() else f"{value:.3g}"


def duration(seconds: float) -> str:
    """A duration: 45 s, 2 min 5 s, 1 h 23 min."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60:,} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def age(seconds: float) -> str:
    """An age in its largest whole unit: 45 s, 2 min, 1 h, 3 d."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(0, int(seconds))} s"


def _scaled(size: float, step: int, units: tuple[str, ...]) -> str:
    for power, unit in enumerate(units):
        scaled = size / step**power
        if scaled < step - 0.5 or unit == units[-1]:
            break
    decimals = 0 if power == 0 or scaled >= 99.95 else 1 if scaled >= 9.995 else 2
    return f"{scaled:,.{decimals}f}{unit}"
