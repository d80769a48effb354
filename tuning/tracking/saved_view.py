"""A saved view of MLflow's runs page: ordered columns, parallel coordinates, learning curves.

MLflow opens an experiment without any column of a parameter or metric and without parallel coordinates. A view that its own
"share" button saves is a tag of the experiment; this module writes such a tag. Its keys are MLflow's (3.15 and later), not a
public contract: a version that does not know them shows its plain page.
"""

import base64
import json
import zlib
from typing import Any

from tuning.settings import sign
from tuning.space import Range
from tuning.tracking.subject import Subject

_TAG = "mlflow.sharedViewState."


def view_key(search_id: str) -> str:
    """The name of a search's view in addresses."""
    return f"reskeras-{search_id[:12]}"


def view_tag(search_id: str) -> str:
    """The name of the tag that holds a search's view."""
    return f"{_TAG}{view_key(search_id)}"


def saved_view(subject: Subject) -> str:
    """The value of a search's `view_tag`: what its trials are compared by, the best first, and charts of what gave the best."""
    objective = subject.objective
    columns = list(subject.short.values())
    axes = [subject.log_axes.get(column, column) for column in columns]
    numeric = [axis for axis, path in zip(axes, subject.short, strict=True) if not _words(subject.space.vary[path])]
    across = numeric[-1] if numeric else "depth"
    charts: list[dict[str, Any]] = [
        _chart("parallel", "PARALLEL", f"What gave the best {objective}?")
        | {"selectedParams": ["depth", *axes], "selectedMetrics": [objective], "showAllRuns": False},
        _chart("size", "SCATTER", f"Size against {objective}")
        | {"xaxis": _axis("METRIC", "params_millions"), "yaxis": _axis("METRIC", objective)},
        _chart("contour", "CONTOUR", f"depth and {across}")
        | {"xaxis": _axis("PARAM", across), "yaxis": _axis("PARAM", "depth"), "zaxis": _axis("METRIC", objective)},
        _chart("across", "SCATTER", f"{across} against {objective}")
        | {"xaxis": _axis("PARAM", across), "yaxis": _axis("METRIC", objective)},
    ]
    curves = dict.fromkeys([objective, "val_loss", "loss"])
    wanted = [f"metrics.`{objective}`", *(f"params.`{column}`" for column in columns), "params.`depth`"]
    wanted += ["metrics.`params_millions`", "metrics.`trial_seconds`"]
    state = {
        "searchFilter": f"tags.`reskeras.search_id` = '{subject.search_id}' and tags.`reskeras.kind` = 'trial'",
        "orderByKey": f"metrics.`{objective}`",
        "orderByAsc": sign(objective) < 0,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": wanted,
        "columnOrder": wanted,
        "columnWidths": {},
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": charts + [_curve(index, metric) for index, metric in enumerate(curves)],
        "compareRunSections": [_section("search", "The search"), _section("curves", "Learning curves")],
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": True,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    made = int(subject.started * 1000)
    return json.dumps({"name": subject.name, "createdAt": made, "updatedAt": made, "state": f"deflate;{packed}"})


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


def _section(uuid: str, name: str) -> dict[str, Any]:
    return {"uuid": uuid, "name": name, "display": True, "isReordered": True, "deleted": False, "isGenerated": False}
