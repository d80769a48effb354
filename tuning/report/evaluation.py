"""The winner's evaluation as a section of the page."""

import base64
import html
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from reskeras.tasks import metric_of, task_called
from reskeras.words import counted
from tuning.record.evaluation import EVALUATION, read_evaluation

_MOST_CLASSES = 40
"""Classes whose scores the page lists."""
_PICTURES = {
    "confusion.svg": "labels in rows, answers in columns",
    "calibration.png": "how often answers are right, by how sure they are",
    "worst.png": "the worst answers",
}


def evaluation(directory: Path) -> tuple[str, str] | None:
    """What to say of the evaluation in a search's folder, and its tables and pictures as HTML.

    None if there is none.

    Raises:
        RequestError: it cannot be read.
    """
    found = read_evaluation(directory)
    if found is None:
        return None
    split = "validation" if found["split"] == "val" else "test"
    images = counted(
        found["images"], found.get("windows"), f"{split} {found.get('kind', 'images')}"
    )
    which = (
        f"On the {images}, by which it was chosen: expect a little less on new images."
        if found["split"] == "val"
        else f"On the {images}, which nothing else in the search has used."
    )
    note = f"{which} Intervals are 95 %; they are for other images of the same kind."
    pictures = f'<div class="pictures">{"".join(_drawn(directory))}</div>'
    return note, _scores(found) + _verdicts(found) + _classes(found) + pictures


def _scores(found: Mapping[str, Any]) -> str:
    rivals = found["rivals"]
    rows = []
    for name, value in found["metrics"].items():
        metric, (low, high) = metric_of(name), found["intervals"][name]
        interval = metric.write_interval(low, high)
        theirs = [
            metric.write(rival["metrics"][name]) if name in rival["metrics"] else "-"
            for rival in rivals
        ]
        rows.append([metric.label, metric.write(value), interval, *theirs])
    return _table(["", "value", "95 % interval", *(rival["name"] for rival in rivals)], rows)


def _verdicts(found: Mapping[str, Any]) -> str:
    texts = (rival["text"] for rival in found["rivals"])
    return "".join(f"<p>{html.escape(text[:1].upper() + text[1:])}.</p>" for text in texts)


def _classes(found: Mapping[str, Any]) -> str:
    classes = found["classes"]
    if not classes:
        return ""
    metrics = task_called(found["task"]).of_classes
    rows = [
        [each["name"], *(metric.write(each[metric.name]) for metric in metrics)]
        for each in classes[:_MOST_CLASSES]
    ]
    more = len(classes) - _MOST_CLASSES
    rest = (
        f'<p class="note">and {more:,} more in {EVALUATION}/per_class.csv</p>' if more > 0 else ""
    )
    return _table(["", *(metric.label for metric in metrics)], rows) + rest


def _drawn(directory: Path) -> Iterator[str]:
    for name, what in _PICTURES.items():
        path = directory / EVALUATION / name
        if path.exists():
            kind = "svg+xml" if path.suffix == ".svg" else "png"
            content = base64.b64encode(path.read_bytes()).decode("ascii")
            yield (
                f'<figure><img src="data:image/{kind};base64,{content}" alt="{what}">'
                f"<figcaption>{what}</figcaption></figure>"
            )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        first, *rest = cells
        numbers = "".join(f'<{tag} class="number">{html.escape(cell)}</{tag}>' for cell in rest)
        return f"<tr><{tag}>{html.escape(first)}</{tag}>{numbers}</tr>"

    body = "".join(line(row, "td") for row in rows)
    return (
        f'<div class="wide"><table><thead>{line(head, "th")}</thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
