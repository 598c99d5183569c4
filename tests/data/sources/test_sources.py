"""The table of layouts."""

from pathlib import Path

import pytest

import seglab.data.sources
from seglab.data.sources import SOURCES, find_source, recognise
from seglab.errors import DataError, UsageError
from seglab.tasks import TASKS


def test_the_table_lists_every_module() -> None:
    folder = Path(seglab.data.sources.__file__).parent
    modules = {f"seglab.data.sources.{path.stem}" for path in folder.glob("*.py") if path.stem != "__init__"}
    assert set(SOURCES.values()) == modules
    assert len(SOURCES) >= 2


@pytest.mark.parametrize("name", SOURCES)
def test_every_module_has_the_interface(name: str, tmp_path: Path) -> None:
    source = find_source(name)
    assert name == source.NAME
    assert source.TITLE
    assert all(source.SIGNS)
    assert source.TASK is None or source.TASK in TASKS
    assert source.recognise(tmp_path) is None
    with pytest.raises(DataError, match=f"is not the `{name}` layout") as caught:
        source.scan(tmp_path, seglab.data.sources.SourceOptions(TASKS["person"]))
    assert source.TITLE in caught.value.hint


def test_unknown_names_and_folders(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no source is called `folder`") as usage:
        find_source("folder")
    assert "`folders`" in usage.value.hint
    with pytest.raises(DataError, match="has no layout that seglab knows"):
        recognise(tmp_path)
