"""Curves of a run as a picture: what it says in ``metrics.jsonl``, drawn without a plotting library."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from seglab.data.drawing import drawable
from seglab.tasks import Rgb, Task

__all__ = ["Line", "Panel", "draw_panels", "panels_of", "ticks"]

Point = tuple[float, float]

_PAPER: Final = (255, 255, 255)
_INK: Final = (30, 30, 30)
_PALE: Final = (225, 225, 225)
_COLOURS: Final[Sequence[Rgb]] = (
    (31, 90, 180), (220, 100, 20), (20, 140, 70), (190, 40, 60), (120, 80, 170), (130, 90, 60), (200, 100, 170),
    (110, 110, 110),
)  # fmt: skip
_SCALE: Final = 2
"""Everything is drawn so much larger and then shrunk, which makes lines smooth."""
_PANEL_HW: Final = (320, 480)
_MAX_NAMED: Final = 12
"""Lines that a legend has room for."""
_LOG_RATIO: Final = 50.0
"""Positive values that differ by more than this factor are drawn on a logarithmic axis."""
_HIGHEST: Final = 1e300
"""Values beyond are not drawn: axes could not hold them."""


@dataclass(frozen=True)
class Line:
    """Values over epochs."""

    name: str
    points: Sequence[Point]
    """(epoch, value) in order; values are finite."""
    rgb: Rgb
    bold: bool = False


@dataclass(frozen=True)
class Panel:
    """Lines that share their axes."""

    title: str
    lines: Sequence[Line] = ()
    may_be_log: bool = True
    """Whether the axis of values may be logarithmic."""


def panels_of(records: Sequence[Mapping[str, Any]], metric: str, task: Task) -> list[Panel]:
    """Choose what to draw of the records of a run's epochs.

    Args:
        records: Lines of ``metrics.jsonl``.
        metric: The metric whose best weights are kept; drawn bold, beside the IoU of every class in its colour.
        task: The classes and their colours.

    Returns:
        Loss and its parts, the discriminator's if there is one, validation, learning rates and speed; what has no
        values is left out.
    """
    parts = [name for name in _names(records, "train") if not name.endswith("grad_norm")]
    of_disc = [name for name in parts if name.startswith("disc")]
    panels = [
        _panel("training loss", records, "train", [name for name in parts if name not in of_disc], "loss"),
        _panel("discriminator", records, "train", of_disc, "disc"),
        _validation(records, metric, task),
        replace(_panel("learning rate", records, "", ["lr", "disc_lr"], "lr"), may_be_log=False),
        _panel("images per second", records, "", ["images_per_s"], "images_per_s"),
    ]
    return [panel for panel in panels if panel.lines]


def draw_panels(panels: Sequence[Panel], *, columns: int = 2) -> npt.NDArray[np.uint8]:
    """Return a picture (HWC uint8 RGB) of panels side by side."""
    columns = max(1, min(columns, len(panels)))
    num_rows = max(1, -(-len(panels) // columns))
    height, width = (side * _SCALE for side in _PANEL_HW)
    canvas = Image.new("RGB", (columns * width, num_rows * height), _PAPER)
    for position, panel in enumerate(panels):
        row, column = divmod(position, columns)
        _Plot(ImageDraw.Draw(canvas), panel, (column * width, row * height, width, height)).draw()
    return np.array(canvas.resize((canvas.width // _SCALE, canvas.height // _SCALE), Image.Resampling.LANCZOS))


def ticks(low: float, high: float, *, most: int = 6) -> list[float]:
    """Return round numbers (1, 2 or 5 times a power of ten apart) within a range.

    Args:
        low: Least, finite.
        high: Greatest; not less than ``low``.
        most: The most numbers to return; at least 2.
    """
    if high <= low:
        return [low]
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    for factor in (1, 2, 5, 10, 20):
        first, last = math.ceil(low / (factor * step) - 1e-9), math.floor(high / (factor * step) + 1e-9)
        if last - first < most:
            return [number * factor * step for number in range(first, last + 1)]
    return [low, high]


class _Plot:
    """One panel within a rectangle of a canvas."""

    def __init__(self, pen: ImageDraw.ImageDraw, panel: Panel, box: tuple[int, int, int, int]) -> None:
        self._pen, self._panel = pen, panel
        left, top, width, height = box
        self._font = ImageFont.load_default(11 * _SCALE)
        self._left, self._right = left + 56 * _SCALE, left + width - 12 * _SCALE
        self._top, self._bottom = top + 28 * _SCALE, top + height - 26 * _SCALE
        epochs = [epoch for line in panel.lines for epoch, _ in line.points]
        values = [value for line in panel.lines for _, value in line.points]
        self._first, self._last = min(epochs), max(epochs)
        positive = [value for value in values if value > 0]
        all_positive = len(positive) == len(values)
        self._is_log = panel.may_be_log and all_positive and max(values) / min(values) > _LOG_RATIO
        low, high = self._scaled(min(values)), self._scaled(max(values))
        margin = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
        self._low, self._high = low - margin, high + margin

    def draw(self) -> None:
        """Draw axes, lines and legend."""
        self._axes()
        for line in sorted(self._panel.lines, key=lambda line: line.bold):
            self._line(line)
        self._legend()

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self._is_log else value

    def _xy(self, epoch: float, value: float) -> Point:
        across = 0.5 if self._last == self._first else (epoch - self._first) / (self._last - self._first)
        up = (self._scaled(value) - self._low) / (self._high - self._low)
        return self._left + across * (self._right - self._left), self._bottom - up * (self._bottom - self._top)

    def _axes(self) -> None:
        pen, font = self._pen, self._font
        if self._is_log:
            values = [10.0**power for power in range(math.ceil(self._low), math.floor(self._high) + 1)]
            values = values if len(values) > 1 else [10**self._low, 10**self._high]
        else:
            values = ticks(self._low, self._high)
        for value in values:
            _, y = self._xy(self._first, value)
            pen.line((self._left, y, self._right, y), _PALE, _SCALE)
            pen.text((self._left - 4 * _SCALE, y), f"{value:.4g}", _INK, font, anchor="rm")
        for epoch in ticks(self._first, self._last):
            if epoch == round(epoch):
                x, _ = self._xy(epoch, values[0])
                pen.line((x, self._bottom, x, self._bottom + 3 * _SCALE), _INK, _SCALE)
                pen.text((x, self._bottom + 5 * _SCALE), f"{epoch:g}", _INK, font, anchor="mt")
        pen.line((self._left, self._top, self._left, self._bottom, self._right, self._bottom), _INK, _SCALE)
        pen.text((self._left, self._top - 8 * _SCALE), drawable(self._panel.title), _INK, font, anchor="lb")

    def _line(self, line: Line) -> None:
        places = [self._xy(*point) for point in line.points]
        width = (3 if line.bold else 1) * _SCALE
        if len(places) > 1:
            self._pen.line(places, line.rgb, width, joint="curve")
        if len(places) <= 30:
            for x, y in places:
                self._pen.ellipse((x - width, y - width, x + width, y + width), line.rgb)

    def _legend(self) -> None:
        named = sorted(self._panel.lines, key=lambda line: not line.bold)[:_MAX_NAMED]
        texts = [f"{drawable(line.name)} {line.points[-1][1]:.4g}" for line in named]
        width = max(self._font.getlength(text) for text in texts) + 20 * _SCALE
        step = 14 * _SCALE
        left, top = self._right - width, self._emptier_end(len(texts) * step)
        self._pen.rectangle((left, top, self._right, top + len(texts) * step), _PAPER, _PALE)
        for row, (line, text) in enumerate(zip(named, texts, strict=True)):
            y = top + (row + 0.5) * step
            self._pen.line((left + 3 * _SCALE, y, left + 13 * _SCALE, y), line.rgb, (3 if line.bold else 2) * _SCALE)
            self._pen.text((left + 17 * _SCALE, y), text, _INK, self._font, anchor="lm")

    def _emptier_end(self, height: int) -> float:
        """Return the top of a legend at the upper or the lower end of the right side, where fewer points are."""
        ends = [
            self._xy(*point)[1] for line in self._panel.lines for point in line.points[-max(1, len(line.points) // 3) :]
        ]
        upper = sum(y < self._top + height for y in ends)
        lower = sum(y > self._bottom - height for y in ends)
        return self._top if upper <= lower else self._bottom - height


def _panel(title: str, records: Sequence[Mapping[str, Any]], table: str, names: Sequence[str], bold: str) -> Panel:
    lines = []
    for position, name in enumerate(names):
        points = _points(records, table, name)
        if points:
            rgb = _INK if name == bold else _COLOURS[position % len(_COLOURS)]
            lines.append(Line(name, points, rgb, bold=name == bold))
    return Panel(title, lines)


def _validation(records: Sequence[Mapping[str, Any]], metric: str, task: Task) -> Panel:
    lines = [Line(metric, points, _INK, bold=True)] if (points := _points(records, "val", metric)) else []
    for name, rgb in zip(task.classes, task.palette, strict=True):
        points = _points(records, "val", f"iou.{name}")
        if points and f"iou.{name}" != metric:
            lines.append(Line(f"iou.{name}", points, _visible(rgb)))
    return Panel("validation", lines)


def _names(records: Sequence[Mapping[str, Any]], table: str) -> list[str]:
    return list(dict.fromkeys(name for record in records for name in _table(record, table)))


def _table(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = record.get(name)
    return value if isinstance(value, Mapping) else {}


def _points(records: Sequence[Mapping[str, Any]], table: str, name: str) -> list[Point]:
    found = []
    for record in records:
        value = (_table(record, table) if table else record).get(name)
        if isinstance(value, int | float) and abs(value) < _HIGHEST:  # neither NaN
            found.append((float(record["epoch"]), float(value)))
    return found


def _visible(rgb: Rgb) -> Rgb:
    """Return a colour that is seen on white."""
    brightness = 0.3 * rgb[0] + 0.59 * rgb[1] + 0.11 * rgb[2]
    if brightness <= 190:
        return rgb
    red, green, blue = (round(value * 0.6) for value in rgb)
    return red, green, blue
