"""Fuzz one parser with atheris, guided by the code that it reaches.

    python -m tests.fuzz TARGET -max_total_time=60        flags are libFuzzer's; no TARGET lists them
    python -m tests.fuzz TARGET FILE                      one input again

A finding is left as ``crash-SHA1`` in the working directory, unless ``-artifact_prefix=DIR/`` says otherwise.
"""

import os
import sys
import tempfile
from pathlib import Path
from random import Random

os.environ.setdefault("OMP_NUM_THREADS", "1")

import atheris

with atheris.instrument_imports(include=["seglab", "tomllib"]):
    from tests.fuzz.examination import PATIENCE_S, Ground
    from tests.fuzz.mutation import GRAMMARS
    from tests.fuzz.targets import TARGETS


def main(arguments: list[str]) -> int:
    """Fuzz until the time is over; libFuzzer ends the process itself."""
    if not arguments or arguments[0] not in TARGETS:
        print("\n".join(TARGETS))
        return 0 if not arguments else 2
    name, *flags = arguments
    target = TARGETS[name]
    with tempfile.TemporaryDirectory() as folder:
        corpus_dir = Path(folder) / "corpus"
        corpus_dir.mkdir()
        for number, data in enumerate(target.seeds()):
            (corpus_dir / str(number)).write_bytes(data)
        ground_dir = Path(folder) / "ground"
        ground_dir.mkdir()
        ground = Ground(ground_dir, target)

        def mutate(data: bytes, max_size: int, seed: int) -> bytes:
            random = Random(seed)
            changed = (
                atheris.Mutate(data, max_size) if random.randrange(4) == 0 else GRAMMARS[target.grammar](data, random)
            )
            return changed[:max_size]

        options = [
            f"-timeout={2 * PATIENCE_S}",
            "-rss_limit_mb=4096",
            "-max_len=200000",
            "-verbosity=0",
            "-print_final_stats=1",
        ]
        places = [] if any(Path(flag).is_file() for flag in flags) else [str(corpus_dir)]
        atheris.Setup(
            [sys.argv[0], *options, *flags, *places], lambda data: ground.examine(data) and None, custom_mutator=mutate
        )
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
