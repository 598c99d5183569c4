"""Completion of a command line by the shell, beyond the names of commands and options.

The shell calls the program with the line in variables (``_SEGLAB_COMPLETE`` says that it does); only then are
:data:`seglab.cli.proposals.PROPOSERS` attached to options and arguments, so that other runs pay nothing for them.
"""

import inspect
import os
from collections.abc import Callable, Iterator
from typing import Any, Final, get_args

import typer
from typer.models import ParameterInfo

from seglab.cli.proposals import PROPOSERS, Proposal, Proposer
from seglab.errors import SeglabError

__all__ = ["attach", "command_on_line", "mend_line", "parameters"]

LINES: Final = ("COMP_WORDS", "_TYPER_COMPLETE_ARGS")
"""Where shells leave the line."""


def command_on_line() -> str:
    """Return the first word after the program's name, empty if there is none."""
    for variable in LINES:
        words = os.environ.get(variable, "").split()
        if words[1:]:
            return words[1]
    return ""


def mend_line() -> None:
    """Put together again what bash takes apart at ``=``, as in ``--task=face``."""
    words = os.environ.get("COMP_WORDS", "").split("\n")
    try:
        current = int(os.environ.get("COMP_CWORD", ""))
    except ValueError:
        return
    mended: list[str] = []
    place = current
    for position, word in enumerate(words):
        if mended and position > 1 and (word == "=" or words[position - 1] == "=") and mended[-1]:
            mended[-1] += word
            place -= position <= current
        else:
            mended.append(word)
    os.environ["COMP_WORDS"], os.environ["COMP_CWORD"] = "\n".join(mended), str(place)


def attach(name: str, command: Callable[..., Any] | typer.Typer) -> None:
    """Let the options and arguments of a command, or of a group of them, propose values."""
    for parameter, _, info in parameters(command):
        proposer = PROPOSERS.get(f"{name}.{parameter}") or PROPOSERS.get(parameter)
        if proposer is not None:
            info.autocompletion = _completer(proposer)


def parameters(command: Callable[..., Any] | typer.Typer) -> Iterator[tuple[str, Any, ParameterInfo]]:
    """Yield name, type and description of the parameters of a command, or of all commands of a group."""
    functions = [command]
    if isinstance(command, typer.Typer):
        group = command.registered_callback
        functions = [group.callback] if group is not None and group.callback is not None else []
        functions += [each.callback for each in command.registered_commands if each.callback is not None]
    for function in functions:
        for name, parameter in inspect.signature(function).parameters.items():
            for info in get_args(parameter.annotation)[1:]:
                if isinstance(info, ParameterInfo):
                    yield name, get_args(parameter.annotation)[0], info


def _completer(proposer: Proposer) -> Callable[[typer.Context, str], list[Proposal]]:
    def complete(context: typer.Context, incomplete: str) -> list[Proposal]:
        try:
            return list(proposer({**context.params, "words": context.args}, incomplete))
        except (SeglabError, OSError, ValueError, ImportError):  # a shell that waits is no place for errors
            return []

    return complete
