"""Pictures for people: labels over photos, legends, contact sheets."""

import unicodedata
from collections.abc import Sequence
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from seglab.data.encoding import VOID_RGB
from seglab.data.images import resize_image
from seglab.tasks import IGNORE, Rgb, Task

__all__ = ["VOID_RGB", "colour", "contact_sheet", "drawable", "overlay", "with_legend"]

Pixels = npt.NDArray[np.uint8]

_PAPER: Final = (255, 255, 255)
_INK: Final = (20, 20, 20)
_MARGIN: Final = 6


def colour(labels: Pixels, palette: Sequence[Rgb]) -> Pixels:
    """Return HW class ids as HWC uint8 RGB; ids beyond the palette get :data:`VOID_RGB`."""
    table = np.array([*palette, *[VOID_RGB] * 256][:256], np.uint8)
    coloured: Any = cv2.applyColorMap(np.ascontiguousarray(labels), table[:, None])
    painted: Pixels = coloured
    return painted


def overlay(
    image: Pixels, labels: Pixels, palette: Sequence[Rgb], *, opacity: float = 0.5, contour: bool = True
) -> Pixels:
    """Lay the colours of the classes over a photo.

    The background (0) and ignored pixels (255) stay as they are.

    Args:
        image: HWC uint8 RGB.
        labels: HW uint8 class ids of the same size.
        palette: A colour a class.
        opacity: 0 leaves the photo, 1 hides it.
        contour: Draw the borders between classes in full colour.

    Raises:
        ValueError: If the sizes differ.
    """
    if image.shape[:2] != labels.shape:
        raise ValueError(f"the photo is {image.shape[:2]}, its labels are {labels.shape}")
    coloured = colour(labels, palette)
    classes = ((labels != 0) & (labels != IGNORE)).view(np.uint8)
    drawn = image.copy()
    cv2.copyTo(cv2.addWeighted(image, 1 - opacity, coloured, opacity, 0), classes, drawn)
    if contour:
        cv2.copyTo(coloured, classes & _borders(labels), drawn)
    return drawn


def with_legend(image: Pixels, task: Task, labels: Pixels | None = None) -> Pixels:
    """Put the names and colours of a task's classes under a picture.

    The text grows with the picture; a picture that is too narrow for one name gets a white border on the right.

    Args:
        image: HWC uint8 RGB.
        task: Whose classes to show.
        labels: Show only the classes that occur in these, with their share of the pixels.
    """
    names = [drawable(name, f"class {index}") for index, name in enumerate(task.classes)]
    entries = list(zip(names, task.palette, strict=True))
    if labels is not None:
        counts = np.bincount(labels.ravel(), minlength=256)
        found = [index for index in range(task.num_classes) if counts[index]]
        entries = [(f"{names[index]} {counts[index] / labels.size:.1%}", task.palette[index]) for index in found]
    text_px = int(np.clip(max(image.shape[:2]) / 40, 11, 64))
    font = ImageFont.load_default(text_px)
    line_px = round(text_px * 1.6)
    cells = [(*entry, round(font.getlength(entry[0])) + 2 * line_px) for entry in entries]
    width = max([image.shape[1], *(cell[2] for cell in cells)])
    places, num_lines = _flow([cell[2] for cell in cells], width)
    canvas = Image.new("RGB", (width, image.shape[0] + num_lines * line_px + 2 * _MARGIN * bool(cells)), _PAPER)
    canvas.paste(Image.fromarray(image), (0, 0))
    pen = ImageDraw.Draw(canvas)
    for (text, rgb, _), (line, left) in zip(cells, places, strict=True):
        top = image.shape[0] + _MARGIN + line * line_px
        square = (left + line_px // 4, top + line_px // 6, left + line_px, top + line_px - line_px // 6)
        pen.rectangle(square, fill=rgb, outline=_INK)
        pen.text((left + line_px * 1.25, top + line_px / 2), text, fill=_INK, font=font, anchor="lm")
    return np.array(canvas)


def contact_sheet(
    rows: Sequence[Sequence[Pixels]],
    *,
    titles: Sequence[str] | None = None,
    cell_hw: tuple[int, int] = (192, 192),
) -> Pixels:
    """Lay out pictures in rows of equal cells, each shrunk or enlarged to fit, with its shape kept.

    Args:
        rows: HWC uint8 RGB pictures of any sizes; rows may differ in length.
        titles: One text a column, over the first row.
        cell_hw: Height and width of a cell in pixels.
    """
    height, width = cell_hw
    num_columns = max([1, len(titles or ()), *(len(row) for row in rows)])
    head = round(min(height, width) / 8) + 2 * _MARGIN if titles else 0
    step_hw = height + _MARGIN, width + _MARGIN
    sheet: Pixels = np.full(
        (head + len(rows) * step_hw[0] + _MARGIN, num_columns * step_hw[1] + _MARGIN, 3), 255, np.uint8
    )
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            scale = min(height / image.shape[0], width / image.shape[1])
            inner = resize_image(image, (max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale))))
            top = head + _MARGIN + i * step_hw[0] + (height - inner.shape[0]) // 2
            left = _MARGIN + j * step_hw[1] + (width - inner.shape[1]) // 2
            sheet[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return _titled(sheet, titles, head, step_hw[1]) if titles else sheet


def _titled(sheet: Pixels, titles: Sequence[str], head: int, step: int) -> Pixels:
    canvas = Image.fromarray(sheet)
    pen = ImageDraw.Draw(canvas)
    for j, title in enumerate(titles):
        text, size = drawable(title), head - 2 * _MARGIN
        while size > 8 and ImageFont.load_default(size).getlength(text) > step - _MARGIN:
            size -= 1
        place = (_MARGIN + j * step + (step - _MARGIN) / 2, _MARGIN / 2 + head / 2)
        pen.text(place, text, fill=_INK, font=ImageFont.load_default(size), anchor="mm")
    return np.array(canvas)


def _borders(labels: Pixels) -> Pixels:
    """Return 1 where another class is near, 0 elsewhere; the line grows with the picture."""
    reach = 2 * round(max(labels.shape) / 1000) + 3
    kernel = np.ones((reach, reach), np.uint8)
    border: Pixels = (cv2.erode(labels, kernel) != cv2.dilate(labels, kernel)).view(np.uint8)
    return border


def _flow(widths: Sequence[int], width: int) -> tuple[list[tuple[int, int]], int]:
    """Return line and left edge of words set one after another, and the number of lines."""
    places = []
    line = left = 0
    for word in widths:
        if left and left + word > width:
            line, left = line + 1, 0
        places.append((line, left))
        left += word
    return places, line + 1 if places else 0


def drawable(text: str, otherwise: str = "") -> str:
    """Return what the built-in font, which knows ASCII only, can draw of a text: without accents, unknown letters as ?.

    Where half of the letters are unknown, ``otherwise`` is returned if there is one.
    """
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    drawable = "".join(letter if " " <= letter <= "~" else "?" for letter in plain)
    known = sum(letter == drawn for letter, drawn in zip(plain, drawable, strict=True))
    return otherwise if otherwise and 2 * known <= len(plain) else drawable
