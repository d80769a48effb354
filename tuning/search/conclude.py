"""The end of a search: ranks trials, runs final trainings, keeps and tests one model."""

import dataclasses
import math
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
        _train_finally(loop, [record for record in ranked[: plan.top] if scored(record)], plan)
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
    if not decided or read_evaluation(loop.search.directory) is None:
        test = _evaluate(loop, f"trial {winner}")
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
    return dataclasses.replace(result, test=loop.conclusion.test)


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


def _evaluate(loop: Loop, name: str) -> Mapping[str, float] | None:
    """Evaluates best.keras; returns its scores on the test split, None if there is none.

    Without a test split it is evaluated on the validation split, by which it was chosen.
    """
    split = "test" if "test" in loop.search.data.sizes else "val"
    directory = loop.search.directory
    job = EvaluationJob(
        key="evaluation",
        model=directory / "best.keras",
        name=name,
        split=split,
        folder=directory / EVALUATION,
    )
    for _ in range(ATTEMPTS):
        loop.executor.submit(job)
        match loop.executor.wait():
            case Ended(outcome=Outcome() as outcome):
                return outcome.metrics if split == "test" else None
            case Ended() as ended:
                raise RuntimeError(f"the evaluation failed: {in_a_line(ended.error)}")
            case Lost() as lost:
                reason = lost.reason
            case DiskFull() as full:
                raise disk_is_full(full.reason)
            case _:
                raise AssertionError("an evaluation has no epochs")
    raise RuntimeError(f"the evaluation failed: {reason}")


def _mean_best(finals: Sequence[Final], objective: str) -> int | None:
    """The trial whose final trainings have the best mean score; None if none has a score."""
    means = {
        number: sign(objective) * sum(found) / len(found)
        for number, found in scores_by_trial(finals).items()
    }
    return max(means, key=lambda number: (means[number], -number)) if means else None
