"""Kill every command at random moments, a hundred times each.

    python -m tests.faults.loop [--times 100] [--seed 0] [--forked] [NAME ...]

Names are those of tests/faults/scenarios.py. After every kill what can be seen must be whole; then the same command
must finish, and the outcome equal that of undisturbed work. Prints a line a scenario; exit code 1 if one failed. With
--forked a command is a process that begins with its imports done, so that far more kills hit its work in the same time.
"""

import argparse
import signal
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from tests.faults.killing import let_alone, stop_and_finish
from tests.faults.nursery import Nursery, Processes
from tests.faults.scenarios import SCENARIOS, environment, make_material


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=100, help="kills of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--forked", action="store_true")
    parser.add_argument("--signal", default="KILL", choices=["KILL", "INT", "TERM"])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SCENARIOS))
    options = parser.parse_args()
    number, failed = signal.Signals[f"SIG{options.signal}"], 0
    with (
        tempfile.TemporaryDirectory(prefix="seglab-faults-") as top,
        closing((Nursery if options.forked else Processes)(Path(top) / "streams", environment())) as starter,
        closing(make_material(Path(top) / "material", starter)) as material,
    ):
        for name in options.names or SCENARIOS:
            folder, scenario, seed, num_stopped, failures = Path(top) / name, SCENARIOS[name], options.seed, 0, 0
            alone = let_alone(scenario, material, folder, starter)
            while num_stopped < options.times and seed < options.seed + 3 * options.times:
                try:
                    num_stopped += stop_and_finish(
                        name, scenario, material, folder, alone, starter, seed=seed, number=number
                    )
                except AssertionError as error:
                    failures += 1
                    print(f"{name}, seed {seed}: {error}", file=sys.stderr, flush=True)
                seed += 1
            print(f"{name}: {seed - options.seed} runs, {num_stopped} kills, {failures} failures", flush=True)
            failed += failures
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
