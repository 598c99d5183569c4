"""The blocks of the documents that follow from the code are up to date, and would be missed if they were not."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from seglab.cli import COMMANDS
from seglab.errors import ExitCode
from seglab.tasks import TASKS
from tests import generated

TEXTS = {name: (generated.TOP / name).read_text(encoding="utf-8") for name in generated.DOCUMENTS}


@pytest.mark.parametrize("name", generated.DOCUMENTS)
def test_no_block_is_stale(name: str) -> None:
    assert generated.renew(TEXTS[name]) == TEXTS[name], "`python -m tests.generated --write` writes it anew"


def test_every_block_is_used_and_closed() -> None:
    text = "".join(TEXTS.values())
    assert sorted(re.findall(r"^<!-- generated: (.+) -->$", text, re.MULTILINE)) == sorted(generated.BLOCKS)
    assert len(re.findall(r"^<!-- end -->$", text, re.MULTILINE)) == len(generated.BLOCKS)


def test_a_stale_block_is_written_anew_and_nothing_else() -> None:
    before, block, after = "a\n\n<!-- generated: exit codes -->\n", "| old |\n", "<!-- end -->\n\n| b |\n"
    assert generated.renew(before + block + after) == f"{before}\n{generated.exit_codes()}\n{after}"
    assert generated.renew("no block | here\n") == "no block | here\n"
    with pytest.raises(KeyError):
        generated.renew("<!-- generated: nothing -->\n<!-- end -->\n")


def test_tables_hold_everything() -> None:
    assert [line.split("`")[1] for line in generated.commands().splitlines()[2:]] == list(COMMANDS)
    assert [int(line.split(" ")[1]) for line in generated.exit_codes().splitlines()[2:]] == list(ExitCode)
    assert [line.split("`")[1] for line in generated.tasks().splitlines()[2:]] == list(TASKS)
    assert "Helen\\*" in generated.tasks()  # two stars in a line would set in italics what is between them
    assert generated.table(["a"], [["b|c"]]) == "| a |\n| --- |\n| b\\|c |\n"


def test_the_script_says_what_is_stale_and_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generated, "TOP", tmp_path)
    monkeypatch.setattr(generated, "DOCUMENTS", ("A.md", "B.md"))
    (tmp_path / "A.md").write_text("<!-- generated: exit codes -->\n<!-- end -->\n")
    (tmp_path / "B.md").write_text("b\n")
    monkeypatch.setattr(sys, "argv", ["generated"])
    assert generated.main() == 1
    assert "A.md: stale" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["generated", "--write"])
    assert generated.main() == 0
    assert capsys.readouterr().out == "A.md: written\n"
    assert "| 6 | device" in (tmp_path / "A.md").read_text()
    monkeypatch.setattr(sys, "argv", ["generated"])
    assert generated.main() == 0


def test_it_runs_as_contributing_says() -> None:
    assert "python -m tests.generated --write" in TEXTS["CONTRIBUTING.md"]
    command = [sys.executable, "-m", "tests.generated"]
    done = subprocess.run(command, cwd=generated.TOP, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
