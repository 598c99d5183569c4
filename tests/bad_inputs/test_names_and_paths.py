"""Bad inputs 22 to 31: how files are called, where they lie, and what becomes of them meanwhile."""

import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from seglab import files
from tests.bad_inputs.conftest import Seglab, tree
from tests.bad_inputs.pictures import encoded, person, written

GOOD = encoded(person())
POSIX = pytest.mark.skipif(os.name == "nt", reason="links, pipes and modes")

NAMES = [
    "with spaces.jpg",
    "é.jpg",
    "日本語.jpg",
    "🙂.jpg",
    "line\nbreak.jpg",
    "[draft].jpg",
    "[/red].jpg",
    "-dash.jpg",
]


@POSIX
def test_22_names_of_any_kind(seglab: Seglab) -> None:
    for name in NAMES:
        written(Path("p", name), GOOD)
        written(Path("bad", name), b"")
    assert seglab("predict", "p", "-o", "o").code == 0
    assert tree(Path("o")) == sorted(name.replace(".jpg", ".png") for name in NAMES)
    ran = seglab("predict", "bad", "-o", "o2")
    assert ran.code == 1
    shown = {f"bad/{name}".replace("\n", "\\n") for name in NAMES}
    assert ran.failures == dict.fromkeys(shown, "empty file")


def test_22_a_name_that_begins_with_a_dash(seglab: Seglab) -> None:
    written("-dash.jpg", GOOD)
    ran = seglab("predict", "-dash.jpg", "-o", "o")
    assert (ran.code, "`./-dash.jpg` is the file" in ran.hint) == (2, True)
    assert seglab("predict", "-o", "o", "--", "-dash.jpg").code == 0
    assert tree(Path("o")) == ["-dash.png"]


@pytest.mark.parametrize("argument", ["p", "p/x.jpg", "p/*"])
def test_23_a_folder_called_like_a_picture(seglab: Seglab, argument: str) -> None:
    written("p/x.jpg/a.png", GOOD)
    assert seglab("predict", argument, "-o", "o").code == 0
    assert [Path(name).name for name in tree(Path("o"))] == ["a.png"]


@POSIX
def test_24_links_to_nothing_and_in_circles(seglab: Seglab) -> None:
    written("p/good.png", GOOD)
    Path("p/broken.jpg").symlink_to("nowhere.jpg")
    Path("p/self.jpg").symlink_to("self.jpg")
    Path("p/again").symlink_to(".")
    Path("p/sub").mkdir()
    Path("p/sub/up").symlink_to("../..")
    ran = seglab("predict", "p", "-o", "o")
    assert ran.code == 1
    assert ran.failures["p/broken.jpg"] == "broken link"
    assert ran.failures["p/self.jpg"].startswith("too many levels")
    assert len(ran.failures) == 2
    assert tree(Path("o")) == ["good.png"], "no loop was followed"
    assert seglab("predict", "p/broken.jpg", "-o", "o2").failures == {"p/broken.jpg": "broken link"}
    assert not Path("o2").exists() or tree(Path("o2")) == []


@POSIX
def test_25_what_is_no_ordinary_file(seglab: Seglab) -> None:
    written("p/good.png", GOOD)
    os.mkfifo("p/fifo.jpg")
    Path("p/device.jpg").symlink_to("/dev/zero")
    ran = seglab("predict", "p", "p/fifo.jpg", "/dev/null", "-o", "o")
    assert ran.code == 1
    assert ran.failures == dict.fromkeys(("/dev/null", "p/device.jpg", "p/fifo.jpg"), "not a regular file")
    assert tree(Path("o")) == ["good.png"]


@POSIX
def test_25_what_may_not_be_read(seglab: Seglab, monkeypatch: pytest.MonkeyPatch) -> None:
    written("p/good.png", GOOD)
    written("p/secret.jpg", GOOD).chmod(0)
    if os.geteuid() == 0:  # root may read everything
        real = os.access
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "secret.jpg" and real(path, mode))
    ran = seglab("predict", "p", "-o", "o")
    assert (ran.code, ran.failures) == (1, {"p/secret.jpg": "permission denied"})
    assert tree(Path("o")) == ["good.png"]


def test_26_the_same_stem_twice(seglab: Seglab) -> None:
    for name in ("p/a.jpg", "p/a.png"):
        written(name, GOOD)
    ran = seglab("predict", "p", "-o", "o")
    assert (ran.code, ran.error) == (2, "`p/a.jpg` and `p/a.png` would both become `o/a.png`")
    assert "--keep-ext" in ran.hint
    assert not Path("o").exists()
    assert seglab("predict", "p", "-o", "o", "--keep-ext").code == 0
    assert tree(Path("o")) == ["a.jpg.png", "a.png.png"]


def test_26_the_same_name_in_two_folders(seglab: Seglab) -> None:
    for name in ("p/x/a.jpg", "p/y/a.jpg"):
        written(name, GOOD)
    assert seglab("predict", "p", "-o", "o").code == 0
    assert tree(Path("o")) == ["x/a.png", "y/a.png"]


@pytest.mark.parametrize("verb", ["predict", "cutout"])
def test_27_input_and_output_folders_in_each_other(seglab: Seglab, verb: str) -> None:
    written("p/a.png", GOOD)
    ran = seglab(verb, "p", "-o", "p")
    assert (ran.code, ran.error) == (2, "`p` is both the input and the output folder")
    assert seglab(verb, "p", "-o", "p/out").code == 0
    ran = seglab(verb, "p", "-o", "p/out")
    assert (ran.code, "1 photo in" in ran.err) == (0, True), "outputs are no photos"
    assert tree(Path("p")) == ["a.png", "out/a.png"]
    assert Path("p/a.png").read_bytes() == GOOD
    ran = seglab(verb, "p/a.png", "-o", "p/a.png", "--overwrite")
    assert (ran.code, "would replace the photo `p/a.png`" in ran.error) == (2, True)
    assert Path("p/a.png").read_bytes() == GOOD


def test_27_outputs_of_another_run_are_passed_over_and_that_is_said(seglab: Seglab) -> None:
    written("p/a.png", GOOD)
    assert seglab("predict", "p", "-o", "p/masks").code == 0
    ran = seglab("cutout", "p", "-o", "cut")
    assert ran.code == 0
    assert ran.err.count("passed over, as outputs of seglab lie there: `p/masks`\n") == 1
    assert tree(Path("cut")) == ["a.png"]
    shutil.rmtree("cut")
    ran = seglab("cutout", "p", "p/masks", "-o", "cut", "--keep-ext")
    assert ran.code == 2, "named, it is searched: two photos of one name"
    assert "`p/a.png` and `p/masks/a.png`" in ran.error
    Path("p/a.png").unlink()
    ran = seglab("cutout", "p", "-o", "cut")
    assert (ran.code, ran.error) == (3, "no images in `p`")
    assert "`p/masks` holds outputs of seglab and was passed over" in ran.hint


HIDDEN = (".DS_Store", "._a.png", ".hidden.png", "sub/.other.PNG", ".thumbnails/t.png")


@pytest.mark.parametrize("verb", ["predict", "cutout"])
def test_28_photos_whose_names_begin_with_a_dot_are_left_out_and_that_is_said(seglab: Seglab, verb: str) -> None:
    for name in ("a.png", *HIDDEN):
        written(f"p/{name}", GOOD)
    said = "2 photos left out, as their names begin with a dot: `p/.hidden.png`, `p/sub/.other.PNG`\n"
    for options in (["-o", "o"], ["-o", "o"], []):
        ran = seglab(verb, "p", *options)
        assert (ran.code, ran.err.count(said)) == (0, 1)
    assert tree(Path("o")) == ["a.png"]
    Path("p/a.png").unlink()
    ran = seglab(verb, "p", "-o", "o2")
    assert (ran.code, ran.error) == (3, "no images in `p`")
    assert "`p/.hidden.png` was left out, as its name begins with a dot; it is taken if it is named" in ran.hint
    assert seglab(verb, "p/.hidden.png", "-o", "o2").code == 0
    assert tree(Path("o2")) == [".hidden.png"]


def test_28_prepare_says_it_too(seglab: Seglab) -> None:
    for name in ("a.png", "b.png", "c.png", *HIDDEN):
        written(f"raw/images/{name}", GOOD)
        written(f"raw/masks/{name}", encoded(person()[:, :, 0] // 255))
    ran = seglab("prepare", "raw", "out", "--task", "person")
    assert ran.code == 0, ran.err
    said = "4 pictures left out, as their names begin with a dot: images/.hidden.png, images/sub/.other.PNG, "
    assert said in ran.err.replace("`", "")
    assert not [name for name in tree(Path("out")) if "hidden" in name or "other" in name]


@pytest.mark.parametrize("verb", ["predict", "cutout"])
def test_28_a_folder_without_photos(seglab: Seglab, verb: str) -> None:
    Path("empty").mkdir()
    written("notes/readme.txt", b"text")
    written("list.txt", b"")
    for argument, message in (
        ("empty", "no images in `empty`"),
        ("notes", "no images in `notes`"),
        ("empty/*.jpg", "nothing matches the pattern `empty/*.jpg`"),
        ("@list.txt", "no images in `@list.txt`"),
    ):
        ran = seglab(verb, argument, "-o", "o")
        assert (ran.code, ran.error) == (3, message)
        ran = seglab(verb, argument, "-o", "o", "--allow-empty")
        assert (ran.code, ran.err, ran.out) == (0, "no photos: nothing to do\n", "")
        assert not Path("o").exists()
    assert seglab(verb, "nowhere", "--allow-empty").code == 3, "what is not there is still an error"


def test_28_files_for_all_photos_are_there_without_any(seglab: Seglab) -> None:
    Path("empty").mkdir()
    ran = seglab("predict", "empty", "-o", "o", "--allow-empty", "-f", "coco", "-f", "rle")
    assert ran.code == 0
    assert tree(Path("o")) == [".seglab-gathered.jsonl", "annotations.json", "rle.csv"]
    written("empty/a.png", GOOD)
    assert seglab("predict", "empty", "-o", "o", "-f", "coco", "-f", "rle").code == 0, "they are ours to replace"
    Path("broken").mkdir()
    Path("broken/a.jpg").symlink_to("nowhere")
    assert seglab("predict", "broken", "-o", "o2", "-f", "coco").code == 1
    assert "annotations.json" in tree(Path("o2"))


def test_29_a_path_that_is_not_there(seglab: Seglab) -> None:
    written("photos/beach.jpg", GOOD)
    written("list.txt", b"photos/beach.jpg")
    for argument, message, hint in (
        ("Phtos", "`Phtos` does not exist", "did you mean `photos`?\n"),
        ("photos/bech.jpg", "`photos/bech.jpg` does not exist", "did you mean `photos/beach.jpg`?\n"),
        ("@lst.txt", "the list `@lst.txt` does not exist", "did you mean `@list.txt`?\n"),
        ("@photos", "cannot read the list `@photos`: is a directory", ""),
    ):
        ran = seglab("predict", argument, "-o", "o")
        assert (ran.code, ran.error) == (3, message)
        assert ran.hint == hint or not hint
        assert not Path("o").exists()
    for address in ("https://example.org/a.jpg", "https://example.org/a.jpg?size=large"):
        ran = seglab("predict", address, "-o", "o")
        assert (ran.code, ran.error) == (2, f"`{address}` is an address, and photos are read from this disk")


def test_30_a_disk_that_is_full_or_read_only(seglab: Seglab, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        written(f"p/{number}.png", GOOD)
    real = files.Path.replace

    def full(self: Path, target: Any) -> Any:
        if Path(target).name == "2.png":
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(files.Path, "replace", full)
    ran = seglab("predict", "p", "-o", "o")
    assert (ran.code, ran.error) == (3, "cannot write `o/2.png`: No space left on device")
    assert tree(Path("o")) == ["0.png", "1.png"], "no temporary file"


def test_30_an_output_folder_that_cannot_be_made(seglab: Seglab) -> None:
    written("a.png", GOOD)
    written("file", b"")
    ran = seglab("predict", "a.png", "-o", "file/o")
    assert (ran.code, ran.error) == (3, "cannot make the folder `file/o`: Not a directory")
    assert tree(Path()) == ["a.png", "file"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_30_an_output_folder_that_may_not_be_written(seglab: Seglab) -> None:
    written("a.png", GOOD)
    Path("locked").mkdir()
    Path("locked").chmod(stat.S_IRUSR | stat.S_IXUSR)
    ran = seglab("predict", "a.png", "-o", "locked")
    assert (ran.code, "Permission denied" in ran.error) == (3, True)
    assert tree(Path("locked")) == []


@pytest.mark.parametrize("what", ["deleted", "growing"])
def test_31_a_file_that_changes_during_the_run(seglab: Seglab, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Growing: it was half written when its turn came."""
    for number in range(3):
        written(f"p/{number}.png", GOOD)
    from seglab.inference import flow

    real = flow.stamp

    def spoiling(source: Any) -> Any:
        path = Path("p/1.png")
        if what == "growing":
            path.write_bytes(GOOD[: len(GOOD) // 2])
        else:
            path.unlink(missing_ok=True)
        return real(source)

    monkeypatch.setattr(flow, "stamp", spoiling)
    ran = seglab("predict", "p", "-o", "o")
    assert ran.code == 1
    assert ran.failures == {"p/1.png": "truncated PNG" if what == "growing" else "no such file or directory"}
    assert tree(Path("o")) == ["0.png", "2.png"]
