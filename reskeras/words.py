"""Numbers as people read them."""


def percent(objective: str, score: float | None) -> str:
    """A score as people read it: shares in percent, losses as they are."""
    if score is None:
        return "-"
    return f"{score:.4f}" if objective.endswith("loss") else f"{100 * score:.1f} %"


def compact(count: int) -> str:
    """A count to three digits: 812, 77.6k, 25.6M."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.3g}{name}"
    return str(count)
