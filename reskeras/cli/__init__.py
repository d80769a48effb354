"""The command line. Commands are imported when they are called, so that help and the commands on specs stay instant."""

import importlib
from typing import Any

import click

from reskeras import RequestError, __version__

_COMMANDS = {
    "presets": ("reskeras.cli.specs", "List the named networks."),
    "show": ("reskeras.cli.show", "Print a network's spec as YAML."),
    "cost": ("reskeras.cli.specs", "Say what a network costs, by arithmetic."),
    "plot": ("reskeras.cli.plot", "Draw a network as a paper would."),
    "schema": ("reskeras.cli.specs", "Print the JSON Schema of a spec file."),
    "train": ("reskeras.cli.train", "Train one network."),
    "tune": ("reskeras.cli.tune", "Search for the best network."),
    "runs": ("reskeras.cli.runs", "List and compare searches and their trials in the terminal."),
    "predict": ("reskeras.cli.predict", "Say what is on images, with a trained network."),
    "export": (
        "reskeras.cli.export",
        "Write a trained network as Keras, SavedModel, ONNX or TFLite.",
    ),
    "sync": ("reskeras.cli.sync", "Send to MLflow what it has missed."),
    "ui": ("reskeras.cli.ui", "Compare searches in the MLflow UI."),
}


class _RequestRefused(click.ClickException):
    exit_code = 2

    def show(self, file: Any = None) -> None:
        for line in self.message.splitlines():
            click.echo(f"error: {line}" if not line.startswith(" ") else line, err=True)


class _WorkFailed(_RequestRefused):
    exit_code = 1


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(importlib.import_module(_COMMANDS[cmd_name][0]), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # From the table above: asking the commands themselves would import them all.
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RequestError as error:
            raise _RequestRefused(str(error)) from error
        except RuntimeError as error:
            if type(error) is not RuntimeError:
                raise  # click's own Exit and Abort, and what nobody foresaw
            raise _WorkFailed(str(error)) from error
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)


@click.group(cls=_Commands)
@click.version_option(__version__, prog_name="reskeras")
def main() -> None:
    """Residual networks in Keras: declarative block specs, exact builders, and the search over them.

    Exit status: 0 done, 1 the work failed, 2 the request was wrong, 130 interrupted (the same command goes on).
    """
