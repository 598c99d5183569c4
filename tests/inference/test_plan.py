import os
from collections.abc import Callable
from pathlib import Path

import pytest

from seglab.errors import DataError, UsageError
from seglab.inference.inputs import Failure
from seglab.inference.ledger import Ledger
from seglab.inference.plan import Job, Layout, Plan, make_plan
from tests.inference.files import touch

MASKS = Layout("predict", {"palette": (".png",)}, Path("masks"))
BOTH = Layout("predict", {"palette": (".png",), "overlay": (".jpg", ".png")}, Path("masks"))
CUTOUTS = Layout("cutout", {"cutout": (".png", ".webp")}, Path("cutouts"), beside=True)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def outputs(plan: Plan) -> list[str]:
    return [str(output) for job in plan.jobs for output in job.outputs.values()]


def test_names_follow_the_photos() -> None:
    touch("p/a.jpg", "p/sub/b.tar.JPEG")
    assert outputs(make_plan(["p"], MASKS)) == ["masks/a.png", "masks/sub/b.tar.png"]
    assert outputs(make_plan(["p"], MASKS, out=Path("o"), keep_ext=True)) == ["o/a.jpg.png", "o/sub/b.tar.JPEG.png"]
    assert outputs(make_plan(["p/a.jpg"], BOTH)) == ["masks/a.png", "masks/a.overlay.jpg"]
    assert not Path("masks").exists(), "a plan writes nothing"


def test_one_photo_may_have_a_file() -> None:
    touch("a.jpg", "b.jpg")
    plan = make_plan(["a.jpg"], MASKS, out=Path("deep/m.png"))
    assert (outputs(plan), plan.out_dir) == (["deep/m.png"], None)
    Path("folder.png").mkdir()
    assert outputs(make_plan(["a.jpg"], MASKS, out=Path("folder.png"))) == ["folder.png/a.png"]
    for arguments, layout, out, message in (
        (["a.jpg", "b.jpg"], MASKS, "m.png", "is one file, but the photos may be several"),
        (["*.jpg"], MASKS, "m.png", "is one file, but the photos may be several"),
        (["a.jpg"], BOTH, "m.png", "is one file, but `palette`, `overlay` are asked for"),
        (["a.jpg"], MASKS, "m.jpg", "a palette cannot be written as `.jpg`"),
        (["a.jpg"], CUTOUTS, "m.jpg", "a cutout cannot be written as `.jpg`"),
    ):
        with pytest.raises(UsageError, match=message):
            make_plan(arguments, layout, out=Path(out))


def test_named_files_may_be_answered_beside_themselves() -> None:
    touch("p/a.jpg", "b.png")
    assert outputs(make_plan(["p/a.jpg", "b.png"], CUTOUTS)) == ["p/a.cutout.png", "b.cutout.png"]
    assert outputs(make_plan(["p", "b.png"], CUTOUTS)) == ["cutouts/a.png", "cutouts/b.png"]
    assert outputs(make_plan(["b.png"], CUTOUTS, out=Path("o"))) == ["o/b.png"]
    Path("b.cutout.png").write_bytes(b"earlier")
    assert outputs(make_plan(["b.png"], CUTOUTS)) == ["b.cutout.png"]


@pytest.mark.parametrize(
    ("names", "arguments", "message", "hint"),
    [
        (["p/a.jpg", "p/a.png"], ["p"], "`p/a.jpg` and `p/a.png` would both become `masks/a.png`", "--keep-ext"),
        (["p/A.jpg", "p/a.JPG"], ["p"], "would both become", "rename one"),
        (["p/\u00e9.jpg", "p/e\u0301.jpg"], ["p"], "would both become", "rename one"),
        (["p/a.jpg", "q/a.jpg"], ["p/a.jpg", "q/a.jpg"], "would both become", "common folder"),
        (["p/a.jpg", "q/a.jpg"], ["p", "q"], "would both become", "common folder"),
    ],
)
def test_clashes_are_refused_with_both_names(names: list[str], arguments: list[str], message: str, hint: str) -> None:
    touch(*names)
    if len(list(Path().rglob("*.*"))) < 2:
        pytest.skip("the file system does not tell these names apart")
    with pytest.raises(UsageError, match=message) as caught:
        make_plan(arguments, MASKS)
    assert hint in caught.value.hint


def test_further_forms_clash_too() -> None:
    touch("p/a.jpg", "p/a.overlay.jpg")
    layout = Layout("predict", {"overlay": (".jpg",), "palette": (".png",)}, Path("o"))
    assert outputs(make_plan(["p"], layout)) == [
        "o/a.jpg", "o/a.palette.png", "o/a.overlay.jpg", "o/a.overlay.palette.png",
    ]  # fmt: skip
    touch("p/a.palette.png")
    flipped = Layout("predict", {"ids": (".png",), "palette": (".png",)}, Path("o"))
    with pytest.raises(UsageError, match=r"`p/a.jpg` and `p/a.palette.png` would both become `o/a.palette.png`"):
        make_plan(["p/a.jpg", "p/a.palette.png"], flipped)


def test_a_photo_is_never_replaced() -> None:
    touch("p/a.png", "b.png")
    with pytest.raises(UsageError, match="both the input and the output folder"):
        make_plan(["p"], MASKS, out=Path("p"))
    with pytest.raises(UsageError, match="would replace the photo"):
        make_plan(["p/a.png"], MASKS, out=Path("p"))
    with pytest.raises(UsageError, match="would replace the photo"):
        make_plan(["p/a.png"], MASKS, out=Path("p/a.png"), overwrite=True)
    with pytest.raises(UsageError, match=r"would replace the photo `b\.png`"):
        make_plan(["p", "b.png"], Layout("predict", {"palette": (".png",)}, Path()), overwrite=True, out=Path("p/.."))


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_a_photo_behind_a_link_is_never_replaced() -> None:
    touch("real/a.png")
    Path("p").mkdir()
    Path("p/a.jpg").symlink_to("../real/a.png")
    with pytest.raises(UsageError, match="would replace the photo"):
        make_plan(["p"], MASKS, out=Path("real"), overwrite=True)


def test_an_output_folder_inside_the_input_is_not_searched() -> None:
    touch("p/a.jpg", "p/masks/a.png")
    assert outputs(make_plan(["p"], MASKS, out=Path("p/masks"), overwrite=True)) == ["p/masks/a.png"]


def test_files_and_folders_in_the_way() -> None:
    touch("p/a.jpg", "p/a.png/b.jpg", "file", "masks/c.png/d.jpg")
    with pytest.raises(UsageError, match="`file` is a file, not a folder"):
        make_plan(["p"], MASKS, out=Path("file"))
    with pytest.raises(UsageError, match=r"`masks/a.png` would be the output of `p/a.jpg` and the folder"):
        make_plan(["p"], MASKS)
    touch("q/c.jpg")
    with pytest.raises(UsageError, match=r"`masks/c.png`, is a folder"):
        make_plan(["q"], MASKS)


def test_foreign_files_are_not_replaced() -> None:
    touch("p/a.jpg", "p/b.jpg", "masks/a.png", "masks/b.png")
    with pytest.raises(UsageError, match=r"`masks/a.png` and 1 more exists and is not an output") as caught:
        make_plan(["p"], MASKS)
    assert "--overwrite" in caught.value.hint
    assert len(make_plan(["p"], MASKS, overwrite=True).jobs) == 2
    Ledger(Path("masks"), "predict", {}).open()
    touch("masks/a.png", "masks/b.png")
    assert len(make_plan(["p"], MASKS).jobs) == 2, "the folder is ours now, and so is what was written since"
    with pytest.raises(UsageError, match="`masks` holds the outputs of `seglab predict`"):
        make_plan(["p"], CUTOUTS, out=Path("masks"))


def test_a_name_that_would_grow_too_long_fails_alone() -> None:
    touch("p/a.jpg", "p/" + "n" * 250 + ".jpg")
    plan = make_plan(["p"], BOTH)
    assert isinstance(plan.items[0], Job)
    assert isinstance(plan.items[1], Failure)
    assert "too long" in plan.items[1].reason


def test_order_is_kept_with_failures_in_place(save: Callable[..., Path]) -> None:
    touch("a.jpg", "c.jpg")
    Path("list").write_text("c.jpg\nb.jpg\na.jpg\n")
    items = make_plan(["@list"], MASKS).items
    assert [str(item.path) for item in items] == ["c.jpg", "b.jpg", "a.jpg"]
    assert [type(item) for item in items] == [Job, Failure, Job]


def test_what_lies_beside_all_outputs_is_no_ones_file() -> None:
    people = Layout("predict", {"people": (".json",)}, Path("o"), companions=("legend.json",))
    touch("a.jpg", "legend.jpg", "own/legend.json", "folder/legend.json/x")
    with pytest.raises(UsageError, match=r"`own/legend.json` exists and is not an output of `seglab predict`"):
        make_plan(["a.jpg"], people, out=Path("own"))
    assert outputs(make_plan(["a.jpg"], people, out=Path("own"), overwrite=True)) == ["own/a.json"]
    with pytest.raises(UsageError, match=r"`legend.jpg` would both become `o/legend.json`") as caught:
        make_plan(["legend.jpg"], people)
    assert caught.value.hint is not None
    assert "--keep-ext" in caught.value.hint
    assert outputs(make_plan(["legend.jpg"], people, keep_ext=True)) == ["o/legend.jpg.json"]
    with pytest.raises(UsageError, match="would replace what is there"):
        make_plan(["a.jpg"], people, out=Path("folder"), overwrite=True)


@pytest.mark.parametrize("out", ["m.png", "-"])
def test_a_photo_that_is_not_there_is_told_as_that(out: str) -> None:
    touch("photo.jpg")
    with pytest.raises(DataError, match=r"`foto.jpg` does not exist") as caught:
        make_plan(["foto.jpg"], MASKS, out=Path(out))
    assert caught.value.hint is not None
    assert "`photo.jpg`" in caught.value.hint


def test_photos_in_an_output_folder_are_not_replaced() -> None:
    touch("p/a.jpg", "p/b.jpg", "p/b.png", "p/c.jpg")
    os.utime("p/b.png", ns=(1, 1))
    for _ in range(2):
        plan = make_plan(["p/a.jpg"], MASKS, out=Path("p"))
        ledger = Ledger(plan.out_dir, "predict", {})
        ledger.open()
        touch("p/a.png", "p/c.png")  # one that is finished, and one of a run that was killed
        ledger.add(plan.jobs[0], (1, 1))
    with pytest.raises(UsageError, match=r"`p/b.png` exists and is not an output of `seglab predict`"):
        make_plan(["p/b.jpg"], MASKS, out=Path("p"))
    assert outputs(make_plan(["p/b.jpg"], MASKS, out=Path("p"), overwrite=True)) == ["p/b.png"]
    os.utime("p/a.png", ns=(1, 1))
    assert outputs(make_plan(["p/a.jpg", "p/c.jpg"], MASKS, out=Path("p"))) == ["p/a.png", "p/c.png"]
