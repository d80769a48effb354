"""What TensorBoard's own reader finds in the folders that a search writes for it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from tuning.record.events import Ending
from tuning.tracking.tensorboard import TensorBoard

PATHS = {"optimizer.learning_rate": "learning_rate", "model.depth": "depth"}


def _events(folder: Path) -> list[Any]:
    (file,) = folder.iterdir()
    return [event for event in EventFileLoader(str(file)).Load() if event.HasField("summary")]


def _search(folder: Path) -> SimpleNamespace:
    return SimpleNamespace(directory=folder, space=SimpleNamespace(short_names=lambda: PATHS))


def _trial(key: str, **values: float) -> SimpleNamespace:
    return SimpleNamespace(
        key=key, values={path: values[name] for path, name in PATHS.items() if name in values}
    )


def _epoch(number: int, **metrics: float) -> SimpleNamespace:
    return SimpleNamespace(number=number, metrics=metrics)


def test_each_trial_has_a_folder_with_its_curves_and_its_point(tmp_path: Path) -> None:
    listener = TensorBoard()
    first, second = (
        _trial("trial-0001", learning_rate=0.25, depth=8),
        _trial("trial-0002", depth=20),
    )
    listener.search_started(_search(tmp_path))
    listener.trial_started(first)
    listener.trial_started(second)
    listener.epoch_ended(first, _epoch(1, loss=2.0, val_accuracy=0.25))
    listener.epoch_ended(second, _epoch(1, loss=4.0))
    listener.epoch_ended(first, _epoch(2, loss=1.5, val_accuracy=0.5))
    listener.trial_ended(first, None)
    listener.search_ended(Ending.INTERRUPTED, None)

    assert sorted(folder.name for folder in (tmp_path / "tensorboard").iterdir()) == [
        "trial-0001",
        "trial-0002",
    ]
    start, *epochs = _events(tmp_path / "tensorboard" / "trial-0001")
    curves = [
        (event.step, value.tag, value.tensor.float_val[0])
        for event in epochs
        for value in event.summary.value
    ]
    assert curves == [
        (1, "loss", 2.0),
        (1, "val_accuracy", 0.25),
        (2, "loss", 1.5),
        (2, "val_accuracy", 0.5),
    ]
    assert _point(start) == ("trial-0001", {"learning_rate": 0.25, "depth": 8.0})
    other, *_ = _events(tmp_path / "tensorboard" / "trial-0002")
    assert _point(other) == ("trial-0002", {"depth": 20.0})


def test_a_trial_that_ends_before_it_began_is_passed_over(tmp_path: Path) -> None:
    listener = TensorBoard()
    listener.search_started(_search(tmp_path))
    listener.trial_ended(_trial("trial-0001"), None)
    listener.search_ended(Ending.FINISHED, None)
    assert not (tmp_path / "tensorboard").exists()


def _point(event: Any) -> tuple[str, dict[str, float]]:
    (value,) = event.summary.value
    info = HParamsPluginData.FromString(value.metadata.plugin_data.content).session_start_info
    return info.group_name, {name: found.number_value for name, found in info.hparams.items()}
