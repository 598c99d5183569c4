"""The table of bad inputs is whole: every number has its tests, and every test of this folder has its number."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bad_inputs.table import CHECKS, INPUTS, SETTINGS, group_of

HERE = Path(__file__).parent
TESTS = HERE.parent


@functools.cache
def names_in(path: Path) -> frozenset[str]:
    """Return the names of the tests in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return frozenset(function.name for function in functions if function.name.startswith("test_"))


def proofs() -> Iterator[tuple[str, Path, str, str]]:
    """Yield whose proof it is, its file, the test, and its case."""
    rows = [(f"input {number}", group_of(number), entry.proofs) for number, entry in INPUTS.items()]
    rows += [(what, "test_config", tests) for what, tests in SETTINGS.items()]
    rows += [(f"check {number}", "test_checks", tests) for number, (_, tests) in CHECKS.items()]
    for whose, module, tests in rows:
        for test in tests:
            file, _, name = test.rpartition("::")
            name, _, case = name.partition("[")
            yield whose, TESTS / file if file else HERE / f"{module}.py", name, case.removesuffix("]")


def test_every_number_is_there() -> None:
    assert list(INPUTS) == list(range(1, 46))
    assert list(CHECKS) == list(range(1, 13))
    for entry in INPUTS.values():
        assert entry.what
        assert entry.expected
        assert entry.proofs
    assert all(tests for _, tests in CHECKS.values())
    assert all(SETTINGS.values())


@pytest.mark.parametrize("whose", dict.fromkeys(whose for whose, *_ in proofs()))
def test_every_proof_is_a_test_that_there_is(whose: str) -> None:
    for path, name, case in [rest for owner, *rest in proofs() if owner == whose]:
        assert path.is_file(), path
        assert name in names_in(path), f"{path.name} has no test `{name}`"
        assert not case or f'"{case}"' in path.read_text(encoding="utf-8"), f"`{name}` has no case `{case}`"


def test_every_number_is_proved_in_its_own_group() -> None:
    """Through the command line, that is; tests elsewhere look into the parts."""
    for number in INPUTS:
        assert any(whose == f"input {number}" and path.parent == HERE for whose, path, _, _ in proofs())


def test_every_test_of_this_folder_is_in_the_table() -> None:
    named = {(path, name) for _, path, name, _ in proofs()}
    for path in HERE.glob("test_*.py"):
        if path != Path(__file__):
            missing = [name for name in sorted(names_in(path)) if (path, name) not in named]
            assert missing == [], f"tests of {path.name} that no row names"
