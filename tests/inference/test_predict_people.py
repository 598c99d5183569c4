"""``seglab predict --format instances``, with a network that sees colours and finds outlines where they change."""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seglab.data.encoding import encode_ids16, encode_png

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


@dataclass
class Outlined:
    """An engine that also says where blue is, as the outline between people."""

    engine: Any
    extras: tuple[str, ...] = ("edge",)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def __call__(self, pixels_BHWC: np.ndarray) -> np.ndarray:
        raise AssertionError("the outlines are lost")

    def with_extras(self, pixels_BHWC: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        logits = self.engine(pixels_BHWC)
        on_blue = logits.argmax(1, keepdims=True) == 3
        return logits, {"edge": np.where(on_blue, 8, -8).astype(np.float32)}


def two_people(turned: bool = False) -> np.ndarray:
    """Two red heads on green bodies, side by side, with a blue line between them."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[8:24, 8:56], image[24:60, 8:56] = RED, GREEN
    image[8:60, 40:42] = BLUE
    return np.ascontiguousarray(image[:, ::-1]) if turned else image


def test_each_photo_gets_its_own_people(shell, save, model, names) -> None:
    object.__setattr__(model, "engine", Outlined(model.engine))
    save(Path("p/a.png"), two_people())
    save(Path("p/b.png"), two_people(turned=True))
    save(Path("p/c.png"), np.zeros((40, 30, 3), np.uint8))
    result = shell("predict", "p", "-o", "o", "-f", "instances", "-f", "ids", "--batch-size", "2")
    assert result.code == 0, result.err
    assert names(Path("o")) == sorted(
        [f"{stem}.{suffix}" for stem in "abc" for suffix in ("ids.png", "people.json", "png")] + ["legend.json"]
    )
    for stem, large, small in (("a", 10, 50), ("b", 53, 13)):
        with Image.open(f"o/{stem}.png") as stored:
            assert stored.mode == "I;16"
            ids = np.array(stored)
        assert (ids[40, large], ids[40, small], ids.max()) == (1, 2, 2)
        np.testing.assert_array_equal(ids > 0, np.array(Image.open(f"o/{stem}.ids.png")) > 0)
        people = json.loads(Path(f"o/{stem}.people.json").read_text())["people"]
        assert [person["pixels"] for person in people] == np.bincount(ids.ravel())[1:].tolist()
        assert set(people[1]["parts"]) >= {"red", "green"}
        assert people[0]["bbox"]["top"] == 8
    assert json.loads(Path("o/c.people.json").read_text())["people"] == []
    assert not np.array(Image.open("o/c.png")).any()


def test_models_without_outlines_refuse_before_anything_is_written(shell, save) -> None:
    save(Path("a.png"), two_people())
    for name in ("instances", "people"):
        result = shell("predict", "a.png", "-o", "o", "-f", name)
        assert result.code == 2
        assert f"format `{name}` needs a model that finds the outlines of people" in result.err
    assert not Path("o").exists()


def test_one_file_for_one_form(shell, save, model) -> None:
    object.__setattr__(model, "engine", Outlined(model.engine))
    save(Path("a.png"), two_people())
    assert shell("predict", "a.png", "-o", "o.json", "-f", "people").code == 0
    result = shell("predict", "a.png", "-o", "o.png", "-f", "instances")
    assert (result.code, "but `instances`, `people` are asked for" in result.err) == (2, True)


def test_more_than_255_people() -> None:
    ids = np.arange(600, dtype=np.uint16).reshape(20, 30)
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(encode_ids16(ids)))), ids)
    with pytest.raises(ValueError, match="cannot encode"):
        encode_png(ids.astype(np.int32))  # type: ignore[arg-type]
