"""A saved view of MLflow's runs page: ordered columns, parallel coordinates, learning curves.

MLflow opens an experiment without any column of a parameter or metric and without parallel coordinates. A view that its own
"share" button saves is a tag of the experiment; this module writes such a tag. Its keys are MLflow's (3.15 and later), not a
public contract: a version that does not know them shows its plain page.
"""

import base64
import json
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

VIEW_KEY = "reskeras"


def saved_view(objective: str, columns: Sequence[str], log_axes: Mapping[str, str]) -> str:
    """The value of the tag `mlflow.sharedViewState.<VIEW_KEY>`.

    Args:
        objective: the metric that trials are compared by; rows are in its order.
        columns: the searched parameters, by their names in MLflow.
        log_axes: from a parameter to the one that holds its logarithm, which charts show in its place.
    """
    axes = [log_axes.get(column, column) for column in columns]
    curves = [_curve(index, metric) for index, metric in enumerate(["val_accuracy", "val_loss", "loss"])]
    numeric = [axis for axis in axes if axis not in ("block", "norm_order")]
    charts: list[dict[str, Any]] = [
        _chart("parallel", "PARALLEL", f"What gave the best {objective}?")
        | {"selectedParams": axes, "selectedMetrics": [objective], "showAllRuns": False},
        _chart("size", "SCATTER", f"Size against {objective}")
        | {"xaxis": _axis("METRIC", "params_millions"), "yaxis": _axis("METRIC", objective)},
    ]
    charts += [
        _chart(f"by-{axis}", "SCATTER", f"{axis} against {objective}")
        | {"xaxis": _axis("PARAM", axis), "yaxis": _axis("METRIC", objective)}
        for axis in numeric[:2]
    ]
    wanted = [f"metrics.`{objective}`", *(f"params.`{column}`" for column in columns)]
    wanted += ["metrics.`val_loss`", "metrics.`params_millions`", "metrics.`trial_seconds`"]
    state = {
        "searchFilter": "tags.`reskeras.kind` = 'trial'",
        "orderByKey": f"metrics.`{objective}`",
        "orderByAsc": objective.endswith("loss"),
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": wanted,
        "columnOrder": wanted,
        "columnWidths": {},
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": charts + curves,
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
    now = int(time.time() * 1000)
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    return json.dumps({"name": "reskeras", "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"})


def view_url(server: str, experiment_id: str, mode: str = "CHART") -> str:
    """The page of an experiment with the saved view; mode is CHART or TABLE."""
    return (
        f"{server}/#/experiments/{experiment_id}/runs?workflowType=machine_learning&compareRunsMode={mode}"
        f"&viewStateShareKey={VIEW_KEY}"
    )


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
