"""Stop a command at random moments, look at what can be seen, let it finish, compare with undisturbed work."""

import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.faults.nursery import Ended, Starter
from tests.faults.scenarios import Digest, Material, Scenario

MOST_TIMES = 3
"""A command is stopped before it is left to finish."""

ALREADY_DONE = {"promote": 1, "export": 2}
"""The exit codes of a command whose work was done before it was stopped, where that is not 0."""
GOOD_ORDER = {signal.SIGINT: 130, signal.SIGTERM: 143}
"""The exit codes of a command that a signal asked to end."""


@dataclass(frozen=True)
class Undisturbed:
    """What a command comes to when it is let alone."""

    digest: Digest
    seconds: float


Alone = Callable[[str], Undisturbed]
"""Returns what the scenario of a name comes to when it is let alone."""


def let_alone(scenario: Scenario, material: Material, folder: Path, starter: Starter) -> Undisturbed:
    """Run a command once."""
    lay_out(scenario, material, folder)
    start_s = time.monotonic()
    ran = starter.start(material.fill(scenario), folder).wait()
    seconds = time.monotonic() - start_s
    assert ran.code == 0, ran.err
    scenario.check(folder)
    digest = scenario.digest(folder)
    assert digest
    return Undisturbed(digest, seconds)


def stop_and_finish(
    name: str,
    scenario: Scenario,
    material: Material,
    folder: Path,
    alone: Undisturbed,
    starter: Starter,
    *,
    seed: int,
    number: signal.Signals = signal.SIGKILL,
) -> int:
    """Send a signal to a command up to three times at random moments, then finish it.

    Returns:
        How often it was stopped before it was done.

    Raises:
        AssertionError: If something half-written could be seen, the command did not finish, or the outcome differs.
    """
    rng = random.Random(f"{name} {seed}" if number == signal.SIGKILL else f"{name} {seed} {number}")
    lay_out(scenario, material, folder)
    num_stopped = 0
    for _ in range(rng.randint(1, MOST_TIMES)):
        child = starter.start(material.fill(scenario), folder)
        time.sleep(rng.uniform(0, alone.seconds))
        child.send(number)
        ended = child.wait()
        if number == signal.SIGKILL:
            num_stopped += ended.code == -number
        else:
            num_stopped += ended.code == GOOD_ORDER[number]
            assert ended.code in (GOOD_ORDER[number], 0, ALREADY_DONE.get(name, 0)), ended
            assert "Traceback" not in ended.err, ended.err
        scenario.check(folder)
    finish(name, scenario, material, folder, alone, starter)
    return num_stopped


def finish(
    name: str, scenario: Scenario, material: Material, folder: Path, alone: Undisturbed, starter: Starter
) -> Ended:
    """Run a command again that was disturbed, and compare what it comes to with undisturbed work."""
    ran = starter.start(material.fill(scenario), folder).wait()
    assert ran.code in (0, ALREADY_DONE.get(name, 0)), f"exit {ran.code}\n{ran.out}{ran.err}"
    scenario.check(folder)
    digest = scenario.digest(folder)
    differing = {name for name in {*digest, *alone.digest} if digest.get(name) != alone.digest.get(name)}
    assert not differing, f"differ from undisturbed work: {sorted(differing)}"
    return ran


def lay_out(scenario: Scenario, material: Material, folder: Path) -> None:
    """Make a command's folder as it is before it first runs."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    scenario.before(material.dir, folder)
