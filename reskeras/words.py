"""Numbers as people read them."""


def percent(share: float) -> str:
    """A share of 1 in percent: 98.3 %."""
    return f"{100 * share:.1f} %"


def compact(count: int) -> str:
    """A count to three digits: 812, 77.6k, 25.6M."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.3g}{name}"
    return str(count)
