"""What the tests of faults share: a process that forks commands, and what these work on."""

from collections.abc import Iterator

import pytest

from tests.faults.killing import Alone, Undisturbed, let_alone
from tests.faults.nursery import Nursery
from tests.faults.scenarios import SCENARIOS, Material, environment, make_material


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Return a process that forks itself for each command."""
    nursery = Nursery(tmp_path_factory.mktemp("streams"), {**environment(), "NO_COLOR": "1", "COLUMNS": "200"})
    yield nursery
    nursery.close()


@pytest.fixture(scope="session")
def material(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Material]:
    """Return what the scenarios start from."""
    dir = tmp_path_factory.mktemp("faults")
    for folder in (dir, *dir.parents[:2]):  # other users may read it
        folder.chmod(0o755)
    material = make_material(dir / "material", nursery)
    yield material
    material.close()


@pytest.fixture(scope="session")
def alone(nursery: Nursery, material: Material, tmp_path_factory: pytest.TempPathFactory) -> Alone:
    """Return a function that tells what a scenario comes to undisturbed; each runs once."""
    known: dict[str, Undisturbed] = {}

    def undisturbed(name: str) -> Undisturbed:
        if name not in known:
            folder = tmp_path_factory.mktemp("alone") / name
            known[name] = let_alone(SCENARIOS[name], material, folder, nursery)
        return known[name]

    return undisturbed
