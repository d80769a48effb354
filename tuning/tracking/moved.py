"""Repairs a project folder that was moved or copied: its MLflow store finds its files again.

MLflow keeps the absolute location of every artifact in its database. In a moved folder it would
look in the old place, and recreate that to write to it.
"""

import contextlib
import sqlite3
from pathlib import Path

ARTIFACTS = "mlartifacts"
"""The folder beside an SQLite store that holds its artifacts."""

_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Columns in which MLflow (3.15 to 3.17) keeps locations, as addresses that start with the artifact
root."""


def follow(store: Path) -> None:
    """Points an SQLite store to the artifacts beside it, if it still names another folder.

    Only locations in a root called `mlartifacts` change, and only if the artifacts of one of its
    runs lie beside the store. All change in one transaction.
    """
    here = store.parent / ARTIFACTS
    if not here.is_dir():
        return
    with contextlib.closing(sqlite3.connect(store, timeout=60)) as database, database:
        found = database.execute(
            "SELECT DISTINCT artifact_location FROM experiments "
            f"WHERE artifact_location LIKE 'file:%/{ARTIFACTS}'"
        )
        for root in {row[0] for row in found} - {here.as_uri()}:
            runs = database.execute(
                "SELECT run_uuid FROM runs WHERE substr(artifact_uri, 1, ?) = ?",
                (len(root) + 1, f"{root}/"),
            )
            if not any((here / run[0]).is_dir() for run in runs):
                continue
            for table, column in _COLUMNS:
                database.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (here.as_uri(), len(root) + 1, root, len(root) + 1, f"{root}/"),
                )
