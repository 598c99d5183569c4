"""Pairing by path and stem."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from seglab.data.pairing import hidden_pictures, list_files, pair, pictures_by_name

SUFFIXES = frozenset({".jpg", ".png"})
STEMS = st.sampled_from(["a", "b", "c", "A", "a.b", "sub/a"])
FILES = st.lists(st.tuples(STEMS, st.sampled_from([".jpg", ".png"])), unique=True, max_size=8)


def touch(dir: Path, *names: str) -> None:
    for name in names:
        path = dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_junk_is_left_out_and_others_are_counted(tmp_path: Path) -> None:
    touch(
        tmp_path, "a.jpg", "B.JPG", ".DS_Store", "._a.jpg", "__MACOSX/a.jpg", "Thumbs.db", ".git/c.png", "notes.txt",
        "sub/d.png",
    )  # fmt: skip
    names, num_others = pictures_by_name(tmp_path, SUFFIXES)
    assert list(names) == ["B", "a", "sub/d"]
    assert num_others == 1


def test_photos_whose_names_begin_with_a_dot_are_told_from_what_systems_leave(tmp_path: Path) -> None:
    touch(
        tmp_path, "a.jpg", ".b.jpg", "sub/.C.PNG", ".DS_Store", "._a.jpg", "__MACOSX/.x.jpg", ".git/c.png", ".a.txt",
        ".jpg",
    )  # fmt: skip
    hidden = [path.relative_to(tmp_path).as_posix() for path in hidden_pictures(tmp_path, SUFFIXES)]
    assert hidden == [".b.jpg", "sub/.C.PNG"]


def test_names_of_either_unicode_form_are_the_same(tmp_path: Path) -> None:
    touch(tmp_path / "photos", "e\N{COMBINING ACUTE ACCENT}.jpg")
    touch(tmp_path / "masks", "\N{LATIN SMALL LETTER E WITH ACUTE}.png")
    (photos, _), (masks, _) = (pictures_by_name(tmp_path / dir, SUFFIXES) for dir in ("photos", "masks"))
    assert list(pair(photos, masks).pairs) == ["\N{LATIN SMALL LETTER E WITH ACUTE}"]


def test_linked_folders_are_entered_once(tmp_path: Path) -> None:
    touch(tmp_path, "data/x.png")
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    assert [path.name for path in list_files(tmp_path / "data")] == ["x.png"]


@given(FILES, FILES)
def test_every_file_ends_up_in_one_place(photos: list[tuple[str, str]], masks: list[tuple[str, str]]) -> None:
    """Against brute force: a pair is a name with exactly one file on each side, whatever the order of listing."""

    def grouped(files: list[tuple[str, str]]) -> dict[str, list[Path]]:
        groups: dict[str, list[Path]] = {}
        for stem, suffix in files:
            groups.setdefault(stem, []).append(Path(stem + suffix))
        return groups

    pairing = pair(grouped(photos), grouped(masks))
    of_photos, of_masks = [stem for stem, _ in photos], [stem for stem, _ in masks]
    expected = {stem for stem in of_photos if of_photos.count(stem) == 1 == of_masks.count(stem)}
    assert set(pairing.pairs) == expected
    assert all(photo.with_suffix("") == mask.with_suffix("") for photo, mask in pairing.pairs.values())
    lone = [str(path.with_suffix("")) for path in [*pairing.lone_photos, *pairing.lone_masks]]
    assert all((stem in of_photos) != (stem in of_masks) for stem in lone)
    clashing = {stem for stem in {*of_photos, *of_masks} if max(of_photos.count(stem), of_masks.count(stem)) > 1}
    assert {str(path.with_suffix("")) for several in pairing.ambiguous for path in several} == clashing
    assert expected | set(lone) | clashing == {*of_photos, *of_masks}
    assert pair(grouped(photos[::-1]), grouped(masks[::-1])).pairs == pairing.pairs
