"""`reskeras runs`: searches, leaderboards and comparisons from MLflow, in the terminal."""

import dataclasses
import json
import math
import time
from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

import reskeras
from reskeras.cli import options
from reskeras.cli.tables import output_console
from reskeras.errors import did_you_mean, in_a_line
from reskeras.tasks import OBJECTIVES, find_metric, metric_of, write_score
from reskeras.words import age, three_digits
from tuning.report.leaderboard import (
    STOPPED_NOTE,
    CellFormat,
    Column,
    Leaderboard,
    Row,
    to_terminal,
)
from tuning.tracking import tracking_uri as resolve_uri
from tuning.tracking.runs import Kind, Run, Runs, Status, is_run_id, ranked

_DONE = (Status.FINISHED, Status.STOPPED)
_ROWS = 20
_WHOLE = (
    "#",
    "score",
    "depth",
    "params",
    "sec",
    "trials",
    "failed",
    "best",
    "test",
    "status",
    "age",
    "run",
)
"""Columns that are never broken, however narrow the terminal."""


@click.command()
@click.argument("which", nargs=-1, metavar="[SEARCH or RUN_ID ...]")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    show_default=f"{_ROWS}, or all with --json",
    help="Show at most this many.",
)
@options.tracking_uri
@options.as_json
def runs(
    which: tuple[str, ...], limit: int | None, tracking_uri: str | None, as_json: bool
) -> None:
    """Without arguments, lists the searches.

    For one SEARCH (a name or a run id), lists its trials, best first. For several runs, shows how
    they differ. The first 6 digits of a run id are enough.
    """
    found = Runs(resolve_uri(tracking_uri))
    output = output_console()
    most = limit or (None if as_json else _ROWS)
    chosen = _chosen(found, which)
    if len(chosen) == 1 and chosen[0].kind is Kind.SEARCH:
        _show_search(found, chosen[0], most, output, as_json)
    elif chosen:
        _show_side_by_side(chosen, output, as_json)
    else:
        _show_searches(found, most, output, as_json)


def _chosen(found: Runs, words: Sequence[str]) -> list[Run]:
    if not words:
        return []
    searches = found.searches()
    named = {search.search: search for search in reversed(searches)}  # the newest of each name
    chosen = []
    for word in words:
        if word not in named and not is_run_id(word):
            near = did_you_mean(word, named) or "; `reskeras runs` lists them"
            raise reskeras.RequestError(f"no search is called {word!r}{near}")
        run = named[word] if word in named else found.find(word)
        older = [search.short for search in searches if search.search == word and search is not run]
        if older:
            click.echo(
                f"{word!r} is the newest of {len(older) + 1} searches; older: {', '.join(older)}",
                err=True,
            )
        chosen.append(run)
    return list({run.run_id: run for run in chosen}.values())


def _show_searches(found: Runs, most: int | None, output: Console, as_json: bool) -> None:
    searches = found.searches()
    shown = {search.run_id: (search, found.children(search)) for search in searches[:most]}
    if as_json:
        _print_json([_search_document(search, children) for search, children in shown.values()])
        return
    if not searches:
        output.print("no searches in this store yet; `reskeras tune` makes one")
        return
    table = _table()
    rows = [_search_row(search, children) for search, children in shown.values()]
    _add_columns(table, rows, right=("trials", "failed", "best", "test", "age"))
    output.print(table)
    _say_rest(output, len(searches), len(shown))


def _search_row(search: Run, children: Sequence[Run]) -> dict[str, Text | str]:
    trials = [run for run in children if run.kind is Kind.TRIAL]
    failed = sum(run.status is Status.FAILED for run in trials)
    test = search.metrics.get("test_" + search.objective.removeprefix("val_"))
    by = "" if search.objective == OBJECTIVES[0] else f" {search.objective.removeprefix('val_')}"
    return {
        "search": Text(search.search, style="bold"),
        "data": search.params.get("data", ""),
        "oracle": search.params.get("oracle", ""),
        "trials": str(sum(run.status in _DONE for run in trials)),
        "failed": Text(str(failed), style="red") if failed else "",
        "best": f"{write_score(search.objective, _best(search, trials))}{by}",
        "test": "" if test is None else write_score(search.objective, test),
        "status": "" if search.status is Status.FINISHED else search.status.value,
        "age": age(time.time() - search.start),
        "run": search.short,
    }


def _best(search: Run, trials: Sequence[Run]) -> float | None:
    """The search's best score, or that of its trials if it has none yet."""
    best = next(iter(ranked(trials)), None)
    return search.score if search.score is not None or best is None else best.score


def _show_search(
    found: Runs, search: Run, most: int | None, output: Console, as_json: bool
) -> None:
    children = found.children(search)
    if as_json:
        _print_json(_search_document(search, children, most, whole=True))
        return
    trials = ranked(run for run in children if run.kind is Kind.TRIAL)
    finals = ranked(run for run in children if run.kind is Kind.FINAL)
    test = {name: value for name, value in search.metrics.items() if name.startswith("test_")}
    parts = [
        search.search,
        *(
            f"{name} {search.params[name]}"
            for name in ("data", "oracle", "seed")
            if name in search.params
        ),
    ]
    parts += [f"{name} {_number(name, value)}" for name, value in sorted(test.items())]
    parts += [] if search.status is Status.FINISHED else [search.status.value]
    output.print(
        Text(
            " · ".join([*parts, f"{age(time.time() - search.start)} ago", f"run {search.short}"]),
            style="bold",
        )
    )
    if not trials:
        output.print("no trials yet")
        return
    board = _leaderboard(search.objective, trials[:most])
    output.print(to_terminal(board, whole=_WHOLE))
    _say_rest(output, len(trials), len(board.rows))
    for run in finals:
        output.print(
            f"final training of trial {run.number}: {_outcome(run)} · after epoch "
            f"{found.epochs(run)} · run {run.short}"
        )
    if any(run.status is Status.STOPPED for run in trials[:most]):
        output.print(STOPPED_NOTE, style="dim")
    for reason, numbers in _failures(trials).items():
        output.print(
            f"trial {', '.join(map(str, numbers))} failed: {reason}", style="red", soft_wrap=True
        )


def _leaderboard(objective: str, trials: Sequence[Run]) -> Leaderboard:
    """The table of a search's trials; columns that only some of them have come last."""
    searched = [_searched(run) for run in trials]
    names = list(dict.fromkeys(name for values in searched for name in values))
    columns = (
        *(Column("#", CellFormat.WHOLE), Column("score", CellFormat.SCORE)),
        *(Column(name, CellFormat.VALUE) for name in names),
        *(Column("depth", CellFormat.WHOLE), Column("params", CellFormat.COUNT)),
        *(Column("sec", CellFormat.SECONDS), Column("run", CellFormat.TEXT)),
    )

    def row(number: int, run: Run, values: dict[str, str]) -> Row:
        params = run.metrics.get("params_millions")
        cells = (
            *(None if run.score is None else number, run.score),
            *(_parsed(values.get(name)) for name in names),
            _parsed(run.params.get("depth")),
            None if params is None else round(params * 1e6),
            run.metrics.get("trial_seconds"),
            run.short,
        )
        return Row(cells, run.status.value)

    rows = (row(n, *pair) for n, pair in enumerate(zip(trials, searched, strict=True), start=1))
    return Leaderboard(metric_of(objective), columns, tuple(rows)).without_empty(always=2)


def _parsed(text: str | None) -> Any:
    """Converts a parameter's text to its value."""
    if text is None:
        return None
    number = _as_number(text)
    return text if number is None else number if any(mark in text for mark in ".e") else int(number)


def _searched(run: Run) -> dict[str, str]:
    """The searched values: words before numbers, as in a trial's title."""
    return {
        name: value
        for name, value in sorted(
            run.params.items(), key=lambda item: _as_number(item[1]) is not None
        )
        if name not in ("trial", "depth") and not name.startswith("log10_")
    }


def _outcome(run: Run) -> str:
    if run.score is None:
        return run.status.value
    return write_score(run.objective, run.score) + "*" * (run.status is Status.STOPPED)


def _failures(trials: Sequence[Run]) -> dict[str, list[int]]:
    reasons: dict[str, list[int]] = {}
    for run in sorted(trials, key=lambda run: run.number or 0):
        if run.status is Status.FAILED:
            reasons.setdefault(
                in_a_line(run.tags.get("reskeras.error")) or "without a reason", []
            ).append(run.number or 0)
    return reasons


def _show_side_by_side(chosen: Sequence[Run], output: Console, as_json: bool) -> None:
    if as_json:
        _print_json([_document(run) for run in chosen])
        return
    facts = {
        run.run_id: {"search": run.search, "kind": run.kind.value, "status": run.status.value}
        for run in chosen
    }
    params = [
        facts[run.run_id] | {name: _value(text) for name, text in run.params.items()}
        for run in chosen
    ]
    metrics = [
        {name: _number(name, value) for name, value in run.metrics.items()} for run in chosen
    ]
    table = _table()
    table.add_column("", no_wrap=True)
    for run in chosen:
        table.add_column(run.short, overflow="fold")
    best = ranked(chosen)[0] if len(chosen) > 1 else None
    equal = []
    for values, style in ((params, "bold yellow"), (metrics, "")):
        names = sorted(
            {name for each in values for name in each if not name.startswith("log10_")},
            key=_order(chosen),
        )
        for name in names:
            row = [each.get(name, "") for each in values]
            if len(chosen) > 1 and len(set(row)) == 1:
                equal.append(f"{name} {row[0]}")
                continue
            leader = best if {run.objective for run in chosen} == {name} else None
            cells = [
                Text(text, style="bold green" if run is leader else style)
                for text, run in zip(row, chosen, strict=True)
            ]
            table.add_row(name, *cells)
        table.add_section()
    output.print(table)
    if equal:
        output.print(Text("the same: " + " · ".join(equal), style="dim"), soft_wrap=True)


def _order(chosen: Sequence[Run]) -> Any:
    first = ["search", "kind", "status", "trial", *(run.objective for run in chosen)]
    return lambda name: (first.index(name) if name in first else len(first), name)


def _table() -> Table:
    return Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)


def _add_columns(table: Table, rows: Sequence[dict[str, Text | str]], right: Sequence[str]) -> None:
    """Builds a table without the columns that have no value."""
    names = [
        name
        for name in dict.fromkeys(name for row in rows for name in row)
        if any(str(row.get(name, "")) for row in rows)
    ]
    for name in names:
        table.add_column(
            name,
            justify="right" if name in right else "left",
            no_wrap=name in _WHOLE,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(row.get(name, "") for name in names))


def _say_rest(output: Console, all_: int, shown: int) -> None:
    if all_ > shown:
        output.print(f"and {all_ - shown} more; --limit {all_} shows all", style="dim")


def _number(name: str, value: float) -> str:
    if (metric := find_metric(name)) is not None:
        return metric.write(value)
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.4g}"


def _value(text: str) -> str:
    """Formats a parameter for people: floats with three digits, as in a search."""
    number = _as_number(text)
    return (
        three_digits(number) if number is not None and any(mark in text for mark in ".e") else text
    )


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _search_document(
    search: Run, children: Sequence[Run], most: int | None = None, *, whole: bool = False
) -> dict[str, Any]:
    trials = ranked(run for run in children if run.kind is Kind.TRIAL)
    counts = {
        "done": sum(run.status in _DONE for run in trials),
        "failed": sum(run.status is Status.FAILED for run in trials),
    }
    document = _document(search) | {"score": _best(search, trials), "trials": counts}
    if not whole:
        return document
    finals = ranked(run for run in children if run.kind is Kind.FINAL)
    return {
        "search": document,
        "trials": [_document(run) for run in trials[:most]],
        "finals": [_document(run) for run in finals],
    }


def _document(run: Run) -> dict[str, Any]:
    document = dataclasses.asdict(run) | {"kind": run.kind.value, "status": run.status.value}
    # JSON has no NaN.
    document["metrics"] = {
        name: value if math.isfinite(value) else None for name, value in run.metrics.items()
    }
    return document


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, allow_nan=False))
