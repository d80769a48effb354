"""The end of a search: ranks trials, runs final trainings, keeps and tests one model."""

import dataclasses
import math
import shutil
from collections.abc import Mapping, Sequence

from reskeras.errors import RequestError, in_a_line
from reskeras.spec.text import dump_recipe
from tuning.insight.importance import importances
from tuning.record.entries import Conclusion, Final, FinalPlan, TrialRecord
from tuning.record.evaluation import EVALUATION, read_evaluation
from tuning.record.events import Result
from tuning.record.journal import Journal
from tuning.record.ranking import by_rank, scored, scores_by_trial
from tuning.report.factors import factor_plot
from tuning.report.leaderboard import CSV_COLUMNS, leaderboard_of, write_csv
from tuning.report.page import write_report
from tuning.running.executor import DiskFull, Ended, Lost, Reported
from tuning.running.trial import EvaluationJob, Outcome, Verdict
from tuning.search.loop import ATTEMPTS, Attempt, Loop, disk_is_full
from tuning.settings import sign


def conclude(loop: Loop, plan: FinalPlan) -> Result:
    """Ranks the trials, runs the final trainings, and evaluates the kept model once.

    Raises:
        RuntimeError: no trial has a score.
    """
    ranked = by_rank(loop.journal.trials, loop.search.objective)
    board = leaderboard_of(ranked, loop.search.space, loop.search.objective, CSV_COLUMNS)
    write_csv(board, loop.search.directory / "leaderboard.csv")
    if not ranked or ranked[0].score is None:
        reasons = sorted({in_a_line(record.error) for record in ranked})
        reasons += [f"not run: {count} {reason}" for reason, count in loop.dropped.items()]
        raise RuntimeError("no trial completed" + "".join(f"\n  {reason}" for reason in reasons))
    if math.isnan(ranked[0].score):
        raise RuntimeError(
            f"no trial has a score: {loop.search.objective} is not a number in any, because "
            "nothing in the validation split counts in it; compare another metric"
        )
    found = importances(ranked, loop.search.space, loop.search.objective)
    factor_plot(
        ranked,
        loop.search.space,
        loop.search.objective,
        loop.search.directory / "factors.svg",
        found,
    )
    finals = (
        _train_finally(
            loop,
            [record for record in ranked[: plan.top] if scored(record)],
            plan,
        )
        if plan.epochs
        else ()
    )
    winner = _mean_best(finals, loop.search.objective) or ranked[0].number
    best = next(record for record in ranked if record.number == winner)
    result = Result(
        directory=loop.search.directory,
        objective=loop.search.objective,
        trials=tuple(ranked),
        best=best,
        finals=tuple(
            sorted(
                finals,
                key=lambda final: (
                    final.record.number != winner,
                    final.record.number,
                    final.repeat,
                ),
            )
        ),
        test=None,
        dropped=dict(loop.dropped),
        importances=found,
        exhausted=loop.exhausted(),
    )
    repeat = next((final.repeat for final in finals if final.record is result.final), None)
    _keep(
        loop,
        loop.again(best) if repeat is None else loop.final(best, plan, repeat),
        result.kept.epochs,
    )
    last = loop.conclusion
    decided = last is not None and (last.winner, last.plan) == (winner, plan)
    failure = None
    if not decided or read_evaluation(loop.search.directory) is None:
        test, failure = _evaluate(loop, f"trial {winner}")
        if not decided:
            loop.conclusion = Conclusion(winner=winner, plan=plan, test=test)
            loop.journal.add(loop.conclusion)
    if not decided:
        for leftover in loop.search.directory.glob(".*trial-*.keras"):
            leftover.unlink()
    write_report(
        loop.search.directory / "report.html",
        Journal(loop.journal.path),
        loop.search.space,
        importances=found,
        factors=loop.search.directory / "factors.svg",
    )
    assert loop.conclusion is not None
    return dataclasses.replace(result, test=loop.conclusion.test, failure=failure)


def _train_finally(loop: Loop, best: Sequence[TrialRecord], plan: FinalPlan) -> tuple[Final, ...]:
    def done() -> dict[tuple[int, int], Final]:
        return {
            (f.record.number, f.repeat): f for f in loop.journal.finals if f.epochs == plan.epochs
        }

    wanted = [(record, repeat) for record in best for repeat in range(plan.seeds)]
    waiting = [
        loop.final(record, plan, repeat)
        for record, repeat in wanted
        if (record.number, repeat) not in done()
    ]
    loop.train(waiting)
    return tuple(done()[record.number, repeat] for record, repeat in wanted)


def _keep(loop: Loop, running: Attempt, epochs: int) -> None:
    """Makes sure that best.keras and best.yaml belong to a training that ended after `epochs`.

    They may belong to another one if this search was concluded differently before. Then the
    training is repeated.
    """
    loop.adopt(running)
    best = loop.search.directory / "best.yaml"
    for path in (best, best.with_suffix(".keras")):
        if not path.exists():
            raise RequestError(f"{path} is missing; --fresh starts the search over")
    if best.read_text(encoding="utf-8") == dump_recipe(running.job.recipe):
        return
    loop.executor.submit(running.job)
    while isinstance(event := loop.executor.wait(), Reported):
        loop.executor.answer(
            event.key, Verdict.KEEP if event.epoch.number >= epochs else Verdict.CONTINUE
        )
    if not isinstance(event, Ended) or event.outcome is None:
        reason = in_a_line(event.error) if isinstance(event, Ended) else event.reason
        raise RuntimeError(f"the winner, {running.trial.key}, could not be trained again: {reason}")
    loop.adopt(running)


def _evaluate(loop: Loop, name: str) -> tuple[Mapping[str, float] | None, str | None]:
    """Evaluates best.keras, or scores it alone if that fails.

    Without a test split it is evaluated on the validation split, by which it was chosen.

    Returns:
        Its scores on the test split, None if there is none; and why it is not evaluated, None if it
        is.

    Raises:
        RuntimeError: it cannot be scored either, or the disk is full.
    """
    split = "test" if "test" in loop.search.data.sizes else "val"
    folder = loop.search.directory / EVALUATION
    job = EvaluationJob(
        key="evaluation",
        model=loop.search.directory / "best.keras",
        name=name,
        split=split,
        folder=folder,
    )
    failure = None
    try:
        metrics = _evaluated(loop, job)
    except _EvaluationError as error:
        # The search's answer must not depend on resamples and pictures of it.
        failure = f"{error}; the best model is scored alone, and evaluated when this is repeated"
        shutil.rmtree(folder, ignore_errors=True)  # that of an earlier winner
        metrics = _evaluated(loop, dataclasses.replace(job, folder=None))
    return metrics if split == "test" else None, failure


class _EvaluationError(RuntimeError):
    """The evaluation failed in itself, or ended its worker each time."""


def _evaluated(loop: Loop, job: EvaluationJob) -> Mapping[str, float]:
    for _ in range(ATTEMPTS):
        loop.executor.submit(job)
        match loop.executor.wait():
            case Ended(outcome=Outcome() as outcome):
                return outcome.metrics
            case Ended() as ended:
                raise _EvaluationError(f"the evaluation failed: {in_a_line(ended.error)}")
            case Lost() as lost:
                reason = lost.reason
            case DiskFull() as full:
                raise disk_is_full(full.reason)
            case _:
                raise AssertionError("an evaluation has no epochs")
    raise _EvaluationError(f"the evaluation failed: {reason}")


def _mean_best(finals: Sequence[Final], objective: str) -> int | None:
    """The trial whose final trainings have the best mean score; None if none has a score."""
    means = {
        number: sign(objective) * sum(found) / len(found)
        for number, found in scores_by_trial(finals).items()
    }
    return max(means, key=lambda number: (means[number], -number)) if means else None
