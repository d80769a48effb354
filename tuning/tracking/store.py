"""The MLflow store: where it is, and how to open it."""

import logging
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import filelock

from reskeras.errors import RequestError, hide_passwords, in_a_line
from reskeras.files import replacing
from tuning.settings import sign
from tuning.tracking.moved import ARTIFACTS, follow
from tuning.tracking.saved_view import view_key

_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # By default, one call waits for minutes after a server has gone.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    # it logs every table that it creates, and complains about a missing pip
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
_VIEWS = ((3, 15), (3, 17))
"""The oldest and newest version of MLflow whose saved views are known to match `saved_view`."""
_DATABASES = ("postgresql", "mysql", "mssql")
_SCHEMES = ("sqlite", "http", "https", *_DATABASES, "databricks", "databricks-uc")


def tracking_uri(given: str | None) -> str:
    """The store to use: the given one, MLFLOW_TRACKING_URI, or `mlflow.db` in this directory.

    A server that does not answer is no mistake: it may come back.

    Raises:
        RequestError: a store that can never work: one that MLflow no longer writes to (a plain
            folder), an SQLite file in a folder that does not exist, a database without its driver.
    """
    uri = given or default_uri()
    scheme, _, rest = uri.partition("://")
    where = f"tracking store {hide_passwords(uri)!r}"
    dialect = scheme.partition("+")[0]
    if dialect not in _SCHEMES or (scheme == "sqlite" and rest in ("", "/")):
        raise RequestError(
            f"{where}: "
            "give sqlite:///mlflow.db, the http(s):// address of a server, or another store that "
            "MLflow writes to (a plain folder no longer is)"
        )
    if scheme == "sqlite":
        folder = sqlite_path(uri).parent
        if not folder.is_dir():
            raise RequestError(f"{where}: the folder {folder} does not exist")
    elif dialect in _DATABASES:
        _check_driver(uri, where)
    return uri


def default_uri() -> str:
    """The store that is used if none is given."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd() / 'mlflow.db'}"


def _check_driver(uri: str, where: str) -> None:
    """Raises RequestError unless SQLAlchemy, which MLflow uses, has what it needs to connect."""
    import sqlalchemy

    try:
        sqlalchemy.create_engine(uri)
    except ModuleNotFoundError as error:
        raise RequestError(
            f"{where}: its driver, the Python module {error.name!r}, is not installed"
        ) from error
    except (sqlalchemy.exc.SQLAlchemyError, ValueError) as error:
        raise RequestError(f"{where}: {hide_passwords(in_a_line(error))}") from error


def open_store(uri: str) -> Any:
    """Opens a store as an `MlflowClient`; creates it if it is a new SQLite file."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    # It prints every retry; the error that remains says the same.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    from mlflow import MlflowClient

    if not uri.startswith("sqlite:///"):
        return MlflowClient(uri)
    path = sqlite_path(uri)
    # Processes that create the tables at the same time crash each other.
    with filelock.FileLock(f"{path}.lock"):
        if not path.exists():
            # MLflow's migrations are not atomic: if one is killed, nothing can open the store
            # anymore.
            for torn in path.parent.glob(f".*.partial.{path.name}*"):
                torn.unlink()
            with replacing(path) as partial:
                MlflowClient(f"sqlite:///{partial}").search_experiments(max_results=1)
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)
        follow(path)
    return client


def served(uri: str) -> bool:
    """Whether a store is behind a server of its own."""
    return uri.startswith(("http://", "https://"))


def check_exists(uri: str) -> None:
    """Raises RequestError for an SQLite store without a file: reading never creates a store."""
    if uri.startswith("sqlite:///") and not sqlite_path(uri).is_file():
        raise RequestError(f"{sqlite_path(uri)}: no store here yet; `reskeras tune` makes one")


def artifact_location(uri: str) -> str | None:
    """Where a new experiment keeps files: beside an SQLite store; None: the server decides."""
    return (sqlite_path(uri).parent / ARTIFACTS).as_uri() if uri.startswith("sqlite:///") else None


def experiment_named(client: Any, uri: str, name: str) -> str:
    """The id of the experiment to use: the environment's, or else that of this name, found or made.

    Args:
        client: what `open_store` returns.
        uri: the store's address.
        name: the name, if neither MLFLOW_EXPERIMENT_ID nor MLFLOW_EXPERIMENT_NAME says another.
    """
    from mlflow.exceptions import MlflowException

    if given := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        # Which `mlflow.set_experiment` sets too
        return given
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or name
    if (found := client.get_experiment_by_name(name)) is not None:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name, artifact_location=artifact_location(uri)))
    except MlflowException:
        if (found := client.get_experiment_by_name(name)) is None:
            raise
        return str(found.experiment_id)  # another process was quicker


def knows_views(uri: str) -> bool:
    """Whether the UI of a store supports the saved views of `tuning.tracking.saved_view`.

    Raises:
        OSError: the server does not answer.
    """
    import mlflow
    import requests

    version = mlflow.__version__
    if served(uri):
        answer = requests.get(f"{uri.rstrip('/')}/version", timeout=10)
        version = answer.text if answer.ok else ""
    found = re.match(r"(\d+)\.(\d+)\.", version)
    return found is not None and _VIEWS[0] <= (int(found[1]), int(found[2])) <= _VIEWS[1]


def view_link(experiment: str, search_id: str, objective: str, *, views: bool) -> str:
    """The page of a search, relative to the server: its saved view, or a list of its trials."""
    page = f"/#/experiments/{experiment}/runs?workflowType=machine_learning&compareRunsMode="
    if views:
        return f"{page}CHART&viewStateShareKey={view_key(search_id)}"
    query = f"tags.`reskeras.search_id` = '{search_id}' and tags.`reskeras.kind` = 'trial'"
    ascending = "true" if sign(objective) < 0 else "false"
    order = f"orderByKey={quote(f'metrics.`{objective}`')}&orderByAsc={ascending}"
    return f"{page}TABLE&searchFilter={quote(query)}&{order}"


def search_pages(uri: str) -> list[tuple[str, str]]:
    """The searches of a store, latest first: names, and pages relative to the server's address."""
    client, views = open_store(uri), knows_views(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(
        experiments, "tags.`reskeras.kind` = 'search'", order_by=["attributes.start_time DESC"]
    )
    return [
        (
            run.data.tags["reskeras.search"],
            view_link(
                run.info.experiment_id,
                run.data.tags["reskeras.search_id"],
                run.data.tags["reskeras.objective"],
                views=views,
            ),
        )
        for run in runs
    ]


def sqlite_path(uri: str) -> Path:
    """The file of an SQLite store."""
    return Path(uri.removeprefix("sqlite:///")).resolve()
