"""``seglab cutout`` through the real command line, with a network that sees colours."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from seglab.errors import UsageError
from seglab.inference.backgrounds import Colour
from seglab.inference.look import Look, parse_look
from seglab.tasks import Task
from tests.inference.files import kind, read


@pytest.fixture
def subject() -> np.ndarray:
    """A green rectangle on black, with a red one inside it."""
    image = np.zeros((90, 120, 3), np.uint8)
    image[20:70, 30:90] = (0, 255, 0)
    image[35:55, 45:75] = (255, 0, 0)
    return image


def test_a_photo_is_answered_beside_itself(shell, save, subject, names) -> None:
    save(Path("p/a.png"), subject)
    result = shell("cutout", "p/a.png")
    assert (result.code, result.out) == (0, "")
    assert "1 photo in" in result.err
    assert "`p/a.cutout.png`" in result.err
    assert "a word at the end" in result.err
    assert names(Path("p")) == ["a.cutout.png", "a.png"]
    assert kind("p/a.cutout.png") == ("RGBA", "PNG", (120, 90))
    rgba = read("p/a.cutout.png")
    assert (rgba[25:65, 35:85, 3] == 255).all()
    np.testing.assert_array_equal(rgba[25:65, 35:85, :3], subject[25:65, 35:85])
    assert (rgba[:12] == 0).all()
    assert (rgba[:, 100:] == 0).all()
    assert shell("cutout", "p").code == 0
    assert names(Path("seglab-cutouts")) == ["a.png"], "an earlier cutout is no photo"


@pytest.mark.parametrize("edge", ["soft", "hard", "feather:8"])
def test_inverting_leaves_the_complement(shell, save, subject, edge: str) -> None:
    save(Path("a.png"), subject)
    assert shell("cutout", "a.png", "--edge", edge, "-o", "one.png").code == 0
    assert shell("cutout", "a.png", "--edge", edge, "-o", "two.png", "--invert").code == 0
    np.testing.assert_array_equal(read("one.png")[..., 3], 255 - read("two.png")[..., 3])


def test_a_hard_edge_is_the_mask_of_predict(shell, save, subject) -> None:
    save(Path("a.png"), subject)
    shell("cutout", "a.png", "--edge", "hard", "-o", "c.png")
    shell("predict", "a.png", "-o", "m.png")
    np.testing.assert_array_equal(read("c.png")[..., 3] == 255, read("m.png") > 0)
    np.testing.assert_array_equal(read("c.png")[..., 3] == 0, read("m.png") == 0)


def test_a_feathered_edge_is_wide(shell, save, subject) -> None:
    save(Path("a.png"), subject)
    shell("cutout", "a.png", "--edge", "feather:16", "-o", "c.png")
    row = read("c.png")[45, :, 3]
    assert 20 <= ((row > 0) & (row < 255)).sum() <= 40


def test_classes_can_be_chosen(shell, save, subject, task: Task) -> None:
    save(Path("a.png"), subject)
    assert shell("cutout", "a.png", "--keep", "red", "--edge", "hard", "-o", "c.png").code == 0
    alpha = read("c.png")[..., 3]
    assert (alpha[38:52, 48:72] == 255).all()
    assert (alpha[22:32] == 0).all()
    assert shell("cutout", "a.png", "--keep", "red, green", "--edge", "hard", "-o", "d.png").code == 0
    assert (read("d.png")[25:65, 35:85, 3] == 255).all()
    result = shell("cutout", "a.png", "--keep", "gren")
    assert (result.code, "did you mean `green`" in result.err) == (2, True)
    config: Any = shell.model.config
    config.task = replace(task, foreground=("green",), regions={"warm": ("red", "white")})
    shell("cutout", "a.png", "--edge", "hard", "-o", "e.png")
    assert (read("e.png")[38:52, 48:72, 3] == 0).all(), "the foreground is the task's"
    shell("cutout", "a.png", "--keep", "warm", "--edge", "hard", "-o", "f.png")
    np.testing.assert_array_equal(read("f.png")[..., 3], alpha)


def test_a_background_can_be_laid_under(shell, save, subject) -> None:
    save(Path("a.png"), subject)
    assert shell("cutout", "a.png", "--background", "white", "-o", "c.png").code == 0
    assert kind("c.png")[:2] == ("RGB", "PNG")
    flat = read("c.png")
    assert (flat[:12] == 255).all()
    np.testing.assert_array_equal(flat[25:65, 35:85], subject[25:65, 35:85])
    assert shell("cutout", "a.png", "--background", "#0000ff", "-o", "c.jpg").code == 0
    assert kind("c.jpg")[:2] == ("RGB", "JPEG")
    assert np.abs(read("c.jpg")[2, 2].astype(int) - (0, 0, 255)).max() < 5
    for arguments, message in (
        (["-o", "d.tif"], "a cutout cannot be written as `.tif`"),
        (["-o", "d.jpg", "--format", "png"], "a cutout cannot be written as `.jpg`"),
        (["--background", "whit"], "`whit` is no colour"),
        (["--background", "white", "--mask-only"], "nothing to lay"),
        (["--edge", "soggy"], "no edge is called `soggy`"),
        (["--edge", "feather:0"], "needs a width"),
    ):
        result = shell("cutout", "a.png", *arguments)
        assert (result.code, message in result.err) == (2, True), result.err


def test_webp_keeps_its_alpha(shell, save, subject) -> None:
    save(Path("a.png"), subject)
    assert shell("cutout", "a.png", "-o", "c.webp").code == 0
    assert shell("cutout", "a.png", "-o", "c.png").code == 0
    assert kind("c.webp")[:2] == ("RGBA", "WEBP")
    np.testing.assert_array_equal(read("c.webp")[..., 3], read("c.png")[..., 3])


def test_the_alpha_alone(shell, save, subject) -> None:
    save(Path("a.png"), subject)
    shell("cutout", "a.png", "--mask-only", "-o", "m.png")
    shell("cutout", "a.png", "-o", "c.png")
    assert kind("m.png")[0] == "L"
    save(Path("dots.jpg"), subject, format="JPEG", dpi=(300, 150), exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0")
    shell("cutout", "dots.jpg", "--mask-only", "-o", "dots.png")
    with Image.open("dots.png") as stored:
        assert [round(value) for value in stored.info["dpi"]] == [300, 150], "it lies on its photo on paper, too"
    np.testing.assert_array_equal(read("m.png"), read("c.png")[..., 3])


def test_profile_and_resolution_are_kept_and_the_rest_is_not(shell, save, subject) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    save(Path("a.jpg"), subject, format="JPEG", icc_profile=profile, dpi=(300, 300), exif=exif)
    assert shell("cutout", "a.jpg").code == 0
    with Image.open("a.cutout.png") as stored:
        assert stored.info["icc_profile"] == profile
        assert [round(value) for value in stored.info["dpi"]] == [300, 300]
        assert not stored.getexif()


def test_nothing_found_is_all_transparent_and_said(shell, save) -> None:
    save(Path("a.png"), np.full((30, 40, 3), 10, np.uint8))
    result = shell("cutout", "a.png", "--json")
    assert result.code == 0
    assert "nothing found in 1: `a.png`" in result.err
    assert (read("a.cutout.png") == 0).all()
    assert result.lines[0]["foreground"] == {"pixels": 0, "share": 0.0, "bbox": None}
    assert result.lines[0]["found"] is False


def test_json_says_what_was_found(shell, save, subject) -> None:
    save(Path("a.png"), subject)
    (line,) = shell("cutout", "a.png", "--json").lines
    assert line["outputs"] == {"cutout": "a.cutout.png"}
    assert set(line["classes"]) == {"background", "red", "green"}
    rows, columns = np.nonzero(read("a.cutout.png")[..., 3] > 127)
    assert line["foreground"]["pixels"] == len(rows)
    assert line["foreground"]["bbox"] == {
        "top": rows.min(), "left": columns.min(), "height": np.ptp(rows) + 1, "width": np.ptp(columns) + 1,
    }  # fmt: skip


@pytest.mark.parametrize("orientation", range(1, 9))
def test_cutouts_lie_as_the_photo_is_displayed(shell, save, corners, orientation: int) -> None:
    turned = {1: 0, 8: -1, 3: 2, 6: 1}
    stored = np.rot90(corners(), turned[orientation]) if orientation in turned else None
    if stored is None:
        stored = np.rot90(corners(), turned[{2: 1, 4: 3, 5: 6, 7: 8}[orientation]])
        stored = stored[:, ::-1] if orientation in (2, 4) else stored[::-1]
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(Path("a.png"), np.ascontiguousarray(stored), exif=exif)
    assert shell("cutout", "a.png").code == 0
    rgba = read("a.cutout.png")
    assert rgba.shape == (60, 90, 4)
    shown = corners()
    for y in (2, -3):
        for x in (2, -3):
            assert (rgba[y, x] == [*shown[y, x], 255]).all()
    assert (rgba[30, 45] == 0).all()


@pytest.mark.parametrize("size", [(1, 1), (500, 1), (1, 500), (31, 33), (4000, 3000)])
def test_every_size(shell, size: tuple[int, int]) -> None:
    Image.new("RGB", size, (0, 255, 0)).save("a.png")
    assert shell("cutout", "a.png").code == 0
    rgba = read("a.cutout.png")
    assert rgba.shape == (size[1], size[0], 4)
    assert (rgba == (0, 255, 0, 255)).all()


def test_a_second_run_does_nothing(shell, save, subject) -> None:
    save(Path("p/a.png"), subject)
    save(Path("p/b.png"), subject)
    shell("cutout", "p/a.png", "p/b.png")
    shell("cutout", "p", "-o", "o")
    shell.model.opened.clear()
    assert shell("cutout", "p/a.png", "--skip-existing", "--json").lines[0]["skipped"]
    assert "2 finished earlier" in shell("cutout", "p/a.png", "p/b.png", "--skip-existing").err
    assert shell("cutout", "p", "-o", "o", "--skip-existing", "--json").lines[0]["skipped"]
    assert shell.model.opened == []
    result = shell("cutout", "p", "-o", "o", "--skip-existing", "--edge", "hard", "--json")
    assert "skipped" not in result.lines[0], "another look is other work"
    skip = ("--skip-existing", "--json")
    assert "skipped" not in shell("cutout", "p/a.png", "--edge", "hard", *skip).lines[0], "beside the photo, too"
    assert "skipped" in shell("cutout", "p/a.png", "--edge", "hard", *skip).lines[0]
    assert "skipped" not in shell("cutout", "p/a.png", *skip).lines[0]
    os.utime("p/a.cutout.png", ns=(1, 1))
    assert "skipped" not in shell("cutout", "p/a.png", *skip).lines[0]


def test_a_photo_alone_leaves_nothing_but_its_cutout(shell, save, subject) -> None:
    save(Path("p/a.png"), subject)
    assert shell("cutout", "p/a.png").code == 0
    assert shell("cutout", "p/a.png", "-o", "q/one.png").code == 0
    left = [sorted(path.name for path in Path(folder).iterdir()) for folder in "pq"]
    assert left == [["a.cutout.png", "a.png"], ["one.png"]], "nothing hidden either"
    assert "1 photo in" in shell("cutout", "p/a.png", "-o", "q/one.png", "--skip-existing").err, "nobody noted it"
    assert "1 finished earlier" in shell("cutout", "p/a.png", "-o", "q/one.png", "--skip-existing").err
    save(Path("p/b.png"), subject[::-1])
    assert "1 photo in" in shell("cutout", "p/b.png", "-o", "q/one.png", "--skip-existing").err, "another photo"


def test_looks_from_text() -> None:
    assert parse_look() == Look()
    assert parse_look(edge="feather:2.5", background="#f00", keep=" a ,b,", invert=True) == Look(
        "feather", 2.5, Colour((255, 0, 0)), ("a", "b"), True
    )
    assert parse_look(threshold=0.3) == Look("hard", threshold=0.3)
    for edge in ("feather", "feather:", "feather:x", "feather:nan", "feather:inf", "feather:-1", "hard:3", ""):
        with pytest.raises(UsageError):
            parse_look(edge=edge)
