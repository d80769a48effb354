"""The command line: one module per command, what they share in `networks`, `options` and `tables`.

A command is imported when it is called, so that help and the commands on specs never wait for
TensorFlow or MLflow.

Imports: reskeras.data, reskeras.data.embedded, reskeras.drawing, reskeras.evaluation, reskeras.lab,
reskeras.lab.doctor, reskeras.models, reskeras.spec, reskeras.spec.presets, reskeras.tasks,
reskeras.training, tuning.insight, tuning.record, tuning.report, tuning.running, tuning.search,
tuning.space, tuning.tracking.
Imported by: reskeras.
"""

import contextlib
import errno
import importlib
import inspect
import signal
import threading
from collections.abc import Iterator
from typing import Any

import click

from reskeras import RequestError, __version__
from reskeras.errors import hide_passwords, in_a_line

_COMMANDS = {
    "presets": "List the named networks.",
    "show": "Print a network's spec as YAML.",
    "cost": "Compute what a network costs without building it.",
    "plot": "Draw a network in the style of a paper.",
    "schema": "Print the JSON Schema of a spec file.",
    "data": "Look at images and their labels before training.",
    "train": "Train one network.",
    "lr": "Find the learning rates that a network learns at.",
    "doctor": "Examine a network and its data before a long training.",
    "tune": "Search for the best network on a data set.",
    "runs": "List and compare searches and their trials in the terminal.",
    "evaluate": "Score a trained network, with intervals and baselines, or compare two.",
    "predict": "Classify, segment, restore or measure images with a trained network.",
    "lab": "Measure what theory claims about a residual network.",
    "export": "Write a trained network as Keras, SavedModel, ONNX, or TFLite.",
    "sync": "Send MLflow whatever it is missing.",
    "ui": "Compare searches in the MLflow UI.",
}
"""The first line of each command's help; the rest is its docstring. Its module has its name."""


class _RequestRefused(click.ClickException):
    exit_code = 2

    def show(self, file: Any = None) -> None:
        for line in hide_passwords(self.message).splitlines():
            click.echo(line if line.startswith(" ") else f"error: {line}", err=True)


class _WorkFailed(_RequestRefused):
    exit_code = 1


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(importlib.import_module(f"reskeras.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        more = inspect.getdoc(command.callback) or ""
        command.help = f"{_COMMANDS[cmd_name]}\n\n{more}".strip()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # From the table above: asking the commands themselves would import them all.
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _interrupted_by_sigterm():
                return super().invoke(ctx)
        except RequestError as error:
            raise _RequestRefused(str(error)) from error
        except RuntimeError as error:
            if type(error) is not RuntimeError:
                raise  # click's own Exit and Abort, and unexpected errors
            raise _WorkFailed(str(error)) from error
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # click ends silently: the reader, such as `head`, has left
            raise _WorkFailed(in_a_line(error)) from error
        except MemoryError as error:
            raise _WorkFailed(f"out of memory: {in_a_line(error)}") from error
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)


@contextlib.contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Lets SIGTERM do what Ctrl-C does, so that what is half-written is removed."""
    free = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not free or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@click.group(cls=_Commands)
@click.version_option(__version__, prog_name="reskeras")
def main() -> None:
    """Residual networks in Keras: declarative specs, exact builders, and a search over them.

    Exit status: 0 success, 1 the work failed, 2 the request was wrong, 130 interrupted (for `tune`,
    the same command resumes).
    """
