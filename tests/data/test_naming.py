"""Ids and splits."""

import hashlib
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seglab.data.naming import MAX_ID_BYTES, SPLITS, advise_shares, assign_splits, safe_id, unique_ids
from seglab.errors import UsageError

NAMES = st.lists(st.text(min_size=1, max_size=12), unique=True, max_size=40)
SHARES = st.sampled_from([(0.1, 0.1), (0.0, 0.0), (0.25, 0.2), (0.0, 0.5), (0.33, 0.33), (0.05, 0.9)])


def by_sha1(ids: list[str]) -> list[str]:
    return sorted(ids, key=lambda id: hashlib.sha1(id.encode()).hexdigest())


def test_splits_by_hand() -> None:
    ids = [f"{number:03d}" for number in range(20)]
    splits = assign_splits(ids, 0.1, 0.15)
    ordered = by_sha1(ids)
    assert [id for id in ordered if splits[id] == "test"] == ordered[:3]
    assert [id for id in ordered if splits[id] == "val"] == ordered[3:5]
    assert [id for id in ordered if splits[id] == "train"] == ordered[5:]


@given(ids=st.lists(st.text(st.characters(codec="utf-8"), min_size=1), unique=True, max_size=60), shares=SHARES)
def test_splits_have_exact_shares_in_any_order(ids: list[str], shares: tuple[float, float]) -> None:
    val, test = shares
    splits = assign_splits(ids, val, test)
    counts = {split: list(splits.values()).count(split) for split in ("train", "val", "test")}
    assert counts["val"] == round(len(ids) * val)
    assert counts["test"] == round(len(ids) * test)
    assert set(splits) == set(ids)
    assert assign_splits(reversed(ids), val, test) == splits


def test_growth_moves_only_samples_next_to_the_borders() -> None:
    old_ids = [f"photo{number}" for number in range(1000)]
    ids = old_ids + [f"more{number}" for number in range(500)]
    old, new = assign_splits(old_ids, 0.1, 0.1), assign_splits(ids, 0.1, 0.1)
    moved = [id for id in old_ids if old[id] != new[id]]
    assert len(moved) < 40  # a shuffle would move a third
    # In the order of hashes the splits never interleave, before or after.
    for splits in (old, new):
        ordered = [splits[id] for id in by_sha1(list(splits))]
        assert ordered == sorted(ordered, key=("test", "val", "train").index)


def test_test_split_does_not_depend_on_val() -> None:
    ids = [str(number) for number in range(50)]
    tests = [{id for id, split in assign_splits(ids, val, 0.2).items() if split == "test"} for val in (0, 0.1, 0.5)]
    assert tests[0] == tests[1] == tests[2]


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ((0.5, 0.5), "--val `0.5` and --test `0.5` do not leave anything to train on"),
        ((0.9, 0.2), "--val `0.9` and --test `0.2` do not leave anything to train on"),
        ((-0.1, 0.1), "--val `-0.1` is no share"),
        ((0.0, 1.0), "--test `1.0` is no share"),
        ((1.5, 0.1), "--val `1.5` is no share"),
        ((float("nan"), 0.1), "--val `nan` is no share"),
    ],
)
def test_impossible_shares_are_refused(shares: tuple[float, float], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        assign_splits(["a"], *shares)
    assert "0.1" in caught.value.hint


@pytest.mark.parametrize("num", range(1, 40))
@pytest.mark.parametrize("shares", [(0.1, 0.1), (0.1, 0.0), (0.0, 0.2), (0.01, 0.4)])
def test_the_advice_on_empty_splits_is_right(num: int, shares: tuple[float, float]) -> None:
    """Where an option is named, it fills the splits that were empty, and train stays."""
    ids = [str(number) for number in range(num)]

    def counts(val: float, test: float) -> dict[str, int]:
        found = list(assign_splits(ids, val, test).values())
        return {split: found.count(split) for split in SPLITS}

    asked = dict(zip(("val", "test"), shares, strict=True))
    before = counts(**asked)
    empty = [name for name, share in asked.items() if share and not before[name]]
    advice = advise_shares(before, *shares)
    assert bool(advice) == bool(empty)
    if not empty:
        return
    assert advice.startswith(" and ".join(empty))
    better = {name: float(share) for name, share in re.findall(r"--(val|test) ([\d.]+)", advice.partition("; ")[2])}
    if num >= 3:
        assert list(better) == empty
    if better:
        after = counts(**{**asked, **better})
        assert min(after[name] for name in ("train", *empty)) >= 1


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("0001", "0001"),
        ("a/b c/d", "a__b_c__d"),
        ("photo (1) [draft]", "photo__1___draft_"),
        ("人 é", "人_é"),
        ("e\N{COMBINING ACUTE ACCENT}", "é"),
        (".hidden", "_.hidden"),
        ("-rf", "_-rf"),
        ("CON", "_CON"),
        ("nul.2", "_nul.2"),
        ("dot.", "dot._"),
        ("new\nline\0", "new_line_"),
        ("..\\..\\x", "_..__..__x"),
    ],
)
def test_safe_id_by_hand(name: str, id: str) -> None:
    assert safe_id(name) == id


@given(st.text(max_size=300))
def test_safe_ids_are_file_names_everywhere(name: str) -> None:
    id = safe_id(name)
    assert safe_id(id) == id
    assert 0 < len(id.encode()) <= MAX_ID_BYTES
    assert not set(id) & set('/\\:*?"<>| \0\n\t')
    assert id[0] not in ".-"
    assert id[-1] not in ". "
    assert unicodedata.is_normalized("NFC", id)


@given(NAMES)
def test_unique_ids_differ_even_without_case(names: list[str]) -> None:
    ids, clashes = unique_ids(names)
    assert len({id.casefold() for id in ids.values()}) == len(ids)
    assert all(safe_id(id) == id for id in ids.values())
    assert set(ids) | {name for group in clashes for name in group} == set(names)
    assert not set(ids) & {name for group in clashes for name in group}


def test_altered_names_step_aside_and_equal_ones_clash() -> None:
    ids, clashes = unique_ids(["a__b", "a/b", "x y", "IMG", "img", "Img"])
    assert ids["a__b"] == "a__b"
    assert ids["a/b"].startswith("a__b-")
    assert ids["x y"] == "x_y"
    assert clashes == [["IMG", "Img", "img"]]
