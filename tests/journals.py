"""Journals by hand."""

from typing import Any


def header(**changes: Any) -> dict[str, Any]:
    """The first line of a search on 8x8 images of three classes; `about` and `data` are merged."""
    data = {
        "name": "blobs",
        "source": "a folder",
        "class_names": ["a"],
        "task": "classification",
        "image_shape": [8, 8, 1],
        "classes": 3,
        "sizes": {"train": 90, "val": 30, "test": 30},
    }
    about = {
        "name": "hand",
        "started": 0.0,
        "epochs": 1,
        "command": ["reskeras", "tune", "--name", "by hand"],
        "data": data | changes.pop("data", {}),
    }
    whole = {
        "search_id": "x",
        "space": {},
        "data": "a digest",
        "oracle": "random",
        "objective": "val_accuracy",
        "seed": 0,
        "about": about | changes.pop("about", {}),
    }
    return whole | changes
