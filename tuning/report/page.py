"""report.html: one HTML file with the tables and figures of a search, which needs nothing else.

Words, tables and figures are made here. `page.html` has the style, the leaderboard and the parallel
coordinates, which the page draws itself because plotly's need WebGL, leave out trials that lack a
conditional value, and do not name the trial under the pointer (docs/decisions/0012).
"""

import collections
import dataclasses
import html
import importlib.resources
import json
import re
import shlex
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from reskeras.drawing.palette import BLUE, FAINT, GRAY, HAIR, HIGHLIGHT, INK, ROSE
from reskeras.errors import in_a_line
from reskeras.files import write_text
from reskeras.tasks import task_called, write_score
from reskeras.words import duration
from tuning.insight.boundary import boundary
from tuning.insight.findings import Findings, when
from tuning.insight.importance import FEWEST
from tuning.insight.summary import best_of_each, first_choice
from tuning.record.entries import Dropped, Final, TrialRecord
from tuning.record.journal import Journal
from tuning.report.evaluation import evaluation
from tuning.report.figures import curves, over_time
from tuning.report.leaderboard import PAGE_COLUMNS, Row, leaderboard_of, to_page
from tuning.report.lineage import lineage
from tuning.report.parallel import parallel
from tuning.report.style import Noted
from tuning.settings import ORACLES, OracleTraits, sign
from tuning.space import Space

_COLORS = {
    "ink": INK,
    "gray": GRAY,
    "faint": FAINT,
    "hair": HAIR,
    "blue": BLUE.edge,
    "star": HIGHLIGHT,
    "rose": ROSE.edge,
}


def write_report(
    path: Path,
    journal: Journal,
    space: Space,
    *,
    importances: Mapping[str, float] | None = None,
    factors: Path | None = None,
) -> None:
    """Writes the page; the same journal gives the same bytes with the same matplotlib and plotly.

    Args:
        path: where to write it.
        journal: the search's journal, newly read (a running search's own has no history). The
            search may be unfinished. If its folder has an evaluation, that is a section.
        space: the space that was searched.
        importances: the importances of the trials' factors; None computes them.
        factors: the .svg of `factor_plot`, a section of the page; None leaves the section out.
    """
    from plotly.offline import get_plotlyjs

    found = Findings(journal, space, importances)
    figures = (
        {"over-time": over_time(found), "curves": curves(found), "lineage": lineage(found)}
        if found.scored
        else {}
    )
    lines = parallel(found) if found.scored else None
    data = {
        "figures": {name: drawn[0] for name, drawn in figures.items() if drawn is not None},
        "leaderboard": _leaderboard(found),
        "parallel": lines and lines[0],
        "winner": found.winner and found.winner.number,
    }
    fills = {
        "title": _safe(f"{found.about['name']}: what the search found"),
        "header": _header(found),
        "sections": "\n".join(_sections(found, figures, lines, factors)),
        "data": _in_script(data),
        "plotly": get_plotlyjs() if figures else "",
        "colors": "; ".join(f"--{name}: {color}" for name, color in _COLORS.items()),
    }
    template = (
        importlib.resources.files("tuning.report").joinpath("page.html").read_text(encoding="utf-8")
    )
    # In one pass, so that text that is filled in is not itself filled in.
    text = re.sub(r"\{\{(\w+)\}\}", lambda match: fills[match[1]], template)
    write_text(path, text)


def _sections(
    found: Findings,
    figures: Mapping[str, Noted | None],
    lines: Noted | None,
    factors: Path | None,
) -> Iterator[str]:
    def figure(
        name: str, heading: str, note: str, box: str = '<div class="plot"></div>'
    ) -> Iterator[str]:
        if (drawn := figures.get(name)) is not None:
            yield _section(name, heading, f"{note} {drawn[1]}", box)

    yield _answer(found)
    if (evaluated := evaluation(found.journal.path.parent)) is not None:
        yield _section("evaluation", "How good the winner is", *evaluated)
    dropped = collections.Counter(
        entry.reason for entry in found.journal.history if isinstance(entry, Dropped)
    )
    note = "Click a heading to sort."
    if found.finals and found.winner is not found.ranked[0]:
        note += " ★ won in the final trainings below."
    if dropped:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items())
        note += f" Points not run: {reasons}."
    yield _section(
        "leaderboard",
        "Leaderboard",
        note,
        '<div class="wide"><table></table></div><p class="more"></p>',
    )
    if lines is None:
        return
    pauses = f" Pauses ({duration(found.paused)} in total) are left out." if found.paused else ""
    yield from figure(
        "over-time",
        f"{found.metric.label} over time",
        f"Each trial at the time it ended.{pauses}",
    )
    yield _importance(found)
    note = (
        "One line per trial; the darker, the better. Drag along an axis to select trials, click it "
        f"to clear the selection. {lines[1]}"
    )
    box = '<div class="wide"><div class="parallel"></div></div><p class="chosen"></p>'
    yield _section("parallel", "All factors at once", note, box)
    if factors is not None:
        yield _factors(factors.read_text(encoding="utf-8"))
    note = "Which trial started from whose weights. The path to the winner is marked."
    yield from figure(
        "lineage", "How networks grew", note, '<div class="wide"><div class="plot"></div></div>'
    )
    yield from figure("curves", "Learning curves", "The score after each epoch.")
    if found.finals:
        yield _final_trainings(found)


def _header(found: Findings) -> str:
    data, failed = found.about["data"], sum(record.status == "failed" for record in found.ranked)
    sizes = ", ".join(f"{count:,} {split}" for split, count in data["sizes"].items())
    shape = " × ".join(map(str, data["image_shape"]))
    kind = "patches" if data.get("resize") == "patch" else "images"
    last = max(map(when, found.journal.history), default=0.0)
    labels = task_called(data["task"]).labels
    facts = {
        "data": f"{data['name']}: {sizes} {kind} of {shape} {labels.told(data['classes'])}",
        "oracle": found.journal.header["oracle"],
        "objective": found.objective,
        "trials": f"{len(found.ranked):,}" + (f" ({failed:,} failed)" if failed else ""),
        "running time": duration(found.elapsed(last)),
    }
    listed = "".join(
        f"<div><dt>{name}</dt><dd>{_safe(fact)}</dd></div>" for name, fact in facts.items()
    )
    return f"<h1>{_safe(found.about['name'])}</h1><dl>{listed}</dl>"


# The answer


def _answer(found: Findings) -> str:
    if found.winner is None:
        return _section(
            "answer",
            "No winner",
            "",
            "<p>No trial has a score. The leaderboard gives the reasons.</p>",
        )
    where, source = found.journal.path.parent, str(found.about["data"]["source"])
    ends = "".join(f"<li>{_safe(end.sentence)}</li>" for end in boundary(found.winner, found.space))
    again = shlex.join(found.about["command"])
    best, given = str(where / "best.yaml"), found.about["data"].get("words", ())
    train = shlex.join(["reskeras", "train", best, "--data", source, *given])
    use = f"keras.models.load_model({str(where / 'best.keras')!r})"
    commands = {
        "Repeat the search": f"<code>{_safe(again)}</code>"
        if again
        else "from Python, as before, with the space in space.yaml",
        "Train the winner": f"<code>{_safe(train)}</code>",
        "Use it in Python": f"<code>{_safe(use)}</code>",
    }
    body = f'<p class="sentence">{_sentence(found, found.winner)}</p>'
    if ends:
        body += f"<p>Better networks may lie outside the space:</p><ul>{ends}</ul>"
    listed = "".join(f"<dt>{what}</dt><dd>{how}</dd>" for what, how in commands.items())
    return _section("answer", "The answer", "", f'{body}<dl class="commands">{listed}</dl>')


def _sentence(found: Findings, winner: TrialRecord) -> str:
    """Which network won, its score, and its lead over the best of another kind and the base."""
    own = _score(found, winner.score)
    scores = [
        s
        for final in found.finals
        if final.record.number == winner.number and (s := final.record.score) is not None
    ]
    reached = f"{_mean(found, scores) if scores else own} {found.objective}"
    if scores:
        how = f"mean of {len(scores)} final trainings" if len(scores) > 1 else "final training"
        reached += f" ({how} of {found.finals[0].epochs} epochs)"
    name = found.objective.removeprefix("val_")
    if found.test is not None and name in found.test:
        data = found.about["data"]
        # Its number of patches is not one of images.
        count = None if data.get("resize") == "patch" else data["sizes"].get("test")
        images = f"{count:,} test images" if count else "test images"
        reached += f", {_score(found, found.test[name])} on the {images}"
    margins = (
        " and ".join(_margin(found, winner, *rival) for rival in _rivals(found, winner))
        or "no other trial has a score"
    )
    trial = f"its trial scored {own}, " if scores else ""
    text = f"Trial {winner.number} won, {{}}: {reached}; {trial}{margins}."
    # No line break between a number and its unit.
    text = re.sub(r"(?<=\d) (?=%|points)|(?<=±) | (?=±)", "\N{NO-BREAK SPACE}", text)
    return _safe(text).replace(
        "{}", f"<strong>{_safe(found.titles[winner.number]) or 'the base'}</strong>", 1
    )


def _rivals(found: Findings, winner: TrialRecord) -> Iterator[tuple[str, TrialRecord]]:
    choice = first_choice(found.space)
    kinds = best_of_each(found.scored, found.space, found.objective, choice) if choice else []
    others = (
        best
        for best in kinds
        if best.record and str(best.value) != str(found.values[winner.number].get(choice or ""))
    )
    if (second := next(others, None)) is not None and second.record is not None:
        yield (
            f"the best with {found.space.short_names()[choice or '']} {second.value}",
            second.record,
        )
    elif (
        other := next((record for record in found.scored if record is not winner), None)
    ) is not None:
        yield "the runner-up", other
    by_age = sorted(found.scored, key=lambda record: record.number)
    base = next(
        (
            r
            for r in by_age
            if all(v == found.space.base_value(p) for p, v in found.values[r.number].items())
        ),
        None,
    )
    if base is not None and base is not winner:
        yield "the base", base


def _margin(found: Findings, winner: TrialRecord, name: str, other: TrialRecord) -> str:
    ahead = sign(found.objective) * ((winner.score or 0.0) - (other.score or 0.0))
    who = f"{name} (trial {other.number}, {_score(found, other.score)})"
    if ahead == 0:
        return f"as good as {who}"
    size = found.metric.write_difference(abs(ahead))
    return f"{size} {'better' if ahead > 0 else 'worse'} than {who}"


# Tables


def _leaderboard(found: Findings) -> dict[str, Any]:
    ranked, objective = found.ranked, found.objective
    board = leaderboard_of(ranked, found.space, objective, PAGE_COLUMNS, found.costs)
    place = [column.name for column in board.columns].index("status")
    words = {"completed": "", "stopped": "stopped early"}

    def status(row: Row, record: TrialRecord) -> Row:
        error = in_a_line(record.error)
        text = words.get(record.status, f"failed: {error}" if error else "failed")
        return Row((*row.cells[:place], text, *row.cells[place + 1 :]), row.fate)

    rows = tuple(map(status, board.rows, ranked))
    return to_page(dataclasses.replace(board, rows=rows))


def _final_trainings(found: Findings) -> str:
    by_trial: dict[int, list[Final]] = {}
    for final in found.finals:
        by_trial.setdefault(final.record.number, []).append(final)
    rows = ""
    for number, finals in by_trial.items():
        scores = [final.record.score for final in finals if final.record.score is not None]
        each = [
            in_a_line(f.record.error) if f.record.score is None else _score(found, f.record.score)
            for f in finals
        ]
        cells = [
            str(number),
            found.titles.get(number, ""),
            _mean(found, scores) if scores else "failed",
            ", ".join(each),
        ]
        rows += f"<tr>{''.join(f'<td>{_safe(cell)}</td>' for cell in cells)}</tr>"
    head = "".join(
        f"<th>{name}</th>" for name in ("trial", "network", "mean ± standard deviation", "each")
    )
    note = (
        f"{found.finals[0].epochs} epochs from scratch, each with its own seed. The best mean wins."
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return _section("finals", "Final trainings", note, f'<div class="wide">{table}</div>')


# What mattered


def _importance(found: Findings) -> str:
    heading, count = "What mattered", len(found.scored)
    if not found.importances:
        few = f"Too few trials have a score: {count}. Importance takes at least {FEWEST}."
        alike = "No factor stands out: the values of these trials do not predict their scores."
        return _section("importance", heading, few if count < FEWEST else alike, "")
    short, most = found.space.short_names(), max(found.importances.values())
    bars = "".join(
        f"<tr><th>{_safe(short[path])}</th>"
        f'<td><span style="width:{100 * importance / most:.1f}%"></span></td>'
        f"<td>{100 * importance:.0f} %</td></tr>"
        for path, importance in found.importances.items()
    )
    # Measured by benchmarks/importances.py --spread.
    doubt = "a third" if count < 20 else "a sixth" if count < 80 else "a tenth"
    note = (
        "How much each factor matters for the rank of a trial (permutation importance). "
        f"With {count:,} trials, a large importance varies by about {doubt} from search to search."
    )
    traits = ORACLES.get(found.journal.header["oracle"], OracleTraits())
    if not traits.unbiased:
        note += (
            " This oracle learns and avoids bad values, so a factor that it settled early looks "
            "less important than it is."
        )
    return _section("importance", heading, note, f"<table>{bars}</table>")


def _factors(picture: str) -> str:
    text = re.sub(
        r"<metadata>.*?</metadata>", "", picture[picture.index("<svg") :], flags=re.DOTALL
    )
    # What applies to a whole picture must not apply to the whole page.
    text = text.replace('<style type="text/css">*{', '<style type="text/css">#factors svg *{')
    return _section("factors", "One factor at a time", "", f'<div class="wide">{text}</div>')


# Words


def _section(name: str, heading: str, note: str, body: str) -> str:
    about = f'<p class="note">{_safe(note.strip())}</p>' if note.strip() else ""
    return f'<section id="{name}"><h2>{_safe(heading)}</h2>{about}{body}</section>'


def _score(found: Findings, score: float | None) -> str:
    return write_score(found.objective, score)


def _mean(found: Findings, scores: Sequence[float]) -> str:
    spread = f" ± {_score(found, statistics.stdev(scores))}" if len(scores) > 1 else ""
    return _score(found, statistics.mean(scores)) + spread


def _safe(text: str) -> str:
    return html.escape(text)


def _in_script(value: Any) -> str:
    """JSON that is safe inside a script element."""
    return (
        json.dumps(value, allow_nan=False, separators=(",", ":"))
        .replace("<", "\\u003c")
        .replace(">", "\\u003e")
    )
