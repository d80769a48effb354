"""Search spaces as values: a spec with ranges in it, its points, and the recipes at them."""

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
