import io
import os
from pathlib import Path

import pytest

from seglab.errors import DataError, UsageError
from seglab.inference.inputs import LEDGER_NAME, Failure, Source, find_sources, only_files
from tests.inference.files import touch


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def places(*arguments: str | Path, exclude_dir: Path | None = None) -> list[str]:
    found = find_sources(arguments, exclude_dir=exclude_dir)
    return [str(item.place) if isinstance(item, Source) else f"{item.path}: {item.reason}" for item in found]


def test_a_folder_is_searched_and_its_tree_kept() -> None:
    touch("p/b.jpg", "p/a.PNG", "p/deep/er/c.webp", "p/notes.txt", "p/x.jpg/inside.bmp")
    assert places("p") == ["a.PNG", "b.jpg", "deep/er/c.webp", "x.jpg/inside.bmp"]


def test_what_systems_leave_behind_is_passed_over() -> None:
    touch("p/a.jpg", "p/.DS_Store", "p/._a.jpg", "p/.hidden/b.jpg", "p/__MACOSX/._a.jpg", "p/__MACOSX/c.jpg")
    assert places("p") == ["a.jpg"]


def test_our_own_outputs_are_passed_over() -> None:
    touch("p/a.jpg", "p/a.cutout.png", "p/out/a.png", f"p/old/{LEDGER_NAME}", "p/old/a.png", "p/old/deep/b.png")
    assert places("p", exclude_dir=Path("p/out")) == ["a.jpg"]
    assert places("p/old") == ["a.png", "deep/b.png"], "what is named is searched"


def test_of_a_prepared_dataset_only_the_photos_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("d", "other"):
        for kind in ("images", "labels", "people"):
            touch(f"{name}/train/{kind}/a.png", f"{name}/val/{kind}/a.png")
        touch(f"{name}/preview.jpg", f"{name}/train/images/labels/b.png")
    touch("d/dataset.json", "d/samples.jsonl", "other/dataset.json")
    photos = ["train/images/a.png", "train/images/labels/b.png", "val/images/a.png"]
    assert places("d") == photos
    assert places("d/train") == ["images/a.png", "images/labels/b.png"]
    Path("link").symlink_to("d/train")
    assert places("link") == ["images/a.png", "images/labels/b.png"]
    assert places("d/train/labels") == ["a.png"], "what is named is searched"
    assert places(".")[:3] == [f"d/{place}" for place in photos]
    assert len(places("other")) == 8, "anybody may have a file of that name"
    monkeypatch.chdir("d/train")
    assert places(".") == ["images/a.png", "images/labels/b.png"]


def test_named_files_are_taken_whatever_they_are_called() -> None:
    touch(
        "a.txt",
        "no_suffix",
        ".hidden.jpg",
        "b.cutout.png",
        "[draft] c.jpg",
        "@d.jpg",
        "-e.jpg",
        "line\nbreak 人 🙂.jpg",
    )
    names = [str(path) for path in Path().iterdir()]
    assert len(names) == 8
    assert places(*names) == names


def test_patterns_match_below_their_fixed_part() -> None:
    touch("p/a.jpg", "p/sub/a.jpg", "p/sub/b.png", "p/.c.jpg", "q/a.jpg")
    assert places("p/**/*.jpg") == ["a.jpg", "sub/a.jpg"]
    assert places("p/*") == ["a.jpg", "sub/a.jpg", "sub/b.png"], "a folder that matches is searched"
    assert places("?/a.jpg") == ["p/a.jpg", "q/a.jpg"]
    with pytest.raises(DataError, match=r"nothing matches the pattern `p/\*.gif`"):
        places("p/*.gif")


def test_a_path_is_never_a_pattern_or_a_list() -> None:
    touch("a.jpg")
    for literal in ("*.jpg", "@list.txt"):
        with pytest.raises(DataError, match="does not exist"):
            places(Path(literal))


def test_lists(here: Path) -> None:
    touch("a.jpg", "p/b.jpg", "q/c.jpg", "q/d.png", "e.jpg")
    lines = ["a.jpg", "p/b.jpg", "", str(here / "e.jpg"), "gone.jpg", "q", "[no pattern]*.jpg"]
    Path("list.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    assert places("@list.txt") == [
        "a.jpg", "p/b.jpg", "e.jpg", "gone.jpg: does not exist", "c.jpg", "d.png", "[no pattern]*.jpg: does not exist",
    ]  # fmt: skip
    with pytest.raises(DataError, match=r"the list `@lost.txt` does not exist"):
        places("@lost.txt")


def test_each_photo_comes_once() -> None:
    touch("p/a.jpg", "p/b.jpg")
    assert places("p/b.jpg", "p", "./p/a.jpg") == ["b.jpg", "a.jpg"]


@pytest.mark.skipif(os.name == "nt", reason="links and FIFOs")
def test_odd_entries_are_reported_and_nothing_hangs(here: Path) -> None:
    touch("p/a.jpg")
    Path("p/broken.jpg").symlink_to("nowhere.jpg")
    Path("p/self.jpg").symlink_to("self.jpg")
    Path("p/broken.txt").symlink_to("nowhere.txt")
    os.mkfifo("p/fifo.jpg")
    found = places("p")
    assert found[:3] == ["a.jpg", "p/broken.jpg: broken link", "p/fifo.jpg: not a regular file"]
    assert found[3].startswith("p/self.jpg: too many")
    assert len(found) == 4
    assert places("p/fifo.jpg", "p/broken.jpg") == ["p/fifo.jpg: not a regular file", "p/broken.jpg: broken link"]


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_links_to_folders_are_followed_once() -> None:
    touch("p/sub/a.jpg", "elsewhere/b.jpg")
    Path("p/a_loop").symlink_to("..")
    Path("p/sub/up").symlink_to("../../p")
    Path("p/z_more").symlink_to("../elsewhere")
    Path("p/again").symlink_to("sub")
    found = places("p")
    assert "sub/a.jpg" in found
    assert sum(place.endswith("a.jpg") for place in found) == 1
    assert sum(place.endswith("b.jpg") for place in found) == 1


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_reported() -> None:
    touch("p/a.jpg", "p/secret.jpg", "p/locked/b.jpg")
    Path("p/secret.jpg").chmod(0)
    Path("p/locked").chmod(0)
    try:
        assert places("p") == ["a.jpg", "p/locked: permission denied", "p/secret.jpg: permission denied"]
    finally:
        Path("p/locked").chmod(0o700)


def test_nothing_found_says_where() -> None:
    touch("p/notes.txt")
    with pytest.raises(DataError, match=r"no images in `p`") as caught:
        places("p")
    assert ".jpg" in caught.value.hint


@pytest.mark.parametrize(
    ("argument", "hint"),
    [("Phtos", "did you mean `photos`?"), ("photos/bech.jpg", "did you mean `photos/beach.jpg`?"), ("xyz", "no such")],
)
def test_a_name_that_is_not_there_suggests_one_that_is(argument: str, hint: str) -> None:
    touch("photos/beach.jpg")
    with pytest.raises(DataError, match=f"`{argument}` does not exist") as caught:
        places(argument)
    assert hint in caught.value.hint


class Stream(io.BytesIO):
    def __init__(self, data: bytes, terminal: bool = False) -> None:
        super().__init__(data)
        self.buffer, self.terminal = self, terminal

    def isatty(self) -> bool:
        return self.terminal


def test_a_photo_on_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    touch("-", "a.jpg")
    monkeypatch.setattr("sys.stdin", Stream(b"bytes"))
    found = find_sources(["-", "a.jpg", "./-", "-"])
    assert found[:2] == [Source(Path("-"), Path("stdin"), b"bytes"), Source(Path("a.jpg"), Path("a.jpg"))]
    assert found[2:] == [Source(Path("-"), Path("-"))], "the file of that name is another photo"
    assert not only_files(["-"])
    assert only_files(["./-"])
    assert find_sources([Path("-")]) == [Source(Path("-"), Path("-"))], "a Path is always literal"


def test_standard_input_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Stream(b""))
    with pytest.raises(DataError, match="no data on standard input"):
        places("-")
    monkeypatch.setattr("sys.stdin", Stream(b"", terminal=True))
    with pytest.raises(UsageError, match="no photo is piped in"):
        places("-")
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(DataError, match="standard input is closed"):
        places("-")
    with pytest.raises(UsageError, match="no photos"):
        places()


def test_only_files() -> None:
    touch("a.jpg", "p/b.jpg")
    assert only_files(["a.jpg", Path("p/b.jpg")])
    assert not only_files(["a.jpg", "p"])
    assert not only_files(["*.jpg"])


def test_failures_are_values() -> None:
    Path("gone.jpg").symlink_to("nowhere")
    assert find_sources(["gone.jpg"]) == [Failure(Path("gone.jpg"), "broken link")]
