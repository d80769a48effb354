"""Keeps what the lab finds in MLflow."""

import tempfile
import time
from pathlib import Path

import reskeras
from reskeras.drawing.plot import save
from reskeras.errors import in_a_line
from reskeras.lab import Result
from tuning.tracking.store import experiment_named, open_store

_EXPERIMENT = "lab"


def log_result(uri: str, result: Result, data: str) -> str:
    """Makes a run of a result: its numbers, verdicts, table and figure. Returns the run's id.

    The run is in the MLflow experiment `lab`, or the one that the environment names.

    Args:
        uri: the store's address.
        result: what an experiment found.
        data: what it was done on, in words.

    Raises:
        RuntimeError: the store fails.
    """
    client = open_store(uri)
    from mlflow.entities import Metric, Param
    from mlflow.exceptions import MlflowException

    try:
        experiment = experiment_named(client, uri, _EXPERIMENT)
        tags = {
            "reskeras.lab": result.name,
            "reskeras.verdict": result.verdict.value,
            "reskeras.version": reskeras.__version__,
            "mlflow.note.content": _note(result),
        }
        run = client.create_run(
            experiment, run_name=f"{result.name} {result.network}"[:200], tags=tags
        )
        run_id = str(run.info.run_id)
        now = round(time.time() * 1000)
        numbers = {
            f"{kind}_{place}": value
            for place, check in enumerate(result.checks, start=1)
            for kind, value in (("measured", check.measured), ("expected", check.expected))
            if value is not None
        }
        params = {"network": result.network, "data": data, **result.settings}
        client.log_batch(
            run_id,
            metrics=[Metric(key, value, now, 0) for key, value in numbers.items()],
            params=[Param(key, str(value)[:6000]) for key, value in params.items()],
        )
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "result.json").write_text(result.json(), encoding="utf-8")
            Path(folder, "table.csv").write_text(result.table.csv(), encoding="utf-8")
            save(Path(folder, "figure.svg"), lambda: result.figure)
            client.log_artifacts(run_id, folder)
        client.set_terminated(run_id)
    except MlflowException as error:
        raise RuntimeError(f"MLflow: {in_a_line(error)}") from error
    return run_id


def _note(result: Result) -> str:
    """The run's description: the text, and a line for each claim."""
    lines = [result.text, ""]
    for place, check in enumerate(result.checks, start=1):
        numbers = f"measured {check.measured:.3g}"
        if check.expected is not None:
            numbers += f", theory {check.expected:.3g}"
        lines.append(f"{place}. **{check.verdict.value}**: {check.claim} ({numbers})")
    return "\n".join(lines)
