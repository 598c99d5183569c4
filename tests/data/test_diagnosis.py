"""What is said about a folder whose layout is not known."""

import os
import shlex
from pathlib import Path

import pytest

from seglab.cli import main
from seglab.data.diagnosis import diagnose
from seglab.data.layouts import LAYOUTS, synth_original
from seglab.data.sources import SOURCES, UnknownLayout, find_source, recognise
from seglab.tasks import TASKS

SHARED_DATA = os.environ.get("SEGLAB_REAL_DATA", "")
RAW = {
    "human-segmentation": "human-segmentation", "helen-like": "helen", "imaterialist-like": "imaterialist",
    "pascal-part-hss-raw": "pascal-part", "pascal-part-mat-raw": "pascal-part", "pascal-person-part-raw": "pascal-part",
    "cihp-celebmaskhq-6class-like": "cihp-celebmaskhq-6class", "cihp-raw": "cihp", "lip-raw": "lip",
    "celebamask-raw": "celebamask-hq",
}  # fmt: skip


def put(raw: Path, *names: str) -> Path:
    raw.mkdir(exist_ok=True)
    for name in names:
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        (raw / name).write_bytes(b"x")
    return raw


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as caught:
        main(["prepare", *map(str, arguments)])
    return int(caught.value.code or 0), capsys.readouterr().err


def test_what_is_there_and_what_is_missing(tmp_path: Path) -> None:
    raw = put(tmp_path / "raw", *(f"imgs/{number}.JPG" for number in range(3)), *(f"mask/{n}.png" for n in range(2)))
    put(raw, "README", "mask/.DS_Store")
    with pytest.raises(UnknownLayout) as caught:
        recognise(raw)
    error = caught.value
    assert error.message == (
        f"`{raw}` has no layout that seglab knows; it holds 3 .jpg, 2 .png, 1 without suffix in folders `imgs`, `mask`"
    )
    assert f"`seglab prepare {raw} OUT --source NAME`" in error.hint
    assert error.near[0].name == "folders"
    assert error.near[0].lacks == ("images (is `imgs` meant?)", "masks (is `mask` meant?)")
    assert len(error.near) <= 3


def test_half_a_layout_is_near(tmp_path: Path) -> None:
    raw = put(tmp_path / "raw", "JPEGImages/1.jpg", "SegmentationClass/1.png")
    (near,) = [layout for layout in diagnose(raw).near if layout.name == "pascal-part"]
    assert near.has == ("JPEGImages",)
    assert near.lacks[0].startswith(("gt_masks", "SegmentationPart", "Annotations_Part"))


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        ((), "pass the folder that holds photos and masks"),
        (("a.jpg", "b.jpeg"), "masks are missing"),
        (("sub/dir/images/a.jpg", "sub/dir/masks/a.png"), "`folders` is in it: `seglab prepare {raw}/sub/dir OUT`"),
        (("sub dir/Training_Images/1.jpg", "sub dir/Ground_Truth/1.png"), "`human-segmentation` is in it: `seglab "),
    ],
)
def test_the_hint_fits_what_is_there(tmp_path: Path, names: tuple[str, ...], hint: str) -> None:
    raw = put(tmp_path / "raw", *names)
    assert diagnose(raw).hint.startswith(hint.replace("{raw}", str(raw)))


def test_the_command_of_the_hint_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    synth_original(TASKS["person"], 4, (48, 48), tmp_path / "raw" / "a b", workers=0)
    put(tmp_path / "raw", "thesis.pdf")
    code, output = call(capsys, tmp_path / "raw", tmp_path / "out")
    assert code == 3
    command = output.rpartition("hint: ")[2].split("`")[3].replace("OUT", str(tmp_path / "out"))
    code, _ = call(capsys, *shlex.split(command)[2:])
    assert code == 0


def test_many_files_and_folders_make_no_long_line(tmp_path: Path) -> None:
    raw = put(tmp_path / "raw", *(f"folder{number}/a.x{number}" for number in range(60)))
    error = diagnose(raw)
    assert len(error.message.replace(str(raw), "")) < 200
    assert "55 other files" in error.message


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_layouts_are_listed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    code, output = call(capsys, "--sources")
    assert code == 0
    flat = " ".join(output.split())
    for name in SOURCES:
        assert name in output
        if columns == 200:
            assert find_source(name).TITLE in flat
    assert all(len(line.rstrip()) <= columns for line in output.splitlines())


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_a_layout_is_complete_by_its_own_signs(name: str, tmp_path: Path) -> None:
    """So that what is said to be missing is what is missing."""
    task = TASKS[find_source(name).TASK or ""]
    synth_original(task, 12, (48, 48), tmp_path / "raw", workers=0)
    (near,) = [layout for layout in diagnose(tmp_path / "raw").near if layout.name == name]
    assert near.lacks == ()


@pytest.mark.real
@pytest.mark.skipif(not SHARED_DATA, reason="SEGLAB_REAL_DATA does not name a folder of real photos and masks")
@pytest.mark.parametrize("folder", list(RAW))
def test_real_layouts_are_complete_by_their_own_signs(folder: str) -> None:
    raw = Path(SHARED_DATA) / "raw" / folder
    wanted, name = RAW[folder], recognise(raw)[0].NAME
    assert name == wanted
    assert [layout.lacks for layout in diagnose(raw).near if layout.name == wanted] == [()]
