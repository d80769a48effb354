"""The display of a running search."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from reskeras.errors import in_a_line
from reskeras.tasks import write_score
from reskeras.words import compact
from tuning.record.entries import TrialRecord
from tuning.record.events import Ending, Listener, Result, Search, Trial
from tuning.record.ranking import by_rank
from tuning.space.titles import title

if TYPE_CHECKING:
    from reskeras.training.state import Epoch


_BAR = 24
"""Width of the bars, in characters."""


class Progress(Listener):
    """Prints finished trials as lines; below them, on a terminal, bars for what is running."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._search: Search | None = None
        self._done = 0
        self._best: TrialRecord | None = None
        self._running: dict[str, tuple[Trial, Epoch | None]] = {}
        self._start = self._last_end = 0.0
        self._trials_here = 0
        self._live = Live(
            console=console,
            auto_refresh=True,
            refresh_per_second=4,
            transient=True,
            get_renderable=self._render,
        )

    def search_started(self, search: Search) -> None:
        self._search, self._done = search, len(search.done)
        self._best = next(iter(by_rank(search.done, search.objective)), None)
        self._start = time.monotonic()
        names = ", ".join(search.space.short_names().values())
        trials = "trials" if search.trials is None else f"{search.trials} trials"
        how = f"{search.oracle} · {trials} of up to {search.epochs} epochs"
        line = f"searching {names} by {search.objective} · {how} · {search.directory}"
        self.console.print(line, style="dim", highlight=False, soft_wrap=True)
        for line in search.left_out:
            self.console.print(f"repaired: {line}", style="yellow", highlight=False, soft_wrap=True)
        if self._done:
            of = f" of {search.trials}" if search.trials is not None else ""
            self.console.print(f"{self._done}{of} trials are done already", highlight=False)
        if self.console.is_terminal:
            self._live.start()

    def trial_started(self, trial: Trial) -> None:
        self._running[trial.key] = trial, None

    def epoch_ended(self, trial: Trial, epoch: Epoch) -> None:
        self._running[trial.key] = trial, epoch
        if not self.console.is_terminal:
            self.console.print(self._now(trial, epoch), highlight=False, soft_wrap=True)

    def trial_ended(self, trial: Trial, record: TrialRecord | None) -> None:
        self._running.pop(trial.key, None)
        if record is None or self._search is None:
            return
        number, what = (
            "final" if trial.final else str(record.number),
            title(record.values, self._search.space),
        )
        leads = False
        if not trial.final:
            self._done += 1
            self._trials_here += 1
            self._last_end = time.monotonic()
            leads = (
                self._best is None
                or by_rank([self._best, record], self._search.objective)[0] is record
            )
            if leads:
                self._best = record
        if record.status == "failed":
            line = Text(f"{number:>5}    failed  {what}  {in_a_line(record.error)}", style="red")
        else:
            line = Text.assemble(
                f"{number:>5}  ",
                (f"{write_score(self._search.objective, record.score):>8}", "bold"),
                f"  {what}",
            )
            early = f", stopped after epoch {record.epochs}" if record.status == "stopped" else ""
            line.append(
                f"  {compact(record.params)} params  {record.seconds:.1f} s{early}", style="dim"
            )
            if leads:
                line.append("  best so far", style="green")
        self.console.print(line, soft_wrap=True)

    def search_ended(self, ending: Ending, result: Result | None) -> None:
        self._live.stop()

    def _render(self) -> Table:
        grid = Table.grid(padding=(0, 1))
        if self._search is None:
            return grid
        for trial, epoch in list(self._running.values()):
            last = trial.recipe.train.epochs if trial.recipe else self._search.epochs
            here = epoch.number if epoch else trial.first_epoch
            grid.add_row(
                ProgressBar(total=last, completed=here, width=_BAR),
                self._fitted(self._now(trial, epoch)),
            )
        if self._search.trials is None:
            grid.add_row("", self._fitted(self._summary()))
        else:
            bar = ProgressBar(total=self._search.trials, completed=self._done, width=_BAR)
            grid.add_row(bar, self._fitted(self._summary()))
        return grid

    def _fitted(self, line: str) -> Text:
        # Cut here: a table that is too wide takes space from its bars.
        text = Text(line, no_wrap=True)
        text.truncate(max(10, self.console.width - _BAR - 2), overflow="ellipsis")
        return text

    def _now(self, trial: Trial, epoch: Epoch | None) -> str:
        assert self._search is not None
        of = f" of {self._search.trials}" if self._search.trials is not None else ""
        where = "final training" if trial.final else f"trial {trial.number}{of}"
        what = title(trial.values, self._search.space)
        if epoch is None:
            return f"{where} · {what} · building"
        last = trial.recipe.train.epochs if trial.recipe else self._search.epochs
        objective = self._search.objective
        score = f"{objective} {write_score(objective, epoch.metrics[objective])}"
        return f"{where} · epoch {epoch.number} of {last} · {score} · {what}"

    def _summary(self) -> str:
        assert self._search is not None
        parts = []
        if self._best is not None and self._best.score is not None:
            parts.append(
                f"best so far {write_score(self._search.objective, self._best.score)} (trial "
                f"{self._best.number})"
            )
        if self._trials_here and self._search.trials is not None:
            mean = (self._last_end - self._start) / self._trials_here
            left = max(
                0.0, (self._search.trials - self._done) * mean - (time.monotonic() - self._last_end)
            )
            parts.append(f"about {left // 60:.0f}:{left % 60:02.0f} left")
        elif self._search.trials is None:
            parts.append(f"{self._done} trials")
        return " · ".join(parts) or "choosing the first trial"
