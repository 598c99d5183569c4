"""How fast confusion matrices are counted, against the libraries that people use for it.

    python tests/benchmarks/evaluate.py [--size 512] [--classes 11] [--rounds 31]

Every round times every way once, on the same made-up maps (2 % of the truth ignored), so that all see the same noise;
medians are printed. The libraries are called as their users call them, on arrays of the type that they want, converted
before the clock starts. torchmetrics is measured if it is installed. All results are compared before anything is timed.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np
from sklearn.metrics import confusion_matrix

from seglab.evaluation.confusion import confusion


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--classes", type=int, default=11)
    parser.add_argument("--rounds", type=int, default=31)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    truth, prediction = made_up_maps(options.size, options.classes)
    ways = all_ways(truth, prediction, options.classes)
    expected = ways["seglab"]()
    for name, way in ways.items():
        np.testing.assert_array_equal(np.asarray(way()), expected, err_msg=name)
    seconds = interleaved(ways, options.rounds)
    print(f"{options.classes} classes, {options.size}x{options.size}, one thread, median of {options.rounds} rounds")
    for name, median_s in seconds.items():
        print(f"{name:34s} {1000 * median_s:8.3f} ms  {median_s / seconds['seglab']:6.1f}x")


def made_up_maps(size: int, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return regions of all classes and a prediction that is shifted and speckled."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, num_classes, (9, 9)).astype(np.uint8)
    truth = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_NEAREST_EXACT)
    prediction = np.roll(truth, 5, axis=1)
    speckled = rng.random(truth.shape) < 0.03
    prediction[speckled] = rng.integers(0, num_classes, int(speckled.sum()))
    truth[rng.random(truth.shape) < 0.02] = 255
    return truth, prediction


def all_ways(truth: np.ndarray, prediction: np.ndarray, num_classes: int) -> dict[str, Callable[[], object]]:
    labels = np.arange(num_classes)
    return {
        "seglab": lambda: confusion(truth, prediction, num_classes),
        "numpy.bincount on int64 pairs": lambda: bincount(truth, prediction, num_classes),
        "scikit-learn": lambda: scikit_learn(truth, prediction, labels),
        **torchmetrics_ways(truth, prediction, num_classes),
    }


def bincount(truth: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    counted = truth != 255
    joint = truth[counted].astype(np.int64) * num_classes + prediction[counted]
    return np.bincount(joint, minlength=num_classes**2).reshape(num_classes, num_classes)


def scikit_learn(truth: np.ndarray, prediction: np.ndarray, labels: np.ndarray) -> np.ndarray:
    counted = truth != 255  # it knows no label to ignore
    return confusion_matrix(truth[counted], prediction[counted], labels=labels)


def torchmetrics_ways(truth: np.ndarray, prediction: np.ndarray, num_classes: int) -> dict[str, Callable[[], object]]:
    try:
        import torch
        from torchmetrics.classification import MulticlassConfusionMatrix
    except ImportError as error:
        print(f"torchmetrics is not measured: {error}")
        return {}
    torch.set_num_threads(1)
    y, p = torch.from_numpy(truth).long(), torch.from_numpy(prediction).long()
    checked = MulticlassConfusionMatrix(num_classes, ignore_index=255)
    unchecked = MulticlassConfusionMatrix(num_classes, ignore_index=255, validate_args=False)
    return {"torchmetrics": lambda: checked(p, y), "torchmetrics, validate_args=False": lambda: unchecked(p, y)}


def interleaved(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start_s = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start_s)
    return {name: statistics.median(several) for name, several in seconds.items()}


if __name__ == "__main__":
    main()
