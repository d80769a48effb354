"""Search spaces as values: a spec with ranges in it, its points, and the recipes at them.

Start at `tuning.space.space`. Needs no framework.

Imports: reskeras.nets, reskeras.spec, reskeras.tasks.
Imported by: reskeras.cli, tuning, tuning.insight, tuning.oracles, tuning.record, tuning.report,
tuning.running, tuning.search, tuning.tracking.
"""

from tuning.space.space import (
    Range,
    Scalar,
    Space,
    Vary,
    default_space,
    label,
    load_space,
    parse_space,
    sample,
)

__all__ = [
    "Range",
    "Scalar",
    "Space",
    "Vary",
    "default_space",
    "label",
    "load_space",
    "parse_space",
    "sample",
]
