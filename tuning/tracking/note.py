"""The descriptions of runs: what a person reads first. Markdown, as MLflow shows it."""

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
"""Between columns, which MLflow sets without any room."""
_TRAINING = "?workflowType=machine_learning"
"""Without it MLflow opens a page as one of GenAI, with other things beside it."""
_MOST = 6000
"""Characters of a failure; a tag of MLflow takes 8,000."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pages:
    """What descriptions link to, in MLflow's UI: `#/...`."""

    charts: str
    """Of the whole search."""
    report: str
    trials: Mapping[int, str]
    """By number."""


def trial_note(run_id: str, error: str | None = None) -> str:
    """The description of a trial's run: how to have its network again, and why it failed, if it did."""
    again = f"`reskeras train {run_id}` trains this network again; `reskeras show {run_id}` prints its spec."
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
    """The description of a search's run: the answer, its links, the leaderboard, and the command that repeats it.

    Args:
        subject: of the search.
        ranked: its trials, the best first.
        pages: what it links to.
        ending: how it ended; None while it runs.
        conclusion: what it came to, once it has ended.
        final: the best final training of the winner, where there was one.
        costs: depth and MACs of the trials' networks, by number.
    """
    # One paragraph: MLflow shows 150 pixels, fading from the fourth line on, and folds away the rest.
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
            "Again, or on from where it was stopped:",
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
    name = f"**{title(best.values, subject.space)}** ({_link(f'trial {best.number}', pages.trials[best.number])})"
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
            return f"Interrupted; the same command goes on. So far the best of {so_far} is {found}."
        case Ending.FAILED:
            return f"The search failed. The best of {so_far} was {found}."
        case _:
            return f"Running. So far the best of {so_far} is {found}."


def _link(text: str, page: str) -> str:
    return f"[{text}]({page}{_TRAINING})"


def _score(subject: Subject, record: TrialRecord) -> str:
    return "failed" if record.status == "failed" else write_score(subject.objective, record.score)
