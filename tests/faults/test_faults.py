"""A short form of loop.py: every command is killed once or a few times."""

from pathlib import Path

import pytest

from tests.faults.killing import kill_and_finish, let_alone
from tests.faults.scenarios import SCENARIOS, Material, make_material


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory):
    material: Material = make_material(tmp_path_factory.mktemp("faults") / "material")
    yield material
    material.site.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_what_was_killed_is_finished_by_the_same_command(name: str, material: Material, tmp_path: Path) -> None:
    alone = let_alone(SCENARIOS[name], material, tmp_path / "alone")
    kill_and_finish(name, SCENARIOS[name], material, tmp_path / "killed", alone, seed=0)
