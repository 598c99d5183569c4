"""How fast a step of training is on the CPU, against the originals' loops written again plainly.

    python tests/benchmarks/train.py [--cases unet u2netp] [--batch 4] [--steps 2] [--rounds 5] [--workers 2] [--json]

Two cases: U-Net at 256 px with the summed Tversky loss of the face recipe, and U2NETP at 320 px with the seven
cross-entropies of the clothes recipe. The plain loops have the same network, batch, size, loss, optimizer and clipping;
as their originals they read photos with PIL in a DataLoader of as many workers, fit them with torchvision, and step an
eager Adam. Ours is what `seglab train` does with the recipe, at the same precision. Two more ways can be measured:
`ours, bare` is without the setting of the C allocator, which tells what that setting does, and `ours, bf16` is with
`--set precision=bf16`, which is faster where the processor has instructions for it, and nobody's default.

Every way has a process of its own. A round lets each do some steps, alone, so that all see the same noise. The first
rounds, in which memory and caches fill, are not counted. Told are samples a second, the processor's seconds a sample
(on a machine that others use the steadier number), their ratios to the plain loop in the same round, and the share of
our time that is spent waiting for data. On two quiet CPUs it takes about four minutes. On a machine that others use,
`nice -n -15` in front helps where it is allowed, and the processor's seconds tell more than those that passed.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

CASES = {"unet": ("face", "face-unet", 256), "u2netp": ("clothes", "clothes-u2net", 320)}
WAYS = ("plain", "ours", "ours, bare", "ours, bf16")
NUM_PHOTOS = 32
WARM_UP = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS[:2])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=2, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--work", nargs=3, metavar=("WAY", "CASE", "DATA"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        serve(*options.work, options)
        return
    for case in options.cases:
        with tempfile.TemporaryDirectory(prefix="seglab-benchmark-") as folder:
            report(case, measure(case, folder, options), options)


def measure(case: str, folder: str, options: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    from seglab.data.synth import synth
    from seglab.tasks import TASKS

    data_dir = synth(TASKS[CASES[case][0]], NUM_PHOTOS, (512, 512), Path(folder) / "data", seed=0).dir
    command = [sys.executable, __file__, "--batch", str(options.batch), "--steps", str(options.steps)]
    command += ["--workers", str(options.workers), "--threads", str(options.threads), "--work"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads), "SEGLAB_CACHE": folder}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    processes = {
        way: subprocess.Popen(
            [*command, way, case, str(data_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for way in options.ways
    }
    rounds: dict[str, list[dict[str, float]]] = {way: [] for way in options.ways}
    for number in range(WARM_UP + options.rounds):
        for way, process in processes.items():
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            line = process.stdout.readline()
            if not line:
                raise SystemExit(f"{case}, {way} failed: see above")
            if number >= WARM_UP:
                rounds[way].append(json.loads(line))
        print(f"{case}: round {number + 1} of {WARM_UP + options.rounds}", file=sys.stderr)
    for process in processes.values():
        process.communicate()
    return rounds


def report(case: str, rounds: dict[str, list[dict[str, float]]], options: argparse.Namespace) -> None:
    num = options.batch * options.steps
    rows = []
    for way, measured in rounds.items():
        pairs = list(zip(rounds.get("plain", measured), measured, strict=True))
        rows.append({
            "case": case, "way": way,
            "samples_per_s": statistics.median(num / each["wall"] for each in measured),
            "cpu_s_per_sample": statistics.median(each["cpu"] / num for each in measured),
            "times_faster": statistics.median(plain["wall"] / each["wall"] for plain, each in pairs),
            "lowest": min(plain["wall"] / each["wall"] for plain, each in pairs),
            "times_less_cpu": statistics.median(plain["cpu"] / each["cpu"] for plain, each in pairs),
            "wait_share": statistics.median(each["wait"] for each in measured),
            "loss": measured[-1]["loss"],
        })  # fmt: skip
    if options.json:
        print(json.dumps({"rounds": options.rounds, "batch": options.batch, "rows": rows}))
        return
    print(f"{case}, batch {options.batch}, {options.threads} threads, median of {options.rounds} rounds")
    for row in rows:
        print(
            f"  {row['way']:11s} {row['samples_per_s']:6.2f} samples/s ({row['times_faster']:.2f}x, at least "
            f"{row['lowest']:.2f}x), {row['cpu_s_per_sample']:.2f} s of processor each ({row['times_less_cpu']:.2f}x "
            f"less), waits {100 * row['wait_share']:.1f} %, loss {row['loss']:.4g}"
        )


def serve(way: str, case: str, data: str, options: argparse.Namespace) -> None:
    """Do some steps for every line on stdin."""
    step = plain(case, data, options) if way == "plain" else ours(case, data, options, way)
    for _ in sys.stdin:
        before, start_s = _cpu_s(), time.perf_counter()
        results = [step() for _ in range(options.steps)]
        wall = time.perf_counter() - start_s
        wait = sum(waited for _, waited in results) / wall
        print(json.dumps({"wall": wall, "cpu": _cpu_s() - before, "wait": wait, "loss": results[-1][0]}), flush=True)


def _cpu_s() -> float:
    """Return the processor's seconds of this process; DataLoader's workers count when they have ended, so never."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _config(case: str, options: argparse.Namespace) -> Any:
    from seglab.config import TrainConfig
    from seglab.training.recipe import configure, load_recipe

    _, recipe, size = CASES[case]
    config = configure(TrainConfig(), recipe=load_recipe(recipe))
    model = {"model": "u2netp", "model_args": {}} if case == "u2netp" else {}
    return replace(config, size=size, batch_size=options.batch, epochs=10_000, **model)


Step = Callable[[], tuple[float, float]]
"""Does a step; returns the loss and the seconds that it waited for its batch."""


def ours(case: str, data: str, options: argparse.Namespace, way: str) -> Step:
    from seglab.data.loader import TrainingSamples, epoch_batches
    from seglab.data.manifest import open_dataset
    from seglab.device import Device
    from seglab.models.zoo import build
    from seglab.training import environment
    from seglab.training.learner import Learner
    from seglab.training.start import class_weights_of, preprocess_of

    config, dataset, device = _config(case, options), open_dataset(Path(data)), Device("cpu", None, "asked for")
    if way == "ours, bf16":
        config = replace(config, precision="bf16")
    if way == "ours, bare":
        environment.keep_freed_memory = lambda: False
    environment.set_up_torch(device)
    samples = TrainingSamples(dataset, "train", preprocess_of(config), cache="ram")
    for index in range(len(samples)):
        samples.load(index)
    network = build(config.model, dataset.task.num_classes, **config.model_args)
    weights = class_weights_of(config, dataset.task, samples.samples)
    learner = Learner(network, config, preprocess_of(config), device.torch(), class_weights=weights)

    def batches() -> Iterator[Any]:
        for epoch in range(config.epochs):
            yield from epoch_batches(samples, config, epoch, workers=options.workers)

    coming = batches()

    def step() -> tuple[float, float]:
        asked_s = time.perf_counter()
        batch = next(coming)
        waited = time.perf_counter() - asked_s
        learner.step(batch, rate=config.lr, seed=0, decay=0.0)
        return learner.last_loss, waited

    return step


class Photos:
    """A dataset as the originals have it: PIL and torchvision, a sample at a time."""

    def __init__(self, data: str, size: int, *, signed: bool, onehot: bool, num_classes: int) -> None:
        from torchvision import transforms

        self.paths = sorted(Path(data, "train", "images").iterdir())
        self.size, self.onehot, self.num_classes = size, onehot, num_classes
        steps = [transforms.Resize((size, size), transforms.InterpolationMode.BICUBIC), transforms.ToTensor()]
        if signed:
            steps.append(transforms.Normalize([0.5] * 3, [0.5] * 3))
        self.transform = transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        import numpy as np
        import torch
        from PIL import Image
        from torch.nn import functional as F

        path = self.paths[index]
        image = self.transform(Image.open(path).convert("RGB"))
        label = Image.open(path.parents[1] / "labels" / f"{path.stem}.png").resize((self.size, self.size), 0)
        labels = torch.from_numpy(np.array(label)).long()
        if self.onehot:
            labels = F.one_hot(labels, self.num_classes).permute(2, 0, 1).float()
        return image, labels


def plain(case: str, data: str, options: argparse.Namespace) -> Step:
    import torch
    from torch import nn
    from torch.utils.data import DataLoader

    from seglab.data.manifest import open_dataset
    from seglab.models.zoo import build

    torch.set_num_threads(options.threads)
    config, num_classes = _config(case, options), open_dataset(Path(data)).task.num_classes
    is_face = case == "unet"
    network = build(config.model, num_classes, **config.model_args).train()
    photos = Photos(data, config.size, signed=not is_face, onehot=is_face, num_classes=num_classes)
    loader: Any = DataLoader(
        photos, options.batch, shuffle=True, num_workers=options.workers, drop_last=True,  # type: ignore[arg-type]
        persistent_workers=options.workers > 0,
    )  # fmt: skip
    optimizer = torch.optim.Adam(network.parameters(), lr=config.lr)
    weights = None if is_face else torch.tensor(config.class_weights)
    entropy = nn.CrossEntropyLoss(weight=weights)

    def loss_of(outputs: Any, truth: Any) -> Any:
        if not is_face:
            return 1.5 * entropy(outputs[0], truth) + sum(entropy(output, truth) for output in outputs[1:])
        probs = outputs[0].softmax(1)
        overlap, size, true = (probs * truth).sum((2, 3)), probs.sum((2, 3)), truth.sum((2, 3))
        return (1 - overlap / (0.7 * size + 0.3 * true + 1e-7)).sum()

    def endless() -> Iterator[Any]:
        while True:
            yield from loader

    coming = endless()

    def step() -> tuple[float, float]:
        asked_s = time.perf_counter()
        image, truth = next(coming)
        waited = time.perf_counter() - asked_s
        optimizer.zero_grad()
        loss = loss_of(network(image), truth)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), config.clip)
        optimizer.step()
        return loss.item(), waited

    return step


if __name__ == "__main__":
    main()
