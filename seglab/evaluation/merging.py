"""Parts of an evaluation on disk, put together as if all had been evaluated at once.

A part says which of how many it is, what was evaluated, and how. All parts have to be there, each once and made alike:
scores of two thirds of a split, or of two models, would look like those of a whole.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Final

from seglab.errors import DataError, UsageError
from seglab.evaluation.record import merge, read_run
from seglab.evaluation.result import Evaluation
from seglab.shards import Shard

__all__ = ["Merged", "merge_files"]

_ALIKE: Final = ("model", "pred", "split")
"""What of the input has to be the same in all parts of a set; of paths the last name."""


@dataclass(frozen=True)
class Merged:
    """All parts, and what they were made with."""

    evaluation: Evaluation
    input: dict[str, Any]
    """What was evaluated; None where parts name different places."""
    options: dict[str, Any]


@dataclass(frozen=True)
class _Part:
    path: Path
    evaluation: Evaluation
    shard: Shard | None
    input: Mapping[str, Any]
    options: Mapping[str, Any]


def merge_files(paths: Sequence[Path]) -> Merged:
    """Read what ``seglab evaluate --json`` or ``--out`` wrote for each part, and put it together.

    Whole evaluations, made with the same options, go together as well, if they share no image.

    Raises:
        DataError: If a part cannot be read, is missing or there twice, or was made with other options or of something
            else; also as :func:`seglab.evaluation.record.merge`.
    """
    parts = [_read(path) for path in paths]
    _check_alike(parts, "options", sorted({name for part in parts for name in part.options}))
    if any(part.shard for part in parts):
        _check_complete(parts)
        _check_alike(parts, "input", _ALIKE)
    names = list(dict.fromkeys(name for part in parts for name in part.input))
    return Merged(
        merge([part.evaluation for part in parts]),
        {name: _common([part.input.get(name) for part in parts]) for name in names},
        dict(parts[0].options),
    )


def _read(path: Path) -> _Part:
    evaluation, run = read_run(path)
    named, given, options = run["shard"], run["input"] or {}, run["options"] or {}
    try:
        if not isinstance(given, Mapping) or not isinstance(options, Mapping):
            raise TypeError
        shard = None if named is None else Shard(int(named["index"] + 0), int(named["num"] + 0))
        return _Part(path, evaluation, shard, dict(given), dict(options))
    except (KeyError, TypeError, ValueError, OverflowError, UsageError) as error:
        raise DataError(f"`{path}` is damaged: its part, input or options are none") from error


def _check_complete(parts: Sequence[_Part]) -> None:
    nums = [f"parts of {num}" for num in sorted({part.shard.num for part in parts if part.shard})]
    if any(part.shard is None for part in parts):
        nums.append("a whole")
    if len(nums) > 1:
        raise DataError(f"{' and '.join(nums)} do not go together", "merge the parts of one evaluation")
    there = Counter(part.shard for part in parts if part.shard)
    num = next(iter(there)).num
    if twice := [f"`{shard}`" for shard, times in there.items() if times > 1]:
        raise DataError(f"part {twice[0]} is there more than once", "merge each part once")
    absent = [f"`{Shard(index, num)}`" for index in range(1, num + 1) if Shard(index, num) not in there]
    if absent:
        listed = ", ".join(absent[:10]) + (f" and {len(absent) - 10} more" if len(absent) > 10 else "")
        hint = f"`seglab evaluate ... --shard {absent[0].strip('`')} --json > PART.json` makes it"
        raise DataError(f"part{'s' * (len(absent) > 1)} {listed} {'are' if len(absent) > 1 else 'is'} missing", hint)


def _check_alike(parts: Sequence[_Part], what: str, names: Sequence[str]) -> None:
    first = parts[0]
    for name in names:
        ours = getattr(first, what).get(name)
        for part in parts[1:]:
            theirs = getattr(part, what).get(name)
            if _last(ours) != _last(theirs):
                raise DataError(
                    f"the parts were not made alike: `{name}`: `{ours}` in `{first.path.name}`,"
                    f" `{theirs}` in `{part.path.name}`",
                    "evaluate all parts with the same model and options",
                )


def _last(value: Any) -> Any:
    return PurePath(value).name if isinstance(value, str) else value


def _common(values: Sequence[Any]) -> Any:
    return values[0] if all(value == values[0] for value in values) else None
