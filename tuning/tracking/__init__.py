"""Records searches in MLflow. The only room that imports mlflow."""

from tuning.tracking.store import open_store, tracking_uri
from tuning.tracking.tracker import Tracker, sync

__all__ = ["Tracker", "open_store", "sync", "tracking_uri"]
