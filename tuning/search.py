"""The search: an oracle suggests, a trial runs, the journal keeps, listeners watch."""

import contextlib
import dataclasses
import itertools
import os
import time
import traceback
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import filelock
import keras

from reskeras.data import ImageData
from reskeras.errors import RequestError
from reskeras.spec import Recipe, fit_to_data
from reskeras.textio import dump_recipe, load_recipe
from reskeras.train import Epoch, evaluate
from tuning.events import Ending, Listener, Result, Search, Trial
from tuning.journal import Conclusion, Journal, TrialRecord
from tuning.oracles import derive_seed, make_oracle
from tuning.report import last_line, leaderboard, write_leaderboard
from tuning.settings import check_objective
from tuning.space import Space, sample
from tuning.trial import run_trial


def tune(
    space: Space,
    data: ImageData,
    *,
    directory: str | Path,
    oracle: str = "random",
    trials: int = 10,
    epochs: int | None = None,
    minutes: float | None = None,
    final_epochs: int = 0,
    seed: int = 0,
    fresh: bool = False,
    objective: str = "val_accuracy",
    listeners: Sequence[Listener] = (),
) -> Result:
    """Searches a space on a data set, or goes on with a search that was interrupted.

    The journal in the directory holds every trial that ended. Called again with the same settings, the search replays them
    through its oracle, which then suggests what it would have suggested, and runs the trials that remain.

    Args:
        space: what to search; its network is fitted to the data's image shape and number of classes.
        data: trained on `train`, compared on `val`; `test` is used once, for the winner, at the end.
        directory: of the search's files: `journal.jsonl`, `space.yaml`, `leaderboard.csv`, `best.yaml`, `best.keras`.
        oracle: `random`, `bayesian`, `hyperband` or `grid`.
        trials: how many in all, those of earlier sittings counted.
        epochs: of each trial (at most, for hyperband); the space's own number where it is None.
        minutes: no trial is begun after so many minutes.
        final_epochs: of a last training of the winner from scratch; its model is then the one kept. 0 is none.
        seed: of the oracle, and, with the trial's number, of each trial's weights and data order.
        fresh: begin anew; an earlier search in the directory is renamed to `DIRECTORY.old1` (or 2, ...).
        objective: `val_accuracy`, `val_loss` or, for masks, `val_mean_iou`.
        listeners: told what happens.

    Raises:
        RequestError: the space does not fit the data, or the directory holds another search.
        RuntimeError: no trial completed.
        KeyboardInterrupt: interrupted; the same call goes on.
    """
    check_objective(objective, data.task)
    try:
        space = space.fit_to(fit_to_data(space.base.model, data.image_shape, data.classes, data.task))
    except ValueError as error:
        raise RequestError(f"the space does not fit the data {data.name!r}: {_first_line(error)}") from error
    if epochs is not None:
        space = space.with_train(epochs=epochs)
    directory = Path(directory)
    with _locked(directory):
        if fresh:
            _set_aside(directory)
        directory.mkdir(exist_ok=True)
        journal = Journal(directory / "journal.jsonl")
        journal.begin(
            {
                "search_id": uuid.uuid4().hex,
                "space": space.to_document(),
                "data": data.digest,
                "oracle": oracle,
                "objective": objective,
                "seed": seed,
            }
        )
        search = Search(
            name=directory.name,
            search_id=journal.header["search_id"],
            directory=directory,
            space=space,
            data=data,
            oracle=oracle,
            objective=objective,
            trials=trials,
            epochs=space.base.train.epochs,
            seed=seed,
            done=tuple(journal.trials),
        )
        _write(directory / "space.yaml", space.dump())
        for listener in listeners:
            listener.search_started(search)
        ending, result = Ending.INTERRUPTED, None
        try:
            loop = _Loop(search, journal, listeners)
            loop.run(None if minutes is None else time.monotonic() + 60 * minutes)
            result = loop.conclude(final_epochs)
            ending = Ending.FINISHED
        except Exception:
            ending = Ending.FAILED
            raise
        finally:
            for listener in listeners:
                listener.search_ended(ending, result)
    return result


class _Loop:
    """Runs the trials of a search one after another in this process."""

    def __init__(self, search: Search, journal: Journal, listeners: Sequence[Listener]) -> None:
        self.search, self.journal, self.listeners = search, journal, listeners
        self.oracle = make_oracle(search.oracle, search.space, objective=search.objective, seed=search.seed, epochs=search.epochs)

    def run(self, deadline: float | None) -> None:
        """Replays the journal, then runs what remains; stops early where the space is exhausted or the time is up."""
        for record in self.journal.trials:
            self._replay(record)
        while len(self.journal.trials) < self.search.trials and (deadline is None or time.monotonic() < deadline):
            suggestion = self.oracle.create_trial("reskeras")
            if suggestion.status == "STOPPED":
                return
            self._tell(suggestion, self._run(suggestion.hyperparameters))

    def _replay(self, record: TrialRecord) -> None:
        suggestion = self.oracle.create_trial("reskeras")
        if suggestion.hyperparameters.values != record.values:
            raise RequestError(
                f"{self.journal.path}: the oracle no longer suggests what trial {record.number} ran (another version of Keras "
                "Tuner or reskeras?); give this search another name, or begin anew with --fresh"
            )
        self._tell(suggestion, record)

    def _tell(self, suggestion: Any, record: TrialRecord) -> None:
        if record.score is not None:
            self.oracle.update_trial(suggestion.trial_id, {self.search.objective: record.score}, step=record.epochs)
        suggestion.status = record.status.upper()
        suggestion.message = record.error
        self.oracle.end_trial(suggestion)

    def conclude(self, final_epochs: int) -> Result:
        """Ranks the trials, trains the winner to the end where that is asked for, and evaluates the kept model once.

        Raises:
            RuntimeError: no trial completed.
        """
        ranked = leaderboard(self.journal.trials, self.search.objective)
        write_leaderboard(self.search.directory / "leaderboard.csv", ranked, self.search.space)
        if not ranked or ranked[0].status != "completed":
            reasons = sorted({last_line(record.error) for record in ranked})
            raise RuntimeError("no trial completed" + "".join(f"\n  {reason}" for reason in reasons))
        best = ranked[0]
        told = [c for c in self.journal.conclusions if (c.winner, c.final_epochs) == (best.number, final_epochs)]
        if not told:
            for name in ("best.keras", "best.yaml"):
                if not (self.search.directory / name).exists():
                    raise RequestError(f"{self.search.directory / name} is gone; --fresh begins the search anew")
            final = self._train_finally(best, final_epochs) if final_epochs else None
            test = None
            if "test" in self.search.data.sizes:
                test = evaluate(keras.saving.load_model(self.search.directory / "best.keras"), self.search.data, "test")
            told = [Conclusion(winner=best.number, final_epochs=final_epochs, final=final, test=test)]
            self.journal.add_conclusion(told[0])
        return Result(directory=self.search.directory, trials=tuple(ranked), best=best, final=told[-1].final, test=told[-1].test)

    def _run(self, hyperparameters: Any) -> TrialRecord:
        number, values = len(self.journal.trials) + 1, hyperparameters.values
        parent = values.get("tuner/trial_id")
        trial = Trial(
            number=number,
            values=values,
            recipe=None,
            first_epoch=values.get("tuner/initial_epoch", 0),
            parent=None if parent is None else int(parent) + 1,
        )
        invalid: RequestError | None = None
        try:
            trial = dataclasses.replace(trial, recipe=self._recipe(number, hyperparameters))
        except RequestError as error:
            invalid = error
        ended: TrialRecord | None = None
        try:
            record, model = self._attempt(trial, invalid)
            if model is not None:
                if self.search.oracle == "hyperband":
                    model.save_weights(self._weights(number))
                if leaderboard([*self.journal.trials, record], self.search.objective)[0] is record:
                    self._keep(trial, model)
            self.journal.add_trial(record)
            ended = record  # only now: what listeners are told must not be lost
        finally:
            for listener in self.listeners:
                listener.trial_ended(trial, ended)
        return record

    def _train_finally(self, best: TrialRecord, epochs: int) -> TrialRecord:
        recipe = load_recipe(self.search.directory / "best.yaml")
        train = dataclasses.replace(recipe.train, epochs=epochs, seed=derive_seed(self.search.seed, "final", best.number))
        recipe = dataclasses.replace(recipe, train=train)
        trial = Trial(number=best.number, values=best.values, recipe=recipe, first_epoch=0, parent=None, final=True)
        ended: TrialRecord | None = None
        try:
            record, model = self._attempt(trial, None)
            # Kept even where it validates a little worse: the best of many scores is a lucky one, this one is not chosen.
            if model is not None:
                self._keep(trial, model)
            ended = record
        finally:
            for listener in self.listeners:
                listener.trial_ended(trial, ended)
        return record

    def _recipe(self, number: int, hyperparameters: Any) -> Recipe:
        recipe = sample(hyperparameters, self.search.space)
        train = dataclasses.replace(
            recipe.train,
            seed=derive_seed(self.search.seed, "trial", number),
            epochs=hyperparameters.values.get("tuner/epochs", recipe.train.epochs),
        )
        return dataclasses.replace(recipe, train=train)

    def _attempt(self, trial: Trial, invalid: RequestError | None) -> tuple[TrialRecord, keras.Model | None]:
        def on_epoch(epoch: Epoch) -> None:
            for listener in self.listeners:
                listener.epoch_ended(trial, epoch)

        for listener in self.listeners:
            listener.trial_started(trial)
        model, start = None, time.perf_counter()
        try:
            if trial.recipe is None:
                raise invalid or RequestError("no recipe")
            weights = None if trial.parent is None else self._weights(trial.parent)
            model, outcome = run_trial(
                trial.recipe, self.search.data, first_epoch=trial.first_epoch, weights=weights, on_epoch=on_epoch
            )
            record = TrialRecord(
                number=trial.number,
                values=trial.values,
                status="completed",
                score=outcome.metrics[self.search.objective],
                metrics=outcome.metrics,
                epochs=outcome.epochs[-1].number,
                params=outcome.params,
                seconds=outcome.seconds,
            )
        except Exception as error:  # noqa: BLE001  whatever one network does, the search goes on; the record says what it was
            seconds, reason = time.perf_counter() - start, _reason(error)
            record = TrialRecord(number=trial.number, values=trial.values, status="failed", seconds=seconds, error=reason)
        return record, model

    def _keep(self, trial: Trial, model: keras.Model) -> None:
        assert trial.recipe is not None
        partial = self.search.directory / ".best.partial.keras"
        model.save(partial)
        os.replace(partial, self.search.directory / "best.keras")
        _write(self.search.directory / "best.yaml", dump_recipe(trial.recipe))

    def _weights(self, number: int) -> Path:
        folder = self.search.directory / "weights"
        folder.mkdir(exist_ok=True)
        return folder / f"trial-{number:04}.weights.h5"


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        if directory.exists() and not directory.is_dir():
            raise RequestError(f"{directory}: a file is in the way of the search's folder")
        # Beside the folder, which --fresh renames.
        with filelock.FileLock(directory.with_name(f".{directory.name}.lock"), timeout=0):
            yield
    except filelock.Timeout as error:
        raise RequestError(f"{directory}: another process is searching here; give this search another name") from error
    except FileExistsError as error:
        raise RequestError(f"{error.filename}: a file is in the way of the search's folder") from error


def _set_aside(directory: Path) -> None:
    if directory.exists():
        numbers = itertools.count(1)
        directory.rename(next(old for n in numbers if not (old := directory.with_name(f"{directory.name}.old{n}")).exists()))


def _reason(error: Exception) -> str:
    if isinstance(error, RequestError | FloatingPointError):
        return str(error)
    return "".join(traceback.format_exception(error))


def _first_line(error: ValueError) -> str:
    details = getattr(error, "errors", None)
    return str(details()[0]["msg"]).removeprefix("Value error, ") if details else str(error)


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
