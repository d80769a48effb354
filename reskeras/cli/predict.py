"""`reskeras predict`."""

import contextlib
import dataclasses
import functools
import itertools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

from reskeras.cli import options
from reskeras.cli.answers import Files, check_places, stored_by, write_table
from reskeras.cli.models import find_model, load_model
from reskeras.data.decode import BadImageError
from reskeras.data.unlabeled import Seen, Source, View, in_order, open_images
from reskeras.errors import RequestError
from reskeras.files import check_free, replacing
from reskeras.models.flips import Flips
from reskeras.tasks import Labels, Task
from reskeras.words import on_a_line

_BATCH = 32
_AHEAD = 2 * _BATCH
"""Images that are decoded while the network works on a batch."""
_SHRUNK = 2
"""An image that shrinks more loses details that masks could have."""


@click.command()
@click.argument("model")
@click.argument("images", nargs=-1, required=True, type=options.file_path)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="How many classes to name for each image.",
)
@click.option(
    "--windows/--no-windows",
    default=None,
    help="Keep images in their own size and answer by overlapping windows, or resize them to the "
    "network's input. Windows are for masks and restored images.  [default: windows for restored "
    "images, and for networks trained on patches]",
)
@click.option(
    "--flips",
    type=click.Choice([flips.value for flips in Flips]),
    help="Average the answers for an image and its mirror images.",
)
@options.out(
    "A new folder for the answers: masks and restored images as PNG files of the images' own size, "
    "other answers drawn on their images."
)
@click.option("--overlay", is_flag=True, help="With --out: also draw masks on their images.")
@click.option(
    "--csv",
    "table",
    type=options.file_path,
    metavar="FILE",
    help="A new CSV file with a row for each image.",
)
@options.tracking_uri
@options.as_json
def predict(
    model: str,
    images: tuple[Path, ...],
    top: int,
    windows: bool | None,
    flips: str | None,
    out: Path | None,
    overlay: bool,
    table: Path | None,
    tracking_uri: str | None,
    as_json: bool,
) -> None:
    """Prints what the network answers for each image: classes, numbers, keypoints.

    MODEL is a .keras file, a folder with one (searches/NAME, trained/NAME), or the id of a run in
    MLflow, of which the first 6 digits are enough. IMAGES are image files, folders of them, quoted
    patterns ('photos/**/*.png'), .npy and .npz files of images [N,H,W(,C)], or volumes (.nii,
    .nii.gz). An unreadable file is named, and the rest goes on; the exit status is 1 then.
    """
    sources = open_images(images)
    if overlay and out is None:
        raise RequestError("--overlay draws into a folder: give --out FOLDER, too")
    if out is not None:
        check_free(out, hint="give a new folder")
        if table is not None and table.resolve() == out.resolve():
            raise RequestError(f"--out and --csv are the same, {out}: a folder and a file")
        check_places(out, sources)
    if table is not None:
        check_free(table, hint="give a new file")
    with find_model(model, tracking_uri) as found:
        network = load_model(found)
    from reskeras.models.asking import border_of, by_windows, flipping
    from reskeras.models.predictor import answerer

    ask = answerer(network, found.data, _BATCH)
    task, labels = ask.task, ask.task.labels
    patches = found.data.get("resize") == "patch"
    if patches and windows is False:
        raise RequestError(
            f"--no-windows: {found.called} was trained on patches of images in their own size, and "
            "does not know smaller ones; leave it out"
        )
    own_size = (patches or labels is Labels.IMAGE) if windows is None else windows
    view = View.of(found.data, ask.image_shape, own_size=own_size)
    batches = ask if flips is None else flipping(ask, Flips(flips), found.called)
    whole = None
    if view.own_size or border_of(ask):
        whole = by_windows(ask, batches, found.called)
    if out is not None and (overlay or not labels.has_sides) and view.rank != 2:
        raise RequestError(f"--out {out}: only images are drawn on, not signals, nor volumes")
    work = _Work(
        sources=sources,
        readers=[source.reader(view) for source in sources],
        view=view,
        task=task,
        describe=functools.partial(task.describe, names=found.class_names),
        top=top,
        cells=table is not None,
    )
    width = max(len(on_a_line(name)) for source in sources for name in source.names)
    told: list[_Told] = []
    with contextlib.ExitStack() as stack:
        files = None
        if out is not None:
            stored = stored_by(found, ask.facts.classes, ask.form.shape[-1])
            folder = stack.enter_context(replacing(out))
            files = Files(folder, out, task, stored, overlay=overlay)
        # Ends first: threads that still write must not find their folder gone.
        pool = stack.enter_context(ThreadPoolExecutor(os.cpu_count()))
        stream = work.told(pool, batches, whole, files)
        # What is written is there in full before it is told.
        later = as_json or out is not None or table is not None
        for each in stream:
            told.append(each)
            if not later:
                click.echo(each.line(task, width))
        if not told:
            raise RuntimeError("none of the images can be read")
    if table is not None:
        write_table(table, [each.row for each in told])
    if as_json:
        click.echo(json.dumps([each.document(task) for each in told], indent=2))
    elif later:
        for each in told:
            click.echo(each.line(task, width))
    if labels.has_sides and not own_size and work.shrunk > _SHRUNK:
        click.echo(
            f"note: images were shrunk up to {work.shrunk:.3g} times to the network's input; "
            "--windows answers in their own size",
            err=True,
        )
    if work.unread:
        count = sum(len(source.names) for source in sources)
        raise RuntimeError(f"{work.unread:,} of {count:,} images cannot be read, and are left out")


class _Told(NamedTuple):
    """What is told of one image."""

    name: str
    described: Any
    files: dict[str, str]
    row: dict[str, Any]

    def document(self, task: Task) -> dict[str, Any]:
        return {"image": self.name, task.told: self.described, **self.files}

    def line(self, task: Task, width: int) -> str:
        written = "".join(f"  -> {on_a_line(path)}" for path in self.files.values())
        return f"{on_a_line(self.name):{width}}  {task.write(self.described)}{written}"


class _Answered(NamedTuple):
    source: Source
    number: int
    seen: Seen
    answer: Any


@dataclasses.dataclass
class _Work:
    """From images to what is told of them. Threads decode and write beside the network."""

    sources: Sequence[Source]
    readers: Sequence[Callable[[int], Seen]]
    """For each source."""
    view: View
    task: Task
    describe: Callable[..., Any]
    top: int
    cells: bool
    """Whether rows of a table are needed."""
    unread: int = 0
    shrunk: float = 0.0
    """How many times an image became smaller, at most."""

    def told(
        self, pool: Executor, batches: Callable[[Any], Any], whole: Any, files: Files | None
    ) -> Iterator[_Told]:
        """Yields what is told of each image, in their order.

        Args:
            pool: for threads.
            batches: answers to images [N,*sides,C] of the network's size.
            whole: the answer to one image [*sides,C] of any size; None: all have the network's.
            files: writes answers, if they are to be written.
        """
        # Whole images may be large: few wait.
        ahead = 2 if whole is not None else _AHEAD
        images = self._images(pool, ahead)
        answered = self._in_batches(images, batches) if whole is None else self._each(images, whole)
        return in_order(pool, functools.partial(self._finished, files=files), answered, ahead)

    def _images(self, pool: Executor, ahead: int) -> Iterator[tuple[Source, int, Seen]]:
        def read(item: tuple[int, int]) -> tuple[Source, int, Seen | BadImageError]:
            place, number = item
            try:
                return self.sources[place], number, self.readers[place](number)
            except BadImageError as error:
                return self.sources[place], number, error

        items = (
            (place, number)
            for place, source in enumerate(self.sources)
            for number in range(len(source.names))
        )
        for source, number, seen in in_order(pool, read, items, ahead):
            if isinstance(seen, BadImageError):
                self.unread += 1
                click.echo(f"error: {on_a_line(source.names[number])}: {seen}; left out", err=True)
            else:
                self.shrunk = max(self.shrunk, seen.frame.shrinks)
                yield source, number, seen

    def _in_batches(
        self, images: Iterator[tuple[Source, int, Seen]], ask: Callable[[Any], Any]
    ) -> Iterator[_Answered]:
        while some := list(itertools.islice(images, _BATCH)):
            answers = ask(np.stack([seen.image for _, _, seen in some]))
            for (source, number, seen), answer in zip(some, answers, strict=True):
                yield _Answered(source, number, seen._replace(image=None), answer)

    def _each(
        self, images: Iterator[tuple[Source, int, Seen]], whole: Callable[[Any], Any]
    ) -> Iterator[_Answered]:
        for source, number, seen in images:
            yield _Answered(source, number, seen._replace(image=None), whole(seen.image))

    def _finished(self, given: _Answered, files: Files | None) -> _Told:
        source, number, seen, answer = given
        labels, frame = self.task.labels, seen.frame
        answer = frame.cut(answer) if labels.has_sides else answer
        if labels is not Labels.MASK:  # whose probabilities are larger than the mask itself
            answer = frame.placed(answer, labels)
        described = self.describe(answer, top=self.top)
        row: dict[str, Any] = {}
        shown = described
        if self.cells or (files is not None and labels is Labels.MASK):
            full = self.describe(answer, top=answer.shape[-1])
            row = self.task.cells(full) if self.cells else row
            # A mask shows all of its classes.
            shown = full if labels is Labels.MASK else shown
        written: dict[str, str] = {}
        if files is not None:
            settled = self.task.settled(answer)
            if labels is Labels.MASK:
                settled = frame.placed(settled, labels)
            draw = functools.partial(self._drawn, source, number, settled, shown)
            written = files.write(source.places[number], seen, settled, draw)
        name = source.names[number]
        return _Told(name, described, written, {"image": name, **row, **written})

    def _drawn(self, source: Source, number: int, answer: Any, described: Any) -> Any:
        return self.task.picture(source.picture(number, self.view), answer, described)
