"""``seglab doctor``: what works here, and what to do about what does not."""

from typing import TYPE_CHECKING

from seglab.cli.console import escape, note, print_json
from seglab.cli.options import JsonOption
from seglab.errors import ExitCode

if TYPE_CHECKING:
    from seglab.doctor import Diagnosis, Library

__all__ = ["doctor"]


def doctor(json: JsonOption = False) -> int:
    """Look at the installation: versions, devices, engines, logins, folders, encodings.

    [bold]seglab doctor[/bold]

    [bold]seglab doctor --json > report.json[/bold]   to go with a question; no password or token is in it

    Every problem comes with the command that mends it. The exit code is 6 if something that seglab needs does not work.
    """
    from seglab.doctor import diagnose

    diagnosis = diagnose()
    _show(diagnosis)
    if json:
        print_json(diagnosis.to_dict())
    return int(ExitCode.DONE if diagnosis.healthy else ExitCode.DEVICE)


def _show(diagnosis: "Diagnosis") -> None:
    for name, version in diagnosis.versions.items():
        _line(name, version)
    for library in diagnosis.libraries:
        _line(library.name, f"{library.version:12s} {_state(library)}".rstrip())
    device = diagnosis.device
    quota = "" if device["cpu_quota"] is None else f", quota of {device['cpu_quota']:g}"
    _line("device", f"{device['chosen'] or 'none'} ({device['reason']})" if device["reason"] else "none")
    for index, gpu in enumerate(device["gpus"]):
        _line("", f"cuda:{index}  {gpu}")
    _line("processors", f"{device['threads']} threads, {device['usable_cpus']} of {device['cpus']} usable{quota}")
    for name, where in diagnosis.engines.items():
        _line(f"engine {name}", where or "not usable")
    for service, login in diagnosis.logins.items():
        _line(f"login {service}", login.replace("_", " ").lower() or "none")
    for name, folder in diagnosis.folders.items():
        there = "" if folder.exists else ", not made yet"
        _line(f"{name} folder", f"{folder.path} ({folder.free_bytes / 1e9:.0f} GB free{there})")
    if diagnosis.fetched:
        _line("fetched", ", ".join(diagnosis.fetched))
    _line("text", ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in diagnosis.text.items() if value))
    _tell_problems(diagnosis)


def _tell_problems(diagnosis: "Diagnosis") -> None:
    if not diagnosis.problems:
        note("\n[bold green]everything works[/bold green]")
    for problem in diagnosis.problems:
        mark = "[bold red]problem:[/bold red]" if problem.serious else "[bold yellow]note:[/bold yellow]"
        note(f"\n{mark} {escape(problem.what)}")
        note(f"[bold cyan]hint:[/bold cyan] {escape(problem.hint)}")


def _line(label: str, text: str) -> None:
    note(f"{label:28s} {escape(text)}")


def _state(library: "Library") -> str:
    if library.version:
        return "" if library.works else "broken"
    return "missing" if library.needed else "not installed, an extra"
