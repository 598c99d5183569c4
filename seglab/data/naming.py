"""How samples are named and shared out: ids that are file names everywhere, and splits without a seed."""

import hashlib
import math
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from seglab.errors import UsageError

__all__ = ["SPLITS", "advise_shares", "assign_splits", "safe_id", "unique_ids"]

SPLITS: Final = ("train", "val", "test")

MAX_ID_BYTES: Final = 160

_RESERVED: Final = frozenset(
    ["CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(1, 10))]
)


def assign_splits(ids: Iterable[str], val: float, test: float) -> dict[str, str]:
    """Choose the splits of samples that have none: no seed, and the same on every machine.

    Ids are ordered by the SHA-1 of their UTF-8 text. The first ``round(n * test)`` are ``test``, the next
    ``round(n * val)`` ``val``, the others ``train``. The order never depends on other samples, so when data are added
    the shares stay exact and only the few samples next to the two borders can change sides; ``test`` does not depend
    on ``val``.

    Args:
        ids: Unique ids, in any order.
        val: Share of the validation split, 0..1.
        test: Share of the test split, 0..1; together less than 1.

    Raises:
        UsageError: If the shares are impossible.
    """
    for name, share in (("val", val), ("test", test)):
        if not 0 <= share < 1:
            raise UsageError(f"--{name} `{share}` is no share from 0 to less than 1", f"`--{name} 0.1` takes a tenth")
    if val + test >= 1:
        message = f"--val `{val}` and --test `{test}` do not leave anything to train on"
        raise UsageError(message, "`--val 0.1 --test 0.1` leave eight tenths")
    ordered = sorted(ids, key=_sha1)
    num_test, num_val = round(len(ordered) * test), round(len(ordered) * val)
    splits = ["test"] * num_test + ["val"] * num_val
    splits += ["train"] * (len(ordered) - len(splits))
    return dict(zip(ordered, splits, strict=False))


def advise_shares(counts: Mapping[str, int], val: float, test: float) -> str:
    """Say that splits are empty though a share was asked for, and what would fill them; an empty text if none is.

    Args:
        counts: Number of samples of every split.
        val: Share of the validation split that was asked for.
        test: Share of the test split that was asked for.
    """
    asked = {"val": val, "test": test}
    empty = [name for name, share in asked.items() if share > 0 and not counts.get(name)]
    if not empty:
        return ""
    num = sum(counts.values())
    least = {name: max(share, math.ceil(100 / num) / 100) if name in empty else share for name, share in asked.items()}
    possible = sum(least.values()) < 1 and num > sum(round(num * share) for share in least.values())
    remedy = f"`{_options(least, empty)}` puts one into {'each' if empty[1:] else 'it'}"
    samples = f"{num} samples are" if num > 1 else "1 sample is"
    reason = f"{samples} too few for {_options(asked, empty)}"
    return f"{' and '.join(empty)} {'are' if empty[1:] else 'is'} empty: {reason}; " + (
        remedy if possible else "add samples"
    )


def _options(shares: Mapping[str, float], names: Iterable[str]) -> str:
    return " ".join(f"--{name} {shares[name]:g}" for name in names)


def safe_id(name: str) -> str:
    """Turn a path without its suffix into an id that is a file name on every system.

    Slashes become ``__``; letters, marks and digits of any script and ``- _ . +`` stay, everything else is ``_``.
    Overlong names keep their beginning and get a hash.
    """
    text = unicodedata.normalize("NFC", name).replace("\\", "/").strip("/").replace("/", "__")
    text = "".join(c if c in "-_.+" or unicodedata.category(c)[0] in "LMN" else "_" for c in text) or "_"
    if text[0] in ".-" or text.split(".")[0].upper() in _RESERVED:
        text = "_" + text
    if text[-1] == ".":
        text += "_"
    if len(text.encode()) > MAX_ID_BYTES:
        kept = text.encode()[: MAX_ID_BYTES - 13].decode(errors="ignore")
        text = f"{kept}-{_sha1(text)[:12]}"
    return text


def unique_ids(names: Iterable[str]) -> tuple[dict[str, str], list[list[str]]]:
    """Give every name an id that is unique even where file names ignore case.

    A name that :func:`safe_id` had to alter steps aside with a hash when its id is taken.

    Args:
        names: Distinct paths without suffix, relative to the source.

    Returns:
        The id of every name, and the groups of names that cannot be told apart (they are left out of the ids).
    """
    wanted: dict[str, list[str]] = defaultdict(list)
    for name in names:
        wanted[safe_id(name).casefold()].append(name)
    ids, clashes = {}, []
    for group in wanted.values():
        unaltered = [name for name in group if safe_id(name) == name] if len(group) > 1 else group
        if len(unaltered) > 1:
            clashes.append(sorted(unaltered))
        for name in group:
            if name not in unaltered:
                ids[name] = f"{safe_id(name)[: MAX_ID_BYTES // 4 - 4]}-{_sha1(name)[:12]}"
            elif len(unaltered) == 1:
                ids[name] = safe_id(name)
    return ids, clashes


def _sha1(text: str) -> str:
    return hashlib.sha1(text.encode(errors="surrogateescape"), usedforsecurity=False).hexdigest()
