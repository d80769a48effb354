"""The MLflow store: where it is, and opening it."""

import os
import re
import uuid
from pathlib import Path
from typing import Any

import filelock

from reskeras.errors import RequestError
from tuning.tracking.saved_view import VIEW_KEY

_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Its own defaults let one call wait for minutes after a server has gone.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "WARNING",  # it announces every table it creates
}
_SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "databricks", "databricks-uc")


def tracking_uri(given: str | None) -> str:
    """The store to use: the one given, MLFLOW_TRACKING_URI, or `mlflow.db` in the working directory.

    Raises:
        RequestError: a store that MLflow does not write to any more (a plain folder).
    """
    uri = given or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd() / 'mlflow.db'}"
    scheme, _, rest = uri.partition("://")
    if scheme not in _SCHEMES or (scheme == "sqlite" and rest in ("", "/")):
        raise RequestError(
            f"tracking store {shown(uri)!r}: give sqlite:///mlflow.db, the http(s):// address of a server, or another store that "
            "MLflow writes to (a plain folder is none any more)"
        )
    return uri


def open_store(uri: str) -> Any:
    """An `MlflowClient` on a store, which is created where it is a new SQLite file."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    if not uri.startswith("sqlite:///"):
        return MlflowClient(uri)
    path = sqlite_path(uri)
    # Processes that create the tables at the same time crash each other.
    with filelock.FileLock(f"{path}.lock"):
        if not path.exists():
            # MLflow's migrations are no transaction: one that is killed in them leaves a store that nothing opens any more.
            for torn in path.parent.glob(f".{path.name}.*.partial*"):
                torn.unlink()
            partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")  # MLflow keeps connections by name
            MlflowClient(f"sqlite:///{partial}").search_experiments(max_results=1)
            os.replace(partial, path)
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
    return client


def searched_experiments(uri: str) -> dict[str, str]:
    """The experiments of a store that searches wrote to, the latest first: from name to id."""
    found = open_store(uri).search_experiments(order_by=["last_update_time DESC"])
    key = f"mlflow.sharedViewState.{VIEW_KEY}"
    return {experiment.name: experiment.experiment_id for experiment in found if key in experiment.tags}


def shown(uri: str) -> str:
    """A store's address as it may be printed."""
    return re.sub(r"//[^/@]+@", "//***@", uri)  # without a password


def sqlite_path(uri: str) -> Path:
    """The file of an SQLite store."""
    return Path(uri.removeprefix("sqlite:///")).resolve()
