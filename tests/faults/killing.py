"""Kill a command at random moments, look at what can be seen, let it finish, compare with undisturbed work."""

import random
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.faults.scenarios import Digest, Material, Scenario, environment

MOST_KILLS = 3
"""Before the command is left to finish."""

ALREADY_DONE = {"promote": 1, "export": 2}
"""The exit codes of a command whose work was done before it was killed, where that is not 0."""


@dataclass(frozen=True)
class Undisturbed:
    """What a command comes to when it is let alone."""

    digest: Digest
    seconds: float


def let_alone(scenario: Scenario, material: Material, folder: Path) -> Undisturbed:
    """Run a command once."""
    start_s = time.monotonic()
    _prepare(scenario, material, folder)
    ran = subprocess.run(material.fill(scenario), cwd=folder, capture_output=True, text=True, env=environment())
    assert ran.returncode == 0, ran.stderr
    seconds = time.monotonic() - start_s
    scenario.check(folder)
    digest = scenario.digest(folder)
    assert digest
    return Undisturbed(digest, seconds)


def kill_and_finish(
    name: str, scenario: Scenario, material: Material, folder: Path, alone: Undisturbed, seed: int
) -> int:
    """Kill a command up to three times at random moments, then finish it.

    Returns:
        How often it was killed before it was done.

    Raises:
        AssertionError: If something half-written could be seen, the command did not finish, or the outcome differs.
    """
    rng = random.Random(f"{name} {seed}")
    _prepare(scenario, material, folder)
    num_kills = 0
    for _ in range(rng.randint(1, MOST_KILLS)):
        process = subprocess.Popen(
            material.fill(scenario), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment()
        )
        time.sleep(rng.uniform(0, alone.seconds))
        process.kill()
        num_kills += process.wait() == -signal.SIGKILL
        scenario.check(folder)
    ran = subprocess.run(material.fill(scenario), cwd=folder, capture_output=True, text=True, env=environment())
    done = ran.returncode in (0, ALREADY_DONE.get(name, 0))
    assert done, f"exit {ran.returncode} after {num_kills} kills\n{ran.stdout}{ran.stderr}"
    scenario.check(folder)
    assert scenario.digest(folder) == alone.digest
    return num_kills


def _prepare(scenario: Scenario, material: Material, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    scenario.before(material.dir, folder)
