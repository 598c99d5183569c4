"""The pairs of a plan, read, checked, aligned and written, several at once."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seglab.data.alignment import Alignment, align, fit_labels, fit_photo, wanted_size
from seglab.data.decoding import ImageError, open_picture, read_file
from seglab.data.duplicates import PhotoIndex
from seglab.data.images import read_labels, read_photo
from seglab.data.planning import Job, Plan
from seglab.data.problems import Problem
from seglab.data.sources import BadLabels, BadRows, LeftOut, Outlines
from seglab.data.writer import DatasetWriter
from seglab.pipeline import ahead
from seglab.preprocess import Preprocess
from seglab.tasks import IGNORE

__all__ = ["Converter"]


@dataclass(frozen=True)
class _Outcome:
    """What became of a pair."""

    path: str
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    blank: bool = False
    left_out: bool = False
    taken_up: bool = False
    """Whether an interrupted run had finished it."""


class Converter:
    """Reads, checks, aligns and writes the pairs, in threads."""

    def __init__(
        self,
        plan: Plan,
        max_side: int | None,
        grid: Preprocess | None,
        writer: DatasetWriter | None,
        drop_bad: bool,
    ) -> None:
        self.num_good = 0
        self.num_blank = 0
        self.num_taken_up = 0
        self.photos = PhotoIndex()
        self._plan = plan
        self._max_side = max_side
        self._grid = grid
        self._drop_bad = drop_bad
        # With a problem that nobody allowed nothing will be built, so the rest is only checked.
        self._writer = writer if drop_bad or not plan.findings.problems else None

    def run(self, workers: int) -> Generator[None, None, None]:
        """Convert every pair and put what is noticed into the findings; yields after each."""
        findings = self._plan.findings
        for outcome in ahead(self._convert, self._plan.jobs, workers=workers):
            findings.problems += outcome.problems
            for note in outcome.notes:
                findings.note(note, outcome.path)
            self.num_good += not outcome.problems and not outcome.left_out
            self.num_blank += outcome.blank
            self.num_taken_up += outcome.taken_up
            if outcome.problems and not self._drop_bad:
                self._writer = None
            yield

    def _convert(self, job: Job) -> _Outcome:
        return self._take_up(job) or self._convert_anew(job)

    def _take_up(self, job: Job) -> _Outcome | None:
        """Return what became of a pair that an interrupted run finished."""
        writer = self._writer
        memo = writer.take_up(job.id, job.split, job.item.photo_path) if writer else None
        if memo is None:
            return None
        path = self._relative(job.item.photo_path)
        self.photos.put(job.id, path, None if memo["words"] is None else np.array(memo["words"], np.uint64))
        return _Outcome(path, notes=tuple(memo["notes"]), blank=memo["blank"], taken_up=True)

    def _convert_anew(self, job: Job) -> _Outcome:
        photo_path, label_path = (self._relative(path) for path in (job.item.photo_path, job.item.label_path))
        photo, labels, problems = None, None, []
        try:
            photo = _read(job.item.photo_path, self._max_side, self._grid)
        except ImageError as error:
            problems.append(Problem("unreadable photo", photo_path, error.message))
        try:
            labels = job.item.read_labels()
        except LeftOut as reason:
            return _Outcome(photo_path, notes=(f"left out: {reason.message}",), left_out=True)
        except BadLabels as error:
            problems.append(Problem(error.kind, label_path, error.message, error.values))
        except BadRows as error:
            problems += error.problems
        except ImageError as error:
            problems.append(Problem("unreadable mask", label_path, error.message))
        if photo is None or labels is None:
            return _Outcome(photo_path, tuple(problems))
        return self._fit(job, photo, labels, photo_path)

    def _fit(self, job: Job, photo: "_Photo", labels: NDArray[np.uint8] | Outlines, path: str) -> _Outcome:
        height, width = photo.size_hw
        alignment = align((height, width), photo.orientation, labels.shape, self._max_side)
        if alignment is None:
            detail = f"photo {width}x{height}, mask {labels.shape[1]}x{labels.shape[0]}"
            detail += "" if isinstance(labels, np.ndarray) else f" ({labels.place})"
            return _Outcome(path, (Problem("photo and mask of different shape", path, detail),))
        notes = [*photo.notes, *job.item.notes, *self._said(photo, labels.shape, alignment)]
        fitted = fit_labels(labels, (height, width), photo.orientation, alignment, self._grid)
        try:
            people = _read_people(job.item.people_path, labels.shape)
        except ImageError as error:
            assert job.item.people_path is not None
            people_path = self._relative(job.item.people_path)
            return _Outcome(path, (Problem("unusable ids of people", people_path, error.message),))
        if people is not None:
            people = fit_labels(people, (height, width), photo.orientation, alignment, self._grid)
        blank = not ((fitted > 0) & (fitted < IGNORE)).any()
        if blank:
            notes.append("mask of nothing but background")
        words = self.photos.add(job.id, path, photo.image)
        if self._writer is not None:
            untouched = photo.plain and (height, width) == fitted.shape
            if self._writer.link != "copy" and not untouched:
                notes.append("photo written anew, not linked: it could not stay as it is")
            image = job.item.photo_path if untouched else fit_photo(photo.image, photo.size_hw, alignment, self._grid)
            memo = {"notes": notes, "blank": bool(blank), "words": None if words is None else words.tolist()}
            self._writer.add(job.id, job.split, image, fitted, lossless=photo.lossless, people=people, memo=memo)
        return _Outcome(path, notes=tuple(notes), blank=blank)

    def _said(self, photo: "_Photo", labels_hw: tuple[int, ...], alignment: Alignment) -> Iterator[str]:
        """Yield what is done to a photo and its mask so that they lie on each other."""
        height, width = photo.size_hw
        if alignment.turn_labels:
            yield "mask turned upright with its photo"
        elif photo.orientation > 1 and (photo.orientation < 5 or height == width):
            yield "photo turned upright, mask taken to be so already: their sizes do not tell"
        if self._grid is None and labels_hw not in ((height, width), (width, height)):
            yield "photo resized to its mask"

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._plan.raw_dir).as_posix()


def _read_people(path: Path | None, labels_hw: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """Return who each pixel belongs to, as stored; None where there is no file."""
    if path is None:
        return None
    people = read_labels(path)
    if people.shape != tuple(labels_hw):
        raise ImageError(f"they are {people.shape[1]}x{people.shape[0]}, the mask {labels_hw[1]}x{labels_hw[0]}")
    return people


@dataclass(frozen=True)
class _Photo:
    """A decoded photo and what decides how it is stored."""

    image: NDArray[np.uint8]
    """Perhaps smaller than the photo, where it will be shrunk anyway."""
    size_hw: tuple[int, int]
    orientation: int
    plain: bool
    """Whether the file itself is an upright 8-bit RGB JPEG or PNG that any tool reads the same."""
    lossless: bool
    notes: tuple[str, ...]


def _read(path: Path, max_side: int | None, grid: Preprocess | None) -> _Photo:
    header = open_picture(read_file(path))
    photo = read_photo(header, wanted_hw=wanted_size(header.size_hw, max_side, grid))
    plain = (
        header.format in ("JPEG", "PNG")
        and header.mode == header.rawmode == "RGB"
        and header.num_frames == 1
        and header.orientation == 1
        and "transparency" not in header.pil.info
        and not photo.notes
    )
    return _Photo(photo.image, header.size_hw, header.orientation, plain, not header.is_lossy(), photo.notes)
