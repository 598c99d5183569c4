"""The blocks of README.md and CONTRIBUTING.md that follow from the code.

A block stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``. ``python -m tests.generated`` names those that
are stale, ``python -m tests.generated --write`` writes them anew.
"""

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import typer

from seglab import errors
from seglab.cli import COMMANDS
from seglab.cli.transfers import size_text
from seglab.data.fetching.registry import load_registry
from seglab.data.sources import SOURCES, find_source
from seglab.inference.sinks import DEFAULT_FORMATS, FORMATS, GATHERED
from seglab.models.catalogue import Family, families
from seglab.models.catalogue import weights as all_weights
from seglab.tasks import TASKS, Task

TOP = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "CONTRIBUTING.md")
SCORES = ("miou", "miou_foreground", "pixel_accuracy")
BLOCK = re.compile(r"(?<=<!-- generated: )(?P<name>[\w ]+)(?P<mark> -->\n)(?P<text>.*?)(?=<!-- end -->)", re.DOTALL)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown."""
    lines = [columns, ["---"] * len(columns), *([re.sub(r"([|*])", r"\\\1", cell) for cell in row] for row in rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def help_of(name: str) -> str:
    """Return the help of a command as it is written, marks for the terminal included."""
    command = getattr(importlib.import_module(f"seglab.cli.{name}"), name)
    if isinstance(command, typer.Typer):
        assert command.registered_callback is not None
        command = command.registered_callback.callback
    return inspect.getdoc(command) or ""


def commands() -> str:
    """Return the commands with the first sentence of their help and the first of their examples."""
    rows = []
    for name in COMMANDS:
        text = help_of(name)
        examples = re.findall(r"\[bold\](seglab .*?)\[/bold\]", text)
        rows.append((f"`{name}`", text.split("\n\n")[0].replace("\n", " ").removesuffix("."), f"`{examples[0]}`"))
    return table(("command", "what it does", "for example"), rows)


def exit_codes() -> str:
    """Return the exit codes, as their docstrings tell them."""
    (body,) = (
        node.body
        for node in ast.parse(inspect.getsource(errors)).body
        if isinstance(node, ast.ClassDef) and node.name == errors.ExitCode.__name__
    )
    told = {}
    for statement, next_one in pairwise(body):
        if isinstance(statement, ast.Assign) and isinstance(next_one, ast.Expr):
            (target,) = statement.targets
            assert isinstance(target, ast.Name)
            told[target.id] = ast.literal_eval(next_one.value)
    rows = [(str(int(code)), told[code.name].removesuffix(".").lower()) for code in errors.ExitCode]
    return table(("code", "meaning"), rows)


def tasks() -> str:
    """Return the tasks with their classes, and what is scored as one."""
    rows = [(f"`{task.name}`", task.title, ", ".join(task.classes), _regions(task)) for task in TASKS.values()]
    return table(("task", "what", "classes", "scored together"), rows)


def _regions(task: Task) -> str:
    levels = "; ".join(f"{name}: {', '.join(members)}" for name, members in task.levels.items())
    return ", ".join(task.regions) + (f" (levels {levels})" if levels else "")


def models() -> str:
    """Return the networks by family."""
    return table(("`--model`", "what it is", "parameters", "made for"), [_family(family) for family in families()])


def _family(family: Family) -> tuple[str, ...]:
    millions = [row.params / 1e6 for row in family.rows if row.params]
    if not millions:
        raise SystemExit(f"`python tests/models/make_figures.py` counts the parameters of {family.pattern} first")
    size = f"{min(millions):.1f} to {max(millions):.1f} million" if len(millions) > 1 else f"{millions[0]:.1f} million"
    what = family.rows[0].description.partition(", on ")[0] if "-ENCODER" in family.pattern else ""
    what = what or "; ".join(row.description for row in family.rows)
    names = ", ".join(f"`{name}`" for name in family.pattern.split(", "))
    return names, what, size, f"{family.rows[0].size} px"


def weights() -> str:
    """Return the weights that come with seglab."""
    rows = [
        (f"`{one.name}`", f"`{one.network}`", size_text(one.bytes or 0), *scores(Path(one.path)), one.commercial)
        for one in all_weights()
        if one.kind == "embedded" and one.path
    ]
    columns = ("`--task`", "network", "size", "mean IoU", "without background", "pixel accuracy", "commercial use")
    return table(columns, rows) if rows else "No weights come with this version.\n"


def scores(folder: Path) -> list[str]:
    """Return what the model card of a bundle gives as its scores on the test photos, with intervals."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    found = (re.search(rf"^\| {name} \| (.+) \|$", text, re.MULTILINE) for name in SCORES)
    return [match[1] if match else "-" for match in found]


def formats() -> str:
    """Return the forms of masks."""
    alone = [(f"`{name}`", form.suffixes[0], form.title) for name, form in FORMATS.items()]
    together = [(f"`{name}`", form.name, form.title) for name, form in GATHERED.items()]
    assert alone[0][0] == f"`{DEFAULT_FORMATS[0]}`"
    return table(("`--format`", "file", "what it is"), [*alone, *together])


def layouts() -> str:
    """Return the layouts that ``prepare`` reads."""
    rows = []
    for source in map(find_source, SOURCES):
        of = source.TASK or ", ".join(getattr(source, "TASKS", ("any",)))
        rows.append((f"`{source.NAME}`", of, source.TITLE))
    return table(("layout", "task", "what it looks like"), rows)


def fetchable() -> str:
    """Return the datasets and checkpoints of the list."""
    rows = [
        (f"`{row.name}`", row.title, row.licence, row.commercial)
        for row in load_registry().values()
        if row.kind != "encoder"
    ]
    return table(("name", "what", "licence", "commercial use"), rows)


BLOCKS: dict[str, Callable[[], str]] = {
    "commands": commands, "exit codes": exit_codes, "tasks": tasks, "models": models, "formats": formats,
    "layouts": layouts, "fetchable": fetchable, "weights": weights,
}  # fmt: skip


def renew(text: str) -> str:
    """Return a document with all its blocks as the code has them now.

    Raises:
        KeyError: If it has a block that nothing generates.
    """
    return BLOCK.sub(lambda found: f"{found['name']}{found['mark']}\n{BLOCKS[found['name']]()}\n", text)


def main() -> int:
    """Renew or check all documents; return 1 if one is stale."""
    stale = 0
    for name in DOCUMENTS:
        path = TOP / name
        text = path.read_text(encoding="utf-8")
        fresh = renew(text)
        if fresh == text:
            continue
        if "--write" in sys.argv[1:]:
            path.write_text(fresh, encoding="utf-8")
            print(f"{name}: written")
        else:
            stale = 1
            print(f"{name}: stale; `python -m tests.generated --write` writes it anew")
    return stale


if __name__ == "__main__":
    sys.exit(main())
