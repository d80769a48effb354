"""A saved view of MLflow's runs page: ordered columns, parallel coordinates, learning curves.

By default, MLflow shows an experiment without columns for parameters and metrics, and without
parallel coordinates. MLflow's own "share" button saves a view in a tag of the experiment. This
module writes such a tag. Its keys are MLflow's (3.15 and later), not a public contract: a version
that does not know them shows its plain page.
"""

import base64
import json
import zlib
from typing import Any

from tuning.settings import sign
from tuning.space import Range, Space
from tuning.tracking.subject import Subject

_TAG = "mlflow.sharedViewState."
_PADDING, _LETTER, _NUMBER = 31, 7, 8
"""Pixels of a column in MLflow's table: padding and width of a letter. Then the characters that
tell numbers of a range apart."""


def view_key(search_id: str) -> str:
    """The name of a search's view in addresses."""
    return f"reskeras-{search_id[:12]}"


def view_tag(search_id: str) -> str:
    """The name of the tag that holds a search's view."""
    return f"{_TAG}{view_key(search_id)}"


def saved_view(subject: Subject) -> str:
    """The value of a search's `view_tag`: a table of the trials, best first, and charts."""
    objective = subject.objective
    numeric = [
        subject.log_axes.get(short, short)
        for path, short in subject.short.items()
        if not _words(subject.space.vary[path])
    ]
    across = numeric[-1] if numeric else "depth"
    wide: list[dict[str, Any]] = [
        _chart("parallel", "PARALLEL", f"What gave the best {objective}?")
        # The last one colors the lines.
        | {
            "selectedParams": list(dict.fromkeys([*_axes(subject), "depth"])),
            "selectedMetrics": [objective],
            "showAllRuns": False,
        },
    ]
    pairs = [
        _chart(f"pair-{key}", "SCATTER", f"{key} against {objective}", section="pairs")
        | {"xaxis": _axis(kind, key), "yaxis": _axis("METRIC", objective)}
        for key, kind in {"params_millions": "METRIC", across: "PARAM", "depth": "PARAM"}.items()
    ]
    if across != "depth":
        pairs.append(
            _chart("contour", "CONTOUR", f"depth and {across}", section="pairs")
            | {
                "xaxis": _axis("PARAM", across),
                "yaxis": _axis("PARAM", "depth"),
                "zaxis": _axis("METRIC", objective),
            }
        )
    drawn = dict.fromkeys([objective, objective.removeprefix("val_"), "val_loss", "loss"])
    curves = [_curve(index, metric) for index, metric in enumerate(drawn)]
    widths = _widths(subject)
    state = {
        "searchFilter": f"tags.`reskeras.search_id` = '{subject.search_id}' "
        "and tags.`reskeras.kind` = 'trial'",
        "orderByKey": f"metrics.`{objective}`",
        "orderByAsc": sign(objective) < 0,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(widths),
        "columnOrder": list(widths),
        "columnWidths": widths,
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": wide + curves + pairs,
        "compareRunSections": [
            _section("search", "What gave the best", columns=1, height=400),
            _section("curves", "Learning curves", columns=2, height=300),
            _section("pairs", "Two at a time", columns=2, height=360),
        ],
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": True,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "globalLineChartConfig": {
            "xAxisKey": "step",
            "lineSmoothness": 0,
            "selectedXAxisMetricKey": "",
        },
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    made = int(subject.started * 1000)
    return json.dumps(
        {"name": subject.name, "createdAt": made, "updatedAt": made, "state": f"deflate;{packed}"}
    )


def _axes(subject: Subject) -> list[str]:
    """Parameters that can be axes: MLflow omits runs without a value or of mixed type."""
    found = []
    for path, short in subject.short.items():
        item = subject.space.vary[path]
        mixed = not isinstance(item, Range) and len({isinstance(value, str) for value in item}) == 2
        if subject.space.condition(path) is None and not mixed:
            found.append(subject.log_axes.get(short, short))
    return found


def _widths(subject: Subject) -> dict[str, int]:
    """Columns of the table in order, with widths in pixels that fit headings and values."""
    values = {
        f"params.`{short}`": _longest(subject.space, path) for path, short in subject.short.items()
    }
    sizes = {
        "attributes.`Run Name`": 15,
        "runDateAndNestInfo": 7,  # when, and a sign for how it ended
        "metrics.`rank`": 3,
        # With space for the arrow of the sort order
        f"metrics.`{subject.objective}`": max(len(subject.objective) + 4, _NUMBER),
        **values,
        "params.`depth`": 3,
        "metrics.`params_millions`": 8,
        "metrics.`trial_seconds`": 8,
    }
    headings = {column: column.split("`")[1] if "`" in column else "" for column in sizes}
    return {
        column: round(_PADDING + _LETTER * max(size, len(headings[column])))
        for column, size in sizes.items()
    }


def _longest(space: Space, path: str) -> int:
    """Length of the longest value at a path."""
    item = space.vary[path]
    if isinstance(item, Range):
        return len(str(int(item.high))) if space.is_whole(path) else _NUMBER
    return max(len(str(value)) for value in item)


def _words(item: Any) -> bool:
    return not isinstance(item, Range) and any(isinstance(value, str | bool) for value in item)


def _chart(name: str, kind: str, title: str, *, section: str = "search") -> dict[str, Any]:
    return {
        "uuid": f"reskeras-{name}",
        "type": kind,
        "displayName": title,
        "runsCountToCompare": 100,
        "metricSectionId": section,
        "deleted": False,
        "isGenerated": False,
    }


def _curve(index: int, metric: str) -> dict[str, Any]:
    return _chart(f"curve-{index}", "LINE", metric, section="curves") | {
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "lineSmoothness": 0,
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "range": {},
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }


def _axis(kind: str, key: str) -> dict[str, str]:
    return {"key": key, "type": kind}


def _section(uuid: str, name: str, *, columns: int, height: int) -> dict[str, Any]:
    """Charts side by side in this many columns; `height` in pixels for each."""
    shown = {"display": True, "isReordered": True, "deleted": False, "isGenerated": False}
    return {"uuid": uuid, "name": name, "columns": columns, "cardHeight": height} | shown
