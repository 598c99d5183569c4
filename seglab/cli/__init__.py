"""The command line. One file a subcommand; this one lists them and imports only the one that runs."""

import atexit
import gc
import importlib
import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import typer

__all__ = ["COMMANDS", "main", "program"]

COMMANDS: Final = (
    "fetch", "prepare", "synth", "join", "inspect", "models", "train", "evaluate", "compare", "predict", "cutout",
    "export", "promote", "demo", "doctor",
)  # fmt: skip
"""The subcommands in the order of use. Each is a function, or a group of them, of its module in :mod:`seglab.cli`."""
GARBAGE: Final = 20_000
"""Objects after which Python looks for garbage. At its own 700 it looks a hundred times while starting, for nothing."""


def main(arguments: list[str] | None = None) -> None:
    """Run the program and exit with its code (see :class:`seglab.errors.ExitCode`)."""
    from seglab.cli.console import bounded

    code = bounded(lambda: run(sys.argv[1:] if arguments is None else arguments))
    sys.exit(code)


def program() -> None:
    """Be the process: :func:`main`, and then leave without taking apart what the system takes back anyway.

    That would be a tenth of the time of one cutout. What was registered for the exit is run, and everything written.
    With torch there may be more to end, and the usual way is taken.
    """
    gc.set_threshold(GARBAGE)
    try:
        main()
    except SystemExit as end:
        if "torch" in sys.modules or not isinstance(end.code, int):
            raise
        atexit._run_exitfuncs()
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError):  # closed or full: Python has its ways of saying so
            raise end from None
        os._exit(end.code)


def run(arguments: list[str]) -> object:
    """Run the program on a command line and return what the parser returns; errors are raised."""
    import typer.exceptions

    _refuse_empty(arguments)
    app, completing = _bare_app(), "_SEGLAB_COMPLETE" in os.environ
    # Only the subcommand on the line is imported; `--help` needs them all.
    for name in _named(arguments, completing):
        _add_command(app, name, completing)
    try:
        return app(arguments, prog_name="seglab", standalone_mode=False)
    except typer.exceptions.TyperException:
        _refuse_dashed(arguments)
        raise


def _bare_app() -> "typer.Typer":
    """Return the program without subcommands."""
    import typer

    from seglab.version import __version__

    app = typer.Typer(
        name="seglab",
        add_completion=True,
        pretty_exceptions_enable=False,
        no_args_is_help=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback(invoke_without_command=True)
    def about(
        context: typer.Context,
        version: bool = typer.Option(False, "--version", help="Show the version and exit."),
    ) -> None:
        """Segment people: whole person, face regions, body parts, clothes, human parsing.

        Start here, no download needed: [bold]seglab demo[/bold]

        Then: [bold]seglab prepare[/bold] photos and masks, [bold]seglab train[/bold] on them,
        [bold]seglab evaluate[/bold] the model, [bold]seglab predict[/bold] masks or
        [bold]seglab cutout[/bold] people from photos.
        """
        if version:
            typer.echo(f"seglab {__version__}")
            raise typer.Exit
        if context.invoked_subcommand is None:
            typer.echo(context.get_help())

    return app


def _add_command(app: "typer.Typer", name: str, completing: bool) -> None:
    """Import a subcommand, or a group of them, and add it to the program."""
    import typer

    command = getattr(importlib.import_module(f"seglab.cli.{name}"), name)
    if completing:
        from seglab.cli.completion import attach

        attach(name, command)
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name)
    else:
        app.command(name)(command)


def _named(arguments: list[str], completing: bool) -> tuple[str, ...]:
    """Return the subcommand that the command line names, or all if it names none."""
    first = arguments[0] if arguments else ""
    if completing:
        from seglab.cli.completion import command_on_line, mend_line

        mend_line()
        first = command_on_line()
    return (first,) if first in COMMANDS else COMMANDS


def _refuse_empty(arguments: list[str]) -> None:
    """Refuse what an unset variable of the shell leaves: as a path it would mean the current folder."""
    from seglab.errors import UsageError

    for argument in arguments:
        if not argument or (argument.startswith("--") and argument.find("=") == len(argument) - 1):
            raise UsageError(f"argument `{argument}` is empty", "is a variable of the shell not set?")


def _refuse_dashed(arguments: list[str]) -> None:
    """Explain a command line that was not understood because a file's name in it looks like an option."""
    import os
    from pathlib import Path

    from seglab.errors import UsageError

    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    for argument in options:
        name_like = argument.startswith("-") and argument != "-" and "=" not in argument
        if name_like and (os.path.lexists(argument) or Path(argument).suffix):
            raise UsageError(
                f"`{argument}` begins with a dash, so it is taken for an option",
                f"`./{argument}` is the file, and so is everything after `--`: {_after_dashes(arguments, argument)}",
            )


def _after_dashes(arguments: list[str], dashed: str) -> str:
    import shlex

    before = [argument for argument in arguments if argument != dashed]
    return "`" + shlex.join(["seglab", *before, "--", dashed]) + "`"
