"""Kill every command at random moments, a hundred times each.

    python -m tests.faults.loop [--times 100] [--seed 0] [NAME ...]

Names are those of tests/faults/scenarios.py. After every kill what can be seen must be whole; then the same command
must finish, and the outcome equal that of undisturbed work. Prints a line a scenario; exit code 1 if one failed.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.faults.killing import kill_and_finish, let_alone
from tests.faults.scenarios import SCENARIOS, make_material


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SCENARIOS))
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="seglab-faults-") as top:
        material = make_material(Path(top) / "material")
        for name in options.names or SCENARIOS:
            scenario, num_kills, failures = SCENARIOS[name], 0, 0
            alone = let_alone(scenario, material, Path(top) / name)
            for time in range(options.times):
                folder = Path(top) / name
                try:
                    num_kills += kill_and_finish(name, scenario, material, folder, alone, options.seed + time)
                except AssertionError as error:
                    failures += 1
                    print(f"{name}, seed {options.seed + time}: {error}", file=sys.stderr, flush=True)
            print(f"{name}: {options.times} runs, {num_kills} kills, {failures} failures", flush=True)
            failed += failures
        material.site.close()
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
