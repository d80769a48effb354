"""The doctor: signs, before a long training, that it will fail, and what heals them.

Imports: reskeras.data, reskeras.lab, reskeras.models, reskeras.nets, reskeras.spec, reskeras.tasks,
reskeras.training.
Imported by: reskeras.cli.
"""

from collections.abc import Callable, Iterator

from reskeras.lab.doctor.by_arithmetic import BY_ARITHMETIC
from reskeras.lab.doctor.by_initialization import BY_INITIALIZATION
from reskeras.lab.doctor.by_training import BY_TRAINING
from reskeras.lab.doctor.finding import Case, Finding, Sign

__all__ = ["SIGNS", "Case", "Finding", "Sign", "examine", "heal"]

SIGNS: dict[str, Sign] = {
    sign.name: sign for sign in (*BY_ARITHMETIC, *BY_INITIALIZATION, *BY_TRAINING)
}
"""By name, the cheap ones first."""


def examine(case: Case) -> Iterator[Finding]:
    """Looks for every sign, one after another.

    Raises:
        RequestError: the data cannot be trained on like this.
    """
    for sign in SIGNS.values():
        finding = sign.examine(case)
        if finding is not None:
            yield finding


def heal(
    case: Case, findings: list[Finding], tell: Callable[[str], None]
) -> tuple[Case, list[Finding]]:
    """Changes what is unhealthy, sign by sign, until each is healthy or no change helps.

    Args:
        case: what was examined.
        findings: what was found.
        tell: called with a line for each sign.

    Returns:
        The changed case, and the findings that no change heals.
    """
    left = []
    for finding in findings:
        if finding.healthy:
            continue
        sign = SIGNS[finding.sign]
        now = sign.examine(case)  # an earlier change may have healed it, or made it worse
        if now is None or now.healthy:
            continue
        for remedy in sign.remedies(case):
            try:
                changed = case.changed(remedy)
            except ValueError:  # there is no such network
                continue
            after = sign.examine(changed)
            if after is None or after.healthy:
                case = changed
                tell(f"{sign.name}: {remedy.words}" + (f"; now {after.says}" if after else ""))
                break
        else:
            left.append(now)
            tell(f"{sign.name}: no change that was tried heals it; {now.advice}")
    return case, left
