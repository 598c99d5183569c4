"""What a release holds. With SEGLAB_DIST, a folder with a wheel and a source distribution, these are looked through."""

import email
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import pytest

from seglab import __version__

TOP = Path(__file__).parents[1]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGE = sorted(
    path.relative_to(TOP).as_posix()
    for path in (TOP / "seglab").rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
)


def test_the_version_is_one_of_a_release() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "seglab.version.__version__"}


def test_every_file_of_the_package_that_is_no_module_is_package_data() -> None:
    """A file that no pattern names would be in the tree, and missing from the wheel."""
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["seglab"]
    others = [name.removeprefix("seglab/") for name in PACKAGE if not name.endswith(".py")]
    assert len(others) > 25
    assert not [name for name in others if not any(fnmatch(name, pattern) for pattern in patterns)]
    assert not [
        pattern for pattern in patterns if "weights" not in pattern and not (list((TOP / "seglab").glob(pattern)))
    ]


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {PurePosixPath(name).parent for name in PACKAGE if name.endswith(".py")}
    assert len(folders) > 12
    assert not [str(folder) for folder in folders if f"{folder}/__init__.py" not in PACKAGE]


def test_the_slowest_tests_are_named(tmp_path: Path) -> None:
    (tmp_path / "tests.xml").write_text(
        '<testsuites><testsuite><testcase classname="tests.data.test_a" name="test_one[x]" time="1.5"/>'
        '<testcase classname="tests.test_b" name="test_two" time="2.0"/>'
        '<testcase classname="tests.data.test_a" name="test_three" time="0.75"/></testsuite></testsuites>'
    )
    command = [sys.executable, TOP / ".ci" / "slowest.py", tmp_path / "tests.xml", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "3 tests, 4 s of one process after the other", "",
        "slowest tests", "     2.0 s  test_b.py  test_two", "     1.5 s  data/test_a.py  test_one[x]", "",
        "slowest files", "     2.2 s   53%  data/test_a.py", "     2.0 s   47%  test_b.py",
    ]  # fmt: skip


built = pytest.mark.skipif("SEGLAB_DIST" not in os.environ, reason="no distributions were built (SEGLAB_DIST)")


def only(pattern: str) -> Path:
    (path,) = Path(os.environ["SEGLAB_DIST"]).glob(pattern)
    return path


@built
def test_the_wheel_is_the_package_and_nothing_else() -> None:
    with zipfile.ZipFile(only("*.whl")) as wheel:
        names = wheel.namelist()
        stored = {name: wheel.read(name) for name in names}
    assert only("*.whl").name == f"seglab-{__version__}-py3-none-any.whl"
    info = f"seglab-{__version__}.dist-info/"
    assert sorted(name for name in names if not name.startswith(info)) == PACKAGE
    assert all(stored[name] == (TOP / name).read_bytes() for name in PACKAGE)
    assert "seglab/py.typed" in names
    assert stored[f"{info}licenses/LICENSE"] == (TOP / "LICENSE").read_bytes()
    assert b"seglab = seglab.cli:program" in stored[f"{info}entry_points.txt"]


@built
def test_the_wheel_says_what_it_is() -> None:
    with zipfile.ZipFile(only("*.whl")) as wheel:
        text = wheel.read(f"seglab-{__version__}.dist-info/METADATA").decode()
    told = email.message_from_string(text)
    assert (told["Name"], told["Version"], told["License-Expression"]) == ("seglab", __version__, "MIT")
    assert told["Requires-Python"] == ">=3.11"
    assert set(told.get_all("Provides-Extra", [])) == set(PROJECT["project"]["optional-dependencies"])
    needed = [line for line in told.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert len(needed) == len(PROJECT["project"]["dependencies"])
    assert told.get_payload() == (TOP / "README.md").read_text(encoding="utf-8")


@built
def test_the_source_distribution_has_all_it_takes_to_build_and_test() -> None:
    """The same files as the tree, byte for byte."""
    with tarfile.open(only("*.tar.gz")) as archive:
        prefix = f"seglab-{__version__}/"
        stored = {
            member.name.removeprefix(prefix): content.read()
            for member in archive
            if member.isfile() and (content := archive.extractfile(member)) is not None
        }
    assert {"README.md", "LICENSE", "CHANGELOG.md", ".ci/run", "examples/ci_smoke.sh", *PACKAGE} <= set(stored)
    made = {name for name in stored if name.startswith("seglab.egg-info/")} | {"PKG-INFO", "setup.cfg"}
    assert not [name for name in set(stored) - made if stored[name] != (TOP / name).read_bytes()]
    tested = {path.relative_to(TOP).as_posix() for path in (TOP / "tests").rglob("*") if path.is_file()}
    tested = {name for name in tested if "__pycache__" not in name}
    assert len(tested) > 200
    assert not tested - set(stored)


@built
def test_the_changelog_tells_of_the_release() -> None:
    headings = re.findall(r"^## \[(.*?)\]", (TOP / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert __version__ in headings
