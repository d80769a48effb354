"""The evaluation of a search's kept model, as a folder in the search's own."""

import json
from pathlib import Path
from typing import Any

from reskeras.errors import RequestError

EVALUATION = "evaluation"
"""The folder, as `reskeras.evaluation.files.write` makes it."""


def read_evaluation(directory: Path) -> dict[str, Any] | None:
    """The document of `reskeras.evaluation.evaluate.Evaluation`; None if there is none.

    Args:
        directory: the search's folder.

    Raises:
        RequestError: the document cannot be read.
    """
    path = directory / EVALUATION / "metrics.json"
    if not path.exists():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError(
            f"{path}: {error}; remove {path.parent} and repeat the search's command"
        ) from error
    return found
