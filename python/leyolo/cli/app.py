"""The typer application. What a command needs is imported when it runs, so that help costs nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from leyolo.cli import arguments
from leyolo.cli.commands import benchmark, convert, data, doctor, explain, info, models, predict, train, val
from leyolo.errors import UsageError, nearest

app = typer.Typer(
    name="leyolo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from leyolo import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def _leyolo(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error (any command).")] = False,
) -> None:
    """LeYOLO object detection. Flags may be written --name value or name=value."""


app.command(name="predict")(predict.predict)
app.command(name="val")(val.val)
app.command(name="train")(train.train)
app.command(name="convert")(convert.convert)
app.command(name="info")(info.info)
app.command(name="models")(models.models)
app.command(name="doctor")(doctor.doctor)
app.add_typer(data.app, name="data")
app.add_typer(explain.app, name="explain")
app.add_typer(benchmark.app, name="benchmark")

# Typer carries click inside since 0.24 and beside before; this names the class in both.
_ClickError: Any = typer.BadParameter.__mro__[2]


def invoke(argv: Sequence[str]) -> int:
    """Runs one command line; returns the exit code, raises what goes wrong."""
    command = typer.main.get_command(app)
    if "_LEYOLO_COMPLETE" in os.environ:  # the shell asks for completions
        command.main(list(argv), prog_name="leyolo")
    prepared = _prepared(list(argv), command)
    try:
        with command.make_context("leyolo", prepared) as context:
            command.invoke(context)
    except typer.Exit as end:
        return int(end.exit_code)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except _ClickError as error:
        raise UsageError(_usage(error, prepared)) from None
    return 0


def _prepared(argv: list[str], command: Any) -> list[str]:
    """Brings the subcommand's arguments into typer's form, down to the innermost group."""
    for index, token in enumerate(argv):
        if token.startswith("-"):
            continue
        commands = getattr(command, "commands", {})
        if token not in commands:
            raise UsageError(
                f"there is no command '{token}'.{nearest(token, commands)}\nCommands: {', '.join(commands)}"
            )
        inner = commands[token]
        tail = argv[index + 1 :]
        prepared = _prepared(tail, inner) if getattr(inner, "commands", None) else arguments.normalised(tail, inner)
        return [*argv[: index + 1], *prepared]
    return argv


def _usage(error: Any, argv: Sequence[str]) -> str:
    """Typer's message with the value that it complains about."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "leyolo"
    text = " ".join(str(error.format_message()).split())
    if match := re.match(r"Invalid value for '(--[\w-]+)'[^:]*: (.*)", text):
        value = next((a.partition("=")[2] for a in argv if a.startswith(f"{match[1]}=")), None)
        if value is not None:
            text = f"{match[1]} got '{value}': {match[2][:1].lower()}{match[2][1:]}"
    return f"{text}\nSee: {path} --help"
