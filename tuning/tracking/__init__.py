"""Records searches in MLflow, and reads them back. The only room that imports mlflow.

Start at `tuning.tracking.tracker`, which listens to a search, and `tuning.tracking.runs`.

Imports: reskeras.drawing, reskeras.lab, reskeras.models, reskeras.nets, reskeras.spec,
reskeras.tasks, tuning.record, tuning.report, tuning.space.
Imported by: reskeras.cli.
"""

from tuning.tracking.store import open_store, tracking_uri
from tuning.tracking.tracker import Tracker, sync

__all__ = ["Tracker", "open_store", "sync", "tracking_uri"]
