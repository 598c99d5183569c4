"""How long a training sample takes, and how long training waits for samples.

    python tests/benchmarks/train_data.py [--data DIR] [--size 320] [--samples 64] [--rounds 9]
    python tests/benchmarks/train_data.py --wait unet-light u2netp --workers 2 --batch 4

Without a prepared dataset one is drawn. Samples are timed in one thread: decoded and fitted to the grid without
augmentation; and augmented, from the files, from memory and from the disk. If albumentations is installed, it makes the
same kind of views (of the same ranges and probabilities) of the same samples in memory; so does torchvision. Every
round lets every way make every sample once, in the views of that epoch, so that all see the same noise. Processor time
is told beside the time that passed: on a machine that others use, it is the steadier one.

With --wait, networks are trained for some steps as `seglab train` does it, on samples in memory after an epoch that
fills it; told is the share of the time in which the step waits for its batch, and what it is if batches are made in
the thread that trains.
"""

import argparse
import importlib.util
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from seglab.config import TrainConfig
from seglab.data.geometry import fit_image, fit_labels
from seglab.data.images import read_labels, read_photo
from seglab.data.loader import TrainingSamples, augmentation_of, epoch_batches
from seglab.data.manifest import Dataset, open_dataset
from seglab.data.synth import synth
from seglab.preprocess import Preprocess
from seglab.strengths import PRESETS
from seglab.tasks import TASKS

Way = Callable[[int, int], object]
"""Makes the view of a sample (first) in an epoch (second)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a prepared dataset")
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--wait", nargs="+", metavar="MODEL", help="train these instead, and tell how long they wait")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=24)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="seglab-benchmark-") as folder:
        os.environ["SEGLAB_CACHE"] = folder
        data_dir = (
            options.data or synth(TASKS["person"], options.samples, (512, 512), Path(folder) / "data", seed=0).dir
        )
        dataset = open_dataset(data_dir)
        dataset = replace(dataset, samples=tuple(dataset.split("train")[: options.samples]))
        preprocess = Preprocess(size_hw=(options.size, options.size))
        print(f"{len(dataset.samples)} samples of {dataset.task.name} to {options.size} px")
        if options.wait:
            for model in options.wait:
                measure_waiting(model, dataset, preprocess, options)
        else:
            cv2.setNumThreads(1)
            show(interleaved(ways(dataset, preprocess), len(dataset.samples), options.rounds))
            measure_rate(dataset, preprocess, options)


def ways(dataset: Dataset, preprocess: Preprocess) -> dict[str, Way]:
    kept = {cache: TrainingSamples(dataset, "train", preprocess, cache=cache) for cache in ("none", "ram", "disk")}

    def plain(index: int, _epoch: int) -> object:
        sample = dataset.samples[index]
        image = read_photo(dataset.image_path(sample)).image
        return fit_image(image, preprocess), fit_labels(read_labels(dataset.label_path(sample)), preprocess)

    def augmented(cache: str, preset: str, **more: float) -> Way:
        samples = kept[cache]
        strengths = replace(PRESETS[preset], **more)
        augmentation = augmentation_of(samples, TrainConfig(augment=strengths))
        return lambda index, epoch: augmentation(*samples.load(index), epoch=epoch, name=dataset.samples[index].id)

    found: dict[str, Way] = {
        "from files, no augmentation": plain,
        "from files, standard": augmented("none", "standard"),
        "from memory, light": augmented("ram", "light"),
        "from memory, standard": augmented("ram", "standard"),
        "from disk, standard": augmented("disk", "standard"),
        "from memory, strong": augmented("ram", "strong"),
        "from memory, strong, background 0.3": augmented("ram", "strong", background=0.3),
        "from memory, standard, elastic 0.2": augmented("ram", "standard", elastic=0.2),
        "from memory, torchvision": torchvision_way(kept["ram"], preprocess),
    }
    if importlib.util.find_spec("albumentations"):
        found["from memory, albumentations"] = albumentations_way(kept["ram"], preprocess)
    return found


def albumentations_way(samples: TrainingSamples, preprocess: Preprocess) -> Way:
    import albumentations as a

    height, width = preprocess.size_hw
    views = a.Compose(
        [
            a.Affine(
                scale=(0.67, 1.65), translate_percent=(-0.15, 0.15), rotate=(-15, 15), shear=0, p=1.0, fill_mask=255,
                border_mode=cv2.BORDER_REFLECT_101,
            ),
            a.Resize(height, width, interpolation=cv2.INTER_AREA),
            a.ColorJitter(brightness=0.12, contrast=0.25, saturation=0.35, hue=0.025, p=1.0),
            a.RandomGamma(gamma_limit=(74, 135), p=1.0),
            a.ToGray(p=0.08),
            a.CoarseDropout(
                num_holes_range=(1, 1), hole_height_range=(0.1, 0.35), hole_width_range=(0.1, 0.35), fill="random",
                fill_mask=255, p=0.2,
            ),
            a.OneOf([a.MotionBlur(blur_limit=(3, 13), p=0.5), a.GaussianBlur(sigma_limit=(0.4, 1.5), p=1.0)], p=0.12),
            a.Downscale(scale_range=(0.33, 0.8), p=0.08),
            a.GaussNoise(std_range=(2 / 255, 10 / 255), p=0.12),
            a.ImageCompression(quality_range=(30, 90), p=0.12),
            a.HorizontalFlip(p=0.5),
        ]
    )  # fmt: skip

    def view(index: int, _epoch: int) -> object:
        image, labels = samples.load(index)
        return views(image=image, mask=labels)

    return view


def torchvision_way(samples: TrainingSamples, preprocess: Preprocess) -> Way:
    import torch
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    torch.set_num_threads(1)
    views = v2.Compose(
        [
            v2.RandomAffine(
                15, translate=(0.15, 0.15), scale=(0.67, 1.65), interpolation=v2.InterpolationMode.BILINEAR
            ),
            v2.Resize(list(preprocess.size_hw), antialias=True),
            v2.ColorJitter(brightness=0.12, contrast=0.25, saturation=0.35, hue=0.025),
            v2.RandomGrayscale(0.08),
            v2.RandomErasing(0.2, scale=(0.01, 0.12)),
            v2.RandomApply([v2.GaussianBlur(9, (0.4, 1.5))], 0.12),
            v2.RandomApply([v2.JPEG((30, 90))], 0.12),
            v2.RandomHorizontalFlip(0.5),
        ]
    )

    def view(index: int, _epoch: int) -> object:
        image, labels = samples.load(index)
        picture = tv_tensors.Image(torch.from_numpy(image.copy()).permute(2, 0, 1))
        return views(picture, tv_tensors.Mask(torch.from_numpy(labels.copy())[None]))

    return view


def interleaved(ways: dict[str, Way], num_samples: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Return the median ms a sample of every way, after one round to warm up: passed, and of the processor."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for epoch in range(rounds + 1):
        for name, way in ways.items():
            start, start_cpu = time.perf_counter(), time.process_time()
            for index in range(num_samples):
                way(index, epoch)
            spent = time.perf_counter() - start, time.process_time() - start_cpu
            if epoch:
                times[name].append((1000 * spent[0] / num_samples, 1000 * spent[1] / num_samples))
    return {name: tuple(map(statistics.median, zip(*several, strict=True))) for name, several in times.items()}


def show(times: dict[str, tuple[float, float]]) -> None:
    print(f"{'ms a sample, one thread':38s} {'passed':>8s} {'processor':>10s} {'of standard':>12s}")
    base = times["from memory, standard"][1]
    for name, (passed, processor) in times.items():
        print(f"  {name:36s} {passed:8.2f} {processor:10.2f} {processor / base:11.2f}x")


def measure_rate(dataset: Dataset, preprocess: Preprocess, options: argparse.Namespace) -> None:
    """Tell how many samples a second there would be for a network that takes no time."""
    config = TrainConfig(batch_size=options.batch)
    samples = TrainingSamples(dataset, "train", preprocess)
    rates: dict[int, list[tuple[float, float]]] = {workers: [] for workers in range(options.workers + 1)}
    for epoch in range(options.rounds + 1):
        for workers, several in rates.items():
            start, start_cpu = time.perf_counter(), time.process_time()
            num = sum(len(batch) for batch in epoch_batches(samples, config, epoch, workers=workers))
            if epoch:
                several.append((num / (time.perf_counter() - start), 1000 * (time.process_time() - start_cpu) / num))
    for workers, several in rates.items():
        rate, processor = map(statistics.median, zip(*several, strict=True))
        best = max(several)[0]
        print(f"{workers} workers: {rate:.0f} samples/s, at best {best:.0f}; {processor:.2f} ms of processor a sample")


def measure_waiting(model: str, dataset: Dataset, preprocess: Preprocess, options: argparse.Namespace) -> None:
    import torch

    from seglab.device import choose_device
    from seglab.models.zoo import build
    from seglab.training.learner import Learner
    from seglab.training.meter import Meter

    device = choose_device(None).torch()
    config = TrainConfig(model=model, size=options.size, batch_size=options.batch)
    samples = TrainingSamples(dataset, "train", preprocess)
    for _ in epoch_batches(samples, config, 0, workers=options.workers):
        pass
    torch.manual_seed(0)
    learner = Learner(build(model, dataset.task.num_classes), config, preprocess, device)
    for workers in (options.workers, 0):
        meter, epoch = Meter(), 0
        seen: list[float] = []
        while len(seen) < options.steps:
            epoch += 1
            batches = epoch_batches(samples, config, epoch, workers=workers)
            for batch in meter.waiting_for(batches):
                learner.step(batch, rate=1e-3, seed=0, decay=0.9)
                meter.num_images += len(batch)
                seen.append(learner.last_loss)
                if len(seen) >= options.steps:
                    break
            batches.close()
        learner.check()
        meter.stop()
        assert np.isfinite(learner.last_loss)
        print(
            f"{model} on {device}, batches of {options.batch}, {workers} workers: "
            f"{meter.images_per_s:.2f} images/s, waits {meter.wait_share:.1%} of the time"
        )


if __name__ == "__main__":
    main()
