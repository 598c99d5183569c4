"""How fast iMaterialist is prepared, against a straightforward re-writing of what the original's loader does.

    python tests/benchmarks/prepare.py [--photos 64] [--instances 8] [--size 768] [--rounds 3]

The photos are made up: 3000x2000 JPEGs of 1 MB, with wavy outlines as run lengths. The original's way decodes each
mask into a full-size picture by Python slices, shrinks it with Pillow, and adds the masks up; the photo is decoded and
shrunk by Pillow; both are saved by Pillow, as JPEG and PNG. `seglab prepare` is timed whole: it also finds the files,
checks them, writes durably, reads them back, and makes manifest and preview.

Every round times every way once, so that all see the same noise; medians are printed, of the time that passed and of
the processor's. OpenCV gets one thread; bind the process to one core (taskset) for the figures of one. Before anything
is timed, the labels by the original rules are compared with the re-writing pixel by pixel.
"""

import argparse
import csv
import itertools
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from seglab.data.prepare import prepare
from seglab.data.rle import encode_kaggle, from_mask
from seglab.data.sources import SourceOptions, imaterialist
from seglab.tasks import TASKS

HEIGHT, WIDTH = 2000, 3000
CATEGORIES = ("0", "6_3", "10_12_80", "4", "31", "8", "23", "1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=64)
    parser.add_argument("--instances", type=int, default=8)
    parser.add_argument("--size", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(prefix="seglab-benchmark-") as folder:
        raw_dir = Path(folder) / "raw"
        make_raw(raw_dir, options.photos, options.instances)
        rows = read_rows(raw_dir / "train.csv")
        compare(raw_dir, rows, options.size)
        what = f"{options.photos} photos of {WIDTH}x{HEIGHT}, {options.instances} instances each, to {options.size} px"
        print(f"{what}; ms a photo, median of {options.rounds} rounds")
        for title, ways in (
            ("labels alone", label_ways(raw_dir, rows, options.size)),
            ("photo and labels, written", whole_ways(raw_dir, Path(folder) / "out", rows, options.size)),
        ):
            show(title, interleaved(ways, options.rounds), options.photos)


def make_raw(raw_dir: Path, num_photos: int, num_instances: int) -> None:
    """Write photos and the CSV."""
    rng = np.random.default_rng(0)
    (raw_dir / "train").mkdir(parents=True)
    with (raw_dir / "train.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(("ImageId", "EncodedPixels", "Height", "Width", "ClassId"))
        for number in range(num_photos):
            name = f"{number:032x}.jpg"
            texture = cv2.resize(rng.integers(0, 256, (250, 375, 3), np.uint8), (WIDTH, HEIGHT))
            noise = cv2.resize(rng.normal(0, 4, (HEIGHT // 2, WIDTH // 2, 3)).astype(np.float32), (WIDTH, HEIGHT))
            photo = np.clip(texture * np.float32(0.5) + 60 + noise, 0, 255).astype(np.uint8)
            Image.fromarray(photo).save(raw_dir / "train" / name, quality=85)
            for instance in range(num_instances):
                category = CATEGORIES[instance % len(CATEGORIES)]
                writer.writerow((name, encode_kaggle(from_mask(blob(rng))), HEIGHT, WIDTH, category))


def blob(rng: np.random.Generator) -> np.ndarray:
    """Return a full-size mask with a wavy outline, as large as a garment on a person."""
    angles = np.linspace(0, 2 * math.pi, 400, endpoint=False)
    radius = 1 + sum(rng.normal(0, 0.25 / k) * np.sin(k * angles + rng.uniform(0, 6)) for k in range(2, 20))
    centre = rng.uniform((0.3, 0.3), (0.7, 0.7)) * (WIDTH, HEIGHT)
    sides = rng.uniform(0.06, 0.2) * WIDTH, rng.uniform(0.1, 0.35) * HEIGHT
    points = np.stack([centre[0] + sides[0] * radius * np.cos(angles), centre[1] + sides[1] * radius * np.sin(angles)])
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.fillPoly(mask, [points.T.astype(np.int32)], 1)
    return mask


def read_rows(path: Path) -> dict[str, list[tuple[str, str]]]:
    """Return runs and ClassId of every row by photo."""
    csv.field_size_limit(sys.maxsize)
    rows: dict[str, list[tuple[str, str]]] = {}
    with path.open(newline="") as handle:
        for row in csv.DictReader(handle):
            rows.setdefault(row["ImageId"], []).append((row["EncodedPixels"], row["ClassId"]))
    return rows


def original_labels(rows: list[tuple[str, str]], size: int) -> np.ndarray:
    """What the original's loader makes of the rows of a photo, its arrays and loops included."""
    masks = np.zeros((len(rows), size, size), np.uint8)
    for number, (encoded, _) in enumerate(rows):
        full = Image.fromarray(original_decode(encoded, (HEIGHT, WIDTH)))
        masks[number] = np.array(full.resize((size, size), resample=Image.Resampling.BICUBIC))
    kept = []
    for mask, (_, category) in zip(masks, rows, strict=True):
        there = np.where(mask)
        if there[0].size and np.ptp(there[1]) >= 20 and np.ptp(there[0]) >= 20:
            kept.append((mask, int(category.split("_")[0]) + 1))
    if not kept:
        kept = [(masks[0], 0)]
    channels = np.zeros((3, size, size), np.uint8)
    for mask, label in kept:
        for channel, classes in enumerate(([0, 1, 2, 3, 4, 5], [6, 7, 8], [9, 10, 11, 12])):
            if label in classes:
                channels[channel] += mask
    first, second, third = (channels > 0).astype("uint8")
    labels = first + second * 2 + third * 3
    fits = (labels <= 3).astype("uint8")
    return fits * labels + (1 - fits) * 1


def original_decode(encoded: str, size_hw: tuple[int, int]) -> np.ndarray:
    numbers = encoded.split()
    starts, lengths = (np.asarray(values, dtype=int) for values in (numbers[0::2], numbers[1::2]))
    starts = starts - 1
    flat = np.zeros(size_hw[0] * size_hw[1], dtype=np.uint8)
    for start, end in zip(starts, starts + lengths, strict=True):
        flat[start:end] = 1
    return flat.reshape(size_hw[1], size_hw[0]).T


def label_ways(raw_dir: Path, rows: dict[str, list[tuple[str, str]]], size: int) -> dict[str, Callable[[], object]]:
    """Both start from the text of the rows; seglab reads it from the file again, a photo at a time."""

    def seglab(rules: str) -> Callable[[], object]:
        options = SourceOptions(TASKS["clothes"], rules=rules, size=size)
        items = imaterialist.scan(raw_dir, options).items
        return lambda: [item.read_labels().draw((size, size)) for item in items]

    return {
        "seglab": seglab("documented"),
        "seglab, rules of the original": seglab("original"),
        "original's way": lambda: [original_labels(several, size) for several in rows.values()],
    }


def whole_ways(
    raw_dir: Path, out_dir: Path, rows: dict[str, list[tuple[str, str]]], size: int
) -> dict[str, Callable[[], object]]:
    def seglab(workers: int) -> Callable[[], object]:
        places = (out_dir / f"{workers}-{number}" for number in itertools.count())
        return lambda: prepare(raw_dir, next(places), source="imaterialist", size=size, workers=workers)

    def original() -> None:
        out_dir.with_name("original").mkdir(exist_ok=True)
        for name, several in rows.items():
            photo = Image.open(raw_dir / "train" / name).convert("RGB")
            photo = photo.resize((size, size), resample=Image.Resampling.BICUBIC)
            path = out_dir.with_name("original") / name
            photo.save(path, quality=95)
            Image.fromarray(original_labels(several, size)).save(path.with_suffix(".png"))

    return {"seglab prepare": seglab(0), "seglab prepare, two workers": seglab(2), "original's way": original}


def compare(raw_dir: Path, rows: dict[str, list[tuple[str, str]]], size: int) -> None:
    options = SourceOptions(TASKS["clothes"], rules="original", size=size)
    for item in imaterialist.scan(raw_dir, options).items:
        labels = item.read_labels().draw((size, size))
        np.testing.assert_array_equal(labels, original_labels(rows[item.photo_path.name], size), err_msg=item.name)


def interleaved(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """Return the median seconds of every way: passed, and of the processor."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start_s, start_cpu_s = time.perf_counter(), time.process_time()
            way()
            seconds[name].append((time.perf_counter() - start_s, time.process_time() - start_cpu_s))
    return {name: tuple(map(statistics.median, zip(*several, strict=True))) for name, several in seconds.items()}


def show(title: str, seconds: dict[str, tuple[float, float]], num_photos: int) -> None:
    print(f"{title:34s} {'passed':>10s} {'':>8s} {'processor':>10s}")
    slowest = seconds["original's way"]
    for name, medians in seconds.items():
        columns = (
            f"{1000 * s / num_photos:8.1f} ms {slow / s:6.1f}x" for s, slow in zip(medians, slowest, strict=True)
        )
        print(f"  {name:32s} {'  '.join(columns)}")


if __name__ == "__main__":
    main()
