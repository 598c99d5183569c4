"""Which pairs take part, and in which split."""

from pathlib import Path

import pytest

from seglab.data.naming import assign_splits
from seglab.data.pairing import Pairing
from seglab.data.selection import Selection, draw, find_split_lists, join, pair_folders, read_list, select
from seglab.errors import DataError

RAW = Path("raw")


def pairing(*names: str, lone: str = "") -> Pairing:
    pairs = {name: (RAW / f"{name}.jpg", RAW / f"{name}.png") for name in names}
    return Pairing(pairs, [RAW / f"{lone}.jpg"] if lone else [], [], [])


def lists(dir: Path, **names: str) -> Path:
    dir.mkdir(exist_ok=True)
    for list_name, text in names.items():
        (dir / f"{list_name}.txt").write_bytes(text.encode())
    return dir


def told(selection: Selection) -> list[tuple[str, str, str]]:
    return [(problem.kind, problem.path, problem.detail) for problem in selection.problems]


def test_lists_of_names_and_of_paths_are_read(tmp_path: Path) -> None:
    text = "\ufeff2008_000026\r\n\r\n/images/a.JPG /labels/a.png\r\n2008_000026\n b.c \n"
    assert read_list(lists(tmp_path, train=text) / "train.txt") == ["2008_000026", "a", "b.c"]
    (tmp_path / "train.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot read the list"):
        read_list(tmp_path / "train.txt")


def test_the_first_folder_with_lists_wins_and_id_lists_over_path_lists(tmp_path: Path) -> None:
    lists(tmp_path / "a", trainval="x", readme="y")
    lists(tmp_path / "b", train_id="1", train="2", val="3")
    lists(tmp_path / "c", test_id="4")
    found = find_split_lists([tmp_path / "a", tmp_path / "b", tmp_path / "c"])
    assert found is not None
    assert found.stems == {"train": ["1"], "val": ["3"]}
    assert find_split_lists([tmp_path / "a", tmp_path / "missing"]) is None


def test_lists_give_the_splits_and_everything_odd_is_told(tmp_path: Path) -> None:
    found = find_split_lists([lists(tmp_path, train_id="a\nb\nmissing", val_id="c\nb")])
    chosen = select(pairing("a", "b", "c", "unlisted", lone="lone"), found, tmp_path)
    assert {name: split for name, (_, _, split) in chosen.pairs.items()} == {"a": "train", "c": "val"}
    assert told(chosen) == [
        ("name in several splits", "train_id.txt", "b: train, val"),
        ("listed, but photo or labels are not there", "train_id.txt", "missing"),
    ]
    assert chosen.remarks == [
        "the source's own splits are kept: train, val (train_id.txt, val_id.txt)",
        "1 pairs are in no list and left out",
    ]


def test_equal_lists_make_no_splits(tmp_path: Path) -> None:
    found = find_split_lists([lists(tmp_path, train_id="a\nb", val_id="b\na")])
    chosen = select(pairing("a", "b"), found, tmp_path)
    assert [split for _, _, split in chosen.pairs.values()] == [None, None]
    assert chosen.problems == []


def test_a_listed_name_of_several_files_is_told_once(tmp_path: Path) -> None:
    found = find_split_lists([lists(tmp_path, train_id="a\nb", val_id="c")])
    several = [tmp_path / "b.jpg", tmp_path / "b.png"]
    others = [tmp_path / "x.jpg", tmp_path / "x.png"]
    chosen = select(Pairing(pairing("a", "c").pairs, [], [], [several, others]), found, tmp_path)
    assert told(chosen) == [("several files of one stem", "b.jpg", "b.jpg, b.png")]


def test_without_lists_lone_photos_are_problems_unless_they_are_expected() -> None:
    assert told(select(pairing("a", lone="b"), None, RAW)) == [("photo without a mask", "b.jpg", "")]
    chosen = select(pairing("a", lone="b"), None, RAW, spare_photos=True)
    assert (chosen.problems, chosen.remarks) == ([], ["1 photos without labels are left out"])


def test_folders_of_splits_are_joined_and_a_name_in_two_is_a_leak(tmp_path: Path) -> None:
    listed = {"val": lists(tmp_path, val_id="c\nd") / "val_id.txt"}
    both = join({"train": pairing("a", "b"), "val": pairing("b", "c")}, RAW)
    assert {name: split for name, (_, _, split) in both.pairs.items()} == {"a": "train", "c": "val"}
    assert told(both) == [("name in several splits", "b.jpg", "train, val")]
    missing = join({"train": pairing("a"), "val": pairing("c")}, tmp_path, listed)
    assert [detail for _, _, detail in told(missing)] == ["d"]
    assert [split for _, _, split in join({"train": pairing("a")}, RAW).pairs.values()] == [None]


def test_a_share_is_drawn_by_sha1_where_the_target_is_missing() -> None:
    names = [f"{number}" for number in range(50)]
    chosen = draw(join({"train": pairing(*names), "test": pairing("t")}, RAW), "train", "val", 0.1)
    splits = {name: split for name, (_, _, split) in chosen.pairs.items()}
    expected = {name for name, split in assign_splits(names, 0.1, 0).items() if split == "val"}
    assert {name for name, split in splits.items() if split == "val"} == expected
    assert (len(expected), splits["t"]) == (5, "test")
    assert draw(chosen, "train", "val", 0.5) is chosen
    assert draw(join({"train": pairing("a")}, RAW), "train", "val", 0.5).pairs["a"][2] is None


def test_photos_and_labels_in_one_folder_are_told_apart_by_suffix(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "b.JPG", "b.PNG", "c.png"):
        (tmp_path / name).touch()
    found = pair_folders(tmp_path, tmp_path, {".png"})
    assert list(found.pairs) == ["a", "b"]
    assert [path.name for path in found.lone_masks] == ["c.png"]
