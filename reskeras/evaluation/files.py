"""An evaluation as a folder of files."""

import csv
import json
import math
from pathlib import Path

from reskeras.drawing.confusion import confusion
from reskeras.drawing.plot import save
from reskeras.drawing.reliability import reliability
from reskeras.drawing.worst import Example, worst
from reskeras.evaluation.evaluate import Evaluation, images_at
from reskeras.files import replacing
from reskeras.models.predictor import Answerer
from reskeras.tasks import Labels

_WORST = 12


def write(evaluation: Evaluation, ask: Answerer, folder: Path) -> None:
    """Writes metrics.json, and per_class.csv and pictures where the task has them, atomically.

    Args:
        evaluation: of the network.
        ask: the network, which answers the worst images again.
        folder: where; it is made.
    """
    data = evaluation.shown
    with replacing(folder) as partial:
        partial.mkdir()
        text = json.dumps(evaluation.document(), indent=2)
        (partial / "metrics.json").write_text(text, encoding="utf-8")
        names = [evaluation.class_name(number) for number in range(data.classes)]
        if evaluation.by_class:
            _write_classes(evaluation, partial / "per_class.csv")
        if evaluation.confusion is not None:
            for suffix in ("png", "svg"):
                save(
                    partial / f"confusion.{suffix}", lambda: confusion(evaluation.confusion, names)
                )
        if evaluation.calibration:
            bins = [(each.size, each.confidence, *each.right) for each in evaluation.calibration]
            save(partial / "calibration.png", lambda: reliability(bins))
        examples = _examples(evaluation, ask)
        save(partial / "worst.png", lambda: worst(examples, data.task.labels, names))


def _write_classes(evaluation: Evaluation, path: Path) -> None:
    columns = evaluation.by_class
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", *(metric.name for metric in columns)])
        for number in range(len(next(iter(columns.values())))):
            values = [column[number] for column in columns.values()]
            # An empty field is a number that there is not.
            cells = ["" if math.isnan(value) else value for value in values]
            writer.writerow([evaluation.class_name(number), *cells])


def _examples(evaluation: Evaluation, ask: Answerer) -> list[Example]:
    places, data = evaluation.worst(_WORST), evaluation.shown
    images, labels = images_at(data, evaluation.split, places)
    task, kind, names = evaluation.task, data.task.labels, evaluation.class_names
    found = []
    for place, image, label, answer in zip(places, images, labels, ask(images), strict=True):
        told = task.label_in_words(label, names)
        title = (
            f"label {told}\nanswer {task.answer_in_words(answer, names)}"
            if told
            else data.reader.called(evaluation.split, place)
        )
        shown = task.settled(answer) if kind is Labels.MASK else answer
        found.append(Example(image, label, shown, title))
    return found
