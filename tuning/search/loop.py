"""The loop of a search: keeps an executor busy and reports to oracle, journal and listeners."""

import collections
import dataclasses
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reskeras.errors import RequestError
from reskeras.files import write_text
from reskeras.spec import Recipe
from reskeras.spec.text import dump_recipe
from reskeras.training.state import Epoch
from tuning.record.entries import (
    Conclusion,
    Dropped,
    EpochRecord,
    Final,
    FinalEpoch,
    FinalPlan,
    Started,
    TrialRecord,
    Unreadable,
    trial_key,
)
from tuning.record.evaluation import EVALUATION
from tuning.record.events import Listener, Search, Trial
from tuning.record.journal import Journal
from tuning.record.kept import Keep, KeptModels
from tuning.record.ranking import by_rank
from tuning.running.executor import DiskFull, Ended, Executor, Lost, Reported
from tuning.running.trial import Job, Outcome, Parent, Verdict
from tuning.settings import Strategy, sign
from tuning.space.limits import Limits
from tuning.space.recipes import final_recipe, trial_recipe

ATTEMPTS = 3
"""A trial fails once its process has died this often."""
_MOST_DROPPED = 1000
"""A search ends after this many useless suggestions in a row."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits of a search; the first one reached ends it. None is no limit."""

    trials: int | None
    end: float | None
    """On the monotonic clock."""
    target: float | None


@dataclasses.dataclass(kw_only=True)
class Attempt:
    """One training, of a trial or a final one, from its job to its end."""

    trial: Trial
    job: Job
    suggestion: Any = None
    """Keras Tuner's trial; None for a final training."""
    known: int = 0
    """Its last epoch in the journal."""
    told: int = 0
    """Its last epoch that listeners know."""
    stops_at: int | None = None
    """The epoch after which the oracle stopped it."""
    attempts: int = 1
    paused: bool = False
    start: float = dataclasses.field(default_factory=time.perf_counter)


class Loop:
    """One session of a search."""

    def __init__(
        self,
        search: Search,
        *,
        oracle: Any,
        journal: Journal,
        listeners: Sequence[Listener],
        executor: Executor,
        limits: Limits,
        strategy: Strategy,
        budget: Budget,
        keep: Keep,
    ) -> None:
        self.search, self.oracle, self.journal, self.listeners = search, oracle, journal, listeners
        self.executor, self.limits, self.strategy, self.budget = executor, limits, strategy, budget
        self._kept = KeptModels(search.directory, keep, search.objective)
        self._suggested = 0
        self._numbers: dict[str, int] = {}
        """Maps Keras Tuner's ids, which also count dropped points, to numbers of trials."""
        self._started = 0
        self._running: dict[str, Attempt] = {}
        self._interrupted: collections.deque[Attempt] = collections.deque()
        self._records: dict[int, TrialRecord] = {}
        self._best: TrialRecord | None = None
        self._values: dict[int, Mapping[str, Any]] = {}
        """The values of the started trials, by number."""
        self._recipes: dict[Recipe, int] = {}
        """Maps a network and its training to the trial that ran it."""
        self.dropped: collections.Counter[str] = collections.Counter()
        self._exhausted = self._reached = False
        self.conclusion: Conclusion | None = None
        """The conclusion that left best.keras; None if a trial has replaced it since."""

    def run(self) -> None:
        """Restores the oracle's state, then runs trials until budget or space is used up."""
        self._replay()
        try:
            while True:
                while len(self._running) < self.executor.slots and not self._over():
                    if self._interrupted:
                        self._begin(self._interrupted.popleft())
                    elif (
                        self.budget.trials is not None and self._started >= self.budget.trials
                    ) or not self._start_next():
                        break
                if not self._running:
                    return
                self._step()
        finally:
            for running in self._running.values():
                self._tell_ended(running.trial, None)

    def train(self, waiting: Iterable[Attempt]) -> None:
        """Runs trainings that no oracle suggested, up to the executor's slots at once."""
        queue = collections.deque(waiting)
        try:
            while queue or self._running:
                while queue and len(self._running) < self.executor.slots:
                    self._begin(queue.popleft())
                self._step()
        finally:
            for running in self._running.values():
                self._tell_ended(running.trial, None)

    def final(self, record: TrialRecord, plan: FinalPlan, repeat: int) -> Attempt:
        """The final training of a trial's network, with one seed."""
        search = self.search
        recipe = final_recipe(
            search.space,
            record.values,
            number=record.number,
            seed=search.seed,
            epochs=plan.epochs,
            repeat=repeat,
        )
        trial = Trial(
            number=record.number,
            values=record.values,
            recipe=recipe,
            first_epoch=0,
            parent=None,
            repeat=repeat,
        )
        known = self.journal.final_epoch(record.number, plan.epochs, repeat)
        return Attempt(trial=trial, job=self._job(trial, recipe, None), known=known)

    def again(self, record: TrialRecord) -> Attempt:
        """An ended trial, to be run once more."""
        recipe = self._recipe(record.number, record.values)
        first_epoch = record.values.get("tuner/initial_epoch", 0)
        trial = Trial(
            number=record.number,
            values=record.values,
            recipe=recipe,
            first_epoch=first_epoch,
            parent=record.parent,
        )
        return Attempt(trial=trial, job=self._job(trial, recipe, self._parent(trial)))

    def exhausted(self) -> str | None:
        """A sentence if the space had fewer points than trials were asked for; otherwise None."""
        asked = self.budget.trials
        if not self._exhausted or (asked is not None and self._started >= asked):
            return None
        ran = (
            f"{self._started:,} trials ran"
            if asked is None
            else f"{self._started:,} of {asked:,} trials ran"
        )
        return f"the space has no more points to try: {ran}"

    # From the journal

    def _replay(self) -> None:
        running: dict[int, Attempt] = {}
        for entry in self.journal.history:
            match entry:
                case Started():
                    suggestion = self._recalled(entry.values)
                    running[entry.number] = self._prepared(entry.number, suggestion)[0]
                case Dropped():
                    self._drop(self._recalled(entry.values), entry)
                case Unreadable():
                    self._pass_over(entry)
                case EpochRecord() if entry.number in running:
                    one = running[entry.number]
                    one.known = entry.epoch
                    if self._score(one, entry.epoch, entry.scores):
                        one.stops_at = entry.epoch
                case TrialRecord():
                    self._take(entry, running.pop(entry.number).suggestion)
                case Conclusion():
                    self.conclusion = entry
                case _:
                    pass
        self.journal.history.clear()
        self._kept.recall(self._records.values())
        self._interrupted.extend(running.values())

    def _pass_over(self, entry: Unreadable) -> None:
        """Skips a suggestion that can no longer be read: the oracle repeats it, and it fails."""
        suggestion = self._suggestion()
        if suggestion.status != "RUNNING":
            return
        values, number = suggestion.hyperparameters.values, entry.number or 0
        if number:
            self._numbers[suggestion.trial_id] = number
            self._started = max(self._started, number)
        reason = "its line in the journal was damaged"
        record = TrialRecord(number=number, values=values, status="failed", error=reason)
        self._tell_oracle(suggestion, record)

    def _recalled(self, values: Mapping[str, Any]) -> Any:
        self.oracle.recall(values)
        try:
            return self._suggestion()
        except RequestError as error:
            raise RequestError(f"{self.journal.path}: {error}") from error

    # What to run

    def _over(self) -> bool:
        return self._reached or self._exhausted or self._late()

    def _late(self) -> bool:
        """Whether the time is up; never before a trial has ended."""
        return (
            self.budget.end is not None
            and time.monotonic() >= self.budget.end
            and bool(self._records)
        )

    def _suggestion(self) -> Any:
        suggestion = self.oracle.create_trial(f"trial-{self._suggested}")
        if suggestion.status == "RUNNING":
            self._suggested += 1
        return suggestion

    def _start_next(self) -> bool:
        """Starts a trial that the oracle suggests; False if it has none at the moment."""
        for _ in range(_MOST_DROPPED):
            suggestion = self._suggestion()
            if suggestion.status != "RUNNING":
                self._exhausted = suggestion.status == "STOPPED"
                return False
            running, invalid = self._prepared(self._started + 1, suggestion)
            dropped = None if invalid else self._unwanted(running.trial)
            if dropped is not None:
                self._started -= 1
                del self._values[running.trial.number]
                self.journal.add(dropped)
                self._drop(suggestion, dropped)
                continue
            self.journal.add(
                Started(number=running.trial.number, values=suggestion.hyperparameters.values)
            )
            if invalid is not None:
                self._fail(running, str(invalid))
            else:
                self._begin(running)
            return True
        self._exhausted = True
        return False

    def _prepared(self, number: int, suggestion: Any) -> tuple[Attempt, RequestError | None]:
        """A trial, not yet running, and the reason if its values make no network."""
        values = suggestion.hyperparameters.values
        parent_id, invalid, recipe = values.get("tuner/trial_id"), None, None
        try:
            recipe = self._recipe(number, values)
        except RequestError as error:
            invalid = error
        trial = Trial(
            number=number,
            values=values,
            recipe=recipe,
            first_epoch=values.get("tuner/initial_epoch", 0),
            parent=None if parent_id is None else self._numbers[parent_id],
        )
        self._numbers[suggestion.trial_id] = number
        self._values[number] = values
        self._started = max(self._started, number)
        job = self._job(trial, recipe or self.search.space.base, self._parent(trial))
        if recipe is not None and trial.parent is None:
            self._recipes.setdefault(_identity(recipe), number)
        return Attempt(trial=trial, job=job, suggestion=suggestion), invalid

    def _parent(self, trial: Trial) -> Parent | None:
        if trial.parent is None:
            return None
        recipe = self._recipe(trial.parent, self._values[trial.parent])
        return Parent(recipe=recipe, state=self._state(trial_key(trial.parent)))

    def _job(self, trial: Trial, recipe: Recipe, parent: Parent | None) -> Job:
        return Job(
            key=trial.key,
            recipe=recipe,
            state=self._state(trial.key),
            model=self.search.directory / f".{trial.key}.keras",
            first_epoch=trial.first_epoch,
            parent=parent,
            leave_state=self.oracle.promotes and not trial.final,
            strategy=self.strategy,
        )

    def _state(self, key: str) -> Path:
        return self.search.directory / "states" / f"{key}.npz"

    def _recipe(self, number: int, values: Mapping[str, Any]) -> Recipe:
        return trial_recipe(self.search.space, values, number=number, seed=self.search.seed)

    def _unwanted(self, trial: Trial) -> Dropped | None:
        assert trial.recipe is not None
        if (refusal := self.limits.refusal(trial.recipe)) is not None:
            return Dropped(values=trial.values, reason=refusal)
        twin = self._recipes.get(_identity(trial.recipe)) if trial.parent is None else None
        if twin is not None and twin != trial.number:
            return Dropped(values=trial.values, reason="the same as an earlier trial", twin=twin)
        return None

    def _drop(self, suggestion: Any, dropped: Dropped) -> None:
        self.dropped[dropped.reason] += 1
        if dropped.twin is not None:
            # A promotion from here continues from there
            self._numbers[suggestion.trial_id] = dropped.twin
        twin = self._records.get(dropped.twin or 0)
        record = TrialRecord(number=0, values=dropped.values, status="failed", error=dropped.reason)
        if twin is not None and twin.score is not None:
            self.oracle.update_trial(
                suggestion.trial_id, {self.search.objective: twin.score}, step=twin.epochs
            )
            record = dataclasses.replace(record, status="completed", score=twin.score)
        self._tell_oracle(suggestion, record)

    # What comes of it

    def _begin(self, running: Attempt) -> None:
        running.job.state.parent.mkdir(exist_ok=True)
        running.start = time.perf_counter()
        self._running[running.trial.key] = running
        for listener in self.listeners:
            listener.trial_started(running.trial)
        self.executor.submit(running.job)

    def _step(self) -> None:
        """Handles one event."""
        event = self.executor.wait()
        running = self._running[event.key]
        match event:
            case Reported():
                self.executor.answer(event.key, self._verdict(running, event.epoch))
            case Ended(outcome=None):
                self._fail(running, event.error or "")
            case Ended(outcome=Outcome() as outcome) if not running.paused:
                self._complete(running, outcome)
            case Ended() | Lost() if running.paused:
                del self._running[event.key]
                self._tell_ended(running.trial, None)
            case DiskFull():
                raise disk_is_full(event.reason)
            case Lost() if running.attempts < ATTEMPTS:
                running.attempts += 1
                self.executor.submit(running.job)
            case Lost():
                self._fail(running, f"{event.reason}, {running.attempts} times")

    def _verdict(self, running: Attempt, epoch: Epoch) -> Verdict:
        if epoch.number > running.known:
            running.known = epoch.number
            record = EpochRecord(
                number=running.trial.number,
                epoch=epoch.number,
                metrics=epoch.metrics,
                seconds=epoch.seconds,
                kept=epoch.kept,
            )
            if running.trial.repeat is not None:
                epochs = running.job.recipe.train.epochs
                self.journal.add(
                    FinalEpoch(repeat=running.trial.repeat, epochs=epochs, record=record)
                )
            else:
                self.journal.add(record)
            if running.suggestion is not None and self._score(running, epoch.number, epoch.scores):
                running.stops_at = epoch.number
        if epoch.number > running.told:
            running.told = epoch.number
            for listener in self.listeners:
                listener.epoch_ended(running.trial, epoch)
        score = epoch.scores[self.search.objective]
        last = epoch.ends or epoch.number >= running.job.recipe.train.epochs
        if running.suggestion is None:
            return Verdict.KEEP if last else Verdict.CONTINUE
        reached = self._reaches(score)
        self._reached = self._reached or reached
        if last or reached or (running.stops_at is not None and epoch.number >= running.stops_at):
            found = TrialRecord(
                number=running.trial.number,
                values={},
                status="completed",
                score=score,
                metrics=epoch.scores,
            )
            return Verdict.KEEP if self._leads(found) or self._kept.wants(found) else Verdict.END
        if self._reached or self._late():
            running.paused = True
            return Verdict.PAUSE
        return Verdict.CONTINUE

    def _reaches(self, score: float) -> bool:
        return (
            self.budget.target is not None
            and sign(self.search.objective) * (score - self.budget.target) >= 0
        )

    def _leads(self, record: TrialRecord) -> bool:
        return (
            self._best is None or by_rank([self._best, record], self.search.objective)[0] is record
        )

    def _score(self, running: Attempt, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Reports a score to the oracle; True if it stops the trial."""
        score = {self.search.objective: metrics[self.search.objective]}
        return bool(
            self.oracle.update_trial(running.suggestion.trial_id, score, step=epoch).status
            == "STOPPED"
        )

    def _complete(self, running: Attempt, outcome: Outcome) -> None:
        trial = running.trial
        planned = running.job.recipe.train.epochs
        record = TrialRecord(
            number=trial.number,
            values=trial.values,
            status="completed" if outcome.ended or outcome.epochs >= planned else "stopped",
            score=outcome.metrics[self.search.objective],
            metrics=outcome.metrics,
            epochs=outcome.epochs,
            params=outcome.params,
            seconds=outcome.seconds,
            peak_memory=outcome.peak_memory,
            parent=trial.parent,
        )
        if not trial.final:
            self._kept.add(record, running.job.model, dump_recipe(running.job.recipe))
            if self._leads(record):
                self.adopt(running)
        self._end(running, record)

    def _fail(self, running: Attempt, error: str) -> None:
        seconds, trial = time.perf_counter() - running.start, running.trial
        running.job.state.unlink(missing_ok=True)
        record = TrialRecord(
            number=trial.number,
            values=trial.values,
            status="failed",
            seconds=seconds,
            parent=trial.parent,
            error=error,
        )
        self._end(running, record)

    def _end(self, running: Attempt, record: TrialRecord) -> None:
        trial, ended = running.trial, None
        try:
            if trial.repeat is None:
                self.journal.add(record)
            else:
                self.journal.add(
                    Final(
                        repeat=trial.repeat, epochs=running.job.recipe.train.epochs, record=record
                    )
                )
            ended = record  # only now, but then in any case: listeners learn what the journal has
            if trial.repeat is None:
                # Another one may have become better meanwhile
                running.job.model.unlink(missing_ok=True)
                self._take(record, running.suggestion)
        finally:
            if self._running.pop(trial.key, None) is None:
                for listener in self.listeners:  # it never ran
                    listener.trial_started(trial)
            self._tell_ended(trial, ended)

    def _take(self, record: TrialRecord, suggestion: Any) -> None:
        """Handles a trial that is over and in the journal."""
        self._records[record.number] = record
        if record.score is not None:
            self._reached = self._reached or self._reaches(record.score)
            if self._leads(record):
                self._best, self.conclusion = record, None
        self._tell_oracle(suggestion, record)

    def _tell_ended(self, trial: Trial, record: TrialRecord | None) -> None:
        for listener in self.listeners:
            listener.trial_ended(trial, record)

    def _tell_oracle(self, suggestion: Any, record: TrialRecord) -> None:
        suggestion.status = "FAILED" if record.status == "failed" else "COMPLETED"
        suggestion.message = record.error
        self.oracle.end_trial(suggestion)

    def adopt(self, running: Attempt) -> None:
        """Makes a trial's network the one that the search keeps."""
        if running.job.model.exists():
            shutil.rmtree(self.search.directory / EVALUATION, ignore_errors=True)
            # In this order: after a kill in between, the model is found here again.
            write_text(self.search.directory / "best.yaml", dump_recipe(running.job.recipe))
            os.replace(running.job.model, self.search.directory / "best.keras")


def disk_is_full(reason: str) -> RuntimeError:
    """The error that ends a search if the disk is full."""
    return RuntimeError(
        f"{reason}; what is written so far is intact. Fix this, then run the same command to resume"
    )


def _identity(recipe: Recipe) -> Recipe:
    """Equal for recipes that differ only in their seed."""
    return dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, seed=0))
