"""Every parser with inputs that are nearly right: only errors of seglab come out, quickly, and from little memory.

``SEGLAB_FUZZ=1000`` makes a thousand examples a parser; a hundred thousand in atheris: ``python -m tests.fuzz``.
"""

import ast
import os
import resource
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import seglab
from tests.fuzz.examination import Ground
from tests.fuzz.mutation import GRAMMARS
from tests.fuzz.targets import TARGETS

NUM_EXAMPLES = int(os.environ.get("SEGLAB_FUZZ", "25"))
SLOW = {"metrics-curves": 5, "registry-toml": 10, "bundle-network": 10, "bundle-safetensors": 6}
"""Parsers that take tens of milliseconds get fewer examples."""
MAX_MORE_BYTES = 500 << 20


@pytest.mark.parametrize("name", TARGETS)
def test_only_errors_of_seglab_come_out(name, tmp_path_factory):
    target, seeds = TARGETS[name], list(TARGETS[name].seeds())
    change = GRAMMARS[target.grammar]
    ground = Ground(tmp_path_factory.mktemp(name), target)
    num_examples = NUM_EXAMPLES * SLOW.get(name, 25) // 25
    profile = settings(
        max_examples=num_examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )

    @profile
    @given(st.integers(0, 2**32), st.integers(0, len(seeds) - 1), st.integers(1, 3))
    def run(chance, number, times):
        random, data = Random(chance), seeds[number]
        for _ in range(times):
            data = change(data, random)
        ground.examine(data)

    @profile
    @given(st.binary(max_size=300))
    def run_noise(data):
        ground.examine(data)

    ground.examine(seeds[0])  # imports what it needs
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run()
    if num_examples >= 25:
        run_noise()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MAX_MORE_BYTES // 1024


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_are_sound(name, tmp_path):
    """Changes of what is refused anyway would test nothing."""
    target = TARGETS[name]
    ground = Ground(tmp_path, target)
    assert any(ground.examine(data) for data in target.seeds())


PARSERS = {
    "parse_json", "parse_toml", "read_pickle", "raw_decode", "open_picture", "read_array", "read_variable", "ZipFile",
    "_open_picture", "genops", "fromstring",
}  # fmt: skip
"""Functions that parse a format."""

UNREACHED = {
    ("data/census.py", "_visit"),  # a picture, through the same door as the targets `photo` and `labels`
    ("data/conversion.py", "_read"),  # likewise
    ("inference/formats/probs.py", "write_probs"),  # writes
    ("data/layouts.py", "_receipt"),  # our own; anything else counts as somebody else's folder
    ("data/fetching/download.py", "_read_known"),  # tests/fetch/test_download.py damages it
}


def parsing(root):
    """Yield file and function of every call of a parser."""
    for path in root.rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(function, ast.FunctionDef):
                calls = (node.func for node in ast.walk(function) if isinstance(node, ast.Call))
                if PARSERS & {getattr(call, "attr", getattr(call, "id", "")) for call in calls}:
                    yield path.relative_to(root).as_posix(), function.name


def test_every_function_that_parses_is_reached_by_some_target(tmp_path):
    """A new one wants a row in the table."""
    root = Path(seglab.__file__).parent
    codes = set()

    def trace(frame, _event, _argument):
        codes.add(frame.f_code)

    for name, target in TARGETS.items():
        (tmp_path / name).mkdir()
        ground = Ground(tmp_path / name, target)
        sys.setprofile(trace)
        try:
            for data in target.seeds()[:4]:
                ground.examine(data)
        finally:
            sys.setprofile(None)
    ours = [code for code in codes if Path(code.co_filename).is_relative_to(root)]
    reached = {(Path(code.co_filename).relative_to(root).as_posix(), code.co_name) for code in ours}
    calling = set(parsing(root))
    assert calling - reached == UNREACHED
    assert len(calling) > 30


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed: `pip install atheris`")
def test_atheris_runs_every_target_for_a_moment():
    for name in ("task-toml", "archive-zip"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz", name, "-max_total_time=2"], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert "stat::number_of_executed_units" in done.stderr
