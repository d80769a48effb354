"""Descriptions of runs in MLflow, in Markdown."""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence

from reskeras.errors import in_a_line
from reskeras.tasks import write_score
from tuning.record.entries import Conclusion, TrialRecord
from tuning.record.events import Ending
from tuning.report.leaderboard import NOTE_COLUMNS, leaderboard_of, to_markdown
from tuning.space.titles import title
from tuning.tracking.subject import Subject

ROWS = 15
_GAP = "&emsp;| "
"""Placed between columns, which MLflow sets without space."""
_TRAINING = "?workflowType=machine_learning"
"""Without it, MLflow opens a page in its GenAI layout."""
_MOST = 6000
"""Most characters of a failure; a tag of MLflow holds 8,000."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pages:
    """Link targets in MLflow's UI: `#/...`."""

    charts: str
    """Page of the whole search."""
    report: str
    trials: Mapping[int, str]
    """Pages of the trials, by number."""


def trial_note(run_id: str, error: str | None = None) -> str:
    """The description of a trial's run: how to get its network, and why it failed, if it did."""
    again = (
        f"`reskeras train {run_id}` trains this network again; `reskeras show {run_id}` prints its "
        "spec."
    )
    if error is None:
        return again
    return f"**Failed**: {in_a_line(error)}\n\n```\n{error.strip()[-_MOST:]}\n```\n\n{again}"


def search_note(
    subject: Subject,
    ranked: Sequence[TrialRecord],
    pages: Pages,
    ending: Ending | None,
    conclusion: Conclusion | None,
    final: TrialRecord | None,
    costs: Mapping[int, tuple[int, int]],
) -> str:
    """The description of a search's run: the answer, links, leaderboard, and command to repeat it.

    Args:
        subject: what was searched.
        ranked: its trials, best first.
        pages: link targets.
        ending: how it ended; None while it runs.
        conclusion: its outcome, once it has ended.
        final: the best final training of the winner, if any.
        costs: depth and MACs of the trials' networks, by number.
    """
    # One paragraph: MLflow shows 150 pixels, fading from the fourth line on, and folds the rest.
    table = pages.charts.replace("compareRunsMode=CHART", "compareRunsMode=TABLE")
    shown = [f"[All trials in charts]({pages.charts})", f"[in a table]({table})"]
    if ending is Ending.FINISHED:
        shown.append(_link("the report", pages.report))
    lines = [
        f"{_answer(subject, ranked, pages, ending, conclusion, final)}  ",
        " · ".join(shown),
        "",
    ]
    if ranked:
        board = leaderboard_of(ranked[:ROWS], subject.space, subject.objective, NOTE_COLUMNS, costs)
        lines += to_markdown(
            board, lambda number: _link(str(number), pages.trials[number]), gap=_GAP
        )
        if len(ranked) > ROWS:
            lines.append(f"\nand {len(ranked) - ROWS} more")
        lines.append("")
    if subject.command:
        lines += [
            "Repeat or resume this search:",
            "",
            f"```\n{shlex.join(subject.command)}\n```",
        ]
    return "\n".join(lines)


def _answer(
    subject: Subject,
    ranked: Sequence[TrialRecord],
    pages: Pages,
    ending: Ending | None,
    conclusion: Conclusion | None,
    final: TrialRecord | None,
) -> str:
    scored = [record for record in ranked if record.score is not None]
    failed = f", {len(ranked) - len(scored)} failed" if len(scored) < len(ranked) else ""
    so_far = f"{len(ranked)} trials on {subject.data['name']}{failed}"
    if not scored:
        reasons = sorted({in_a_line(record.error) for record in ranked})
        return f"**No result yet** ({so_far})." + "".join(f" {reason}." for reason in reasons)
    number = conclusion.winner if conclusion is not None else scored[0].number
    best = next(record for record in scored if record.number == number)
    trial = _link(f"trial {best.number}", pages.trials[best.number])
    name = f"**{title(best.values, subject.space)}** ({trial})"
    found = f"{name}: {subject.objective} **{_score(subject, best)}**"
    match ending:
        case Ending.FINISHED if conclusion is not None:
            tested = (conclusion.test or {}).get(subject.objective.removeprefix("val_"))
            score = "" if tested is None else write_score(subject.objective, tested)
            test = f", {score} on the test split" if score else ""
            trained = (
                f" ({_score(subject, final)} trained once more, for {final.epochs} epochs)"
                if final is not None
                else ""
            )
            return f"The best of {so_far} is {found}{trained}{test}."
        case Ending.INTERRUPTED:
            return (
                f"Interrupted; the same command resumes it. So far the best of {so_far} is {found}."
            )
        case Ending.FAILED:
            return f"The search failed. The best of {so_far} was {found}."
        case _:
            return f"Running. So far the best of {so_far} is {found}."


def _link(text: str, page: str) -> str:
    return f"[{text}]({page}{_TRAINING})"


def _score(subject: Subject, record: TrialRecord) -> str:
    return "failed" if record.status == "failed" else write_score(subject.objective, record.score)
