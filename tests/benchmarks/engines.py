"""How fast each engine runs one network on the CPU, and how near that is to what the CPU can do.

    python tests/benchmarks/engines.py [--model u2netp] [--size 320] [--batch 1] [--threads 2] [--rounds 15] [--compile]
    python tests/benchmarks/engines.py --ways onnxruntime torch --json

Every way has a process of its own, as the C allocator's settings are a process's, and all of them are held at once. A
round lets each run the network once, alone, so that all see the same noise; a large matrix product among them tells the
peak. Wall time is told with user and system time: on a machine that others use too, the share of the peak in processor
time (2 x operations / (user + sys), against the same of the product) is the steadier one. Medians and the quietest
round. `nice -n -15` in front helps where it is allowed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WAYS = (
    "product",
    "onnxruntime",
    "openvino",
    "torch",
    "torch eager",
    "torch eager, allocator",
    "torch folded, channels last",
    "torch folded, channels last, allocator",
)
COMPILED = "torch --compile"
SIDE = 2048
WARM_UP = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="u2netp", help="a name of the zoo")
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--compile", action="store_true", help="torch.compile as well, which takes minutes to begin")
    parser.add_argument("--ways", nargs="+", choices=[*WAYS, COMPILED], help="only these, and the product")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--work", nargs=2, metavar=("WAY", "BUNDLE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        serve(*options.work, options)
        return
    with tempfile.TemporaryDirectory() as folder:
        gflop = make_bundle(Path(folder), options.model, options.size) * options.batch
        ways = dict.fromkeys(["product", *(options.ways or [*WAYS, *([COMPILED] if options.compile else [])])])
        report(measure(list(ways), Path(folder), options), gflop, options)


def make_bundle(folder: Path, name: str, size: int) -> float:
    """Save a network with its graph and return its 10^9 operations a picture."""
    import torch

    from seglab.models.bundle import BundleConfig, save_bundle
    from seglab.models.export import export_graph
    from seglab.models.zoo import build, row
    from seglab.preprocess import Preprocess
    from seglab.tasks import TASKS

    torch.manual_seed(0)
    task = TASKS["person"]
    config = BundleConfig(task=task, model=name, preprocess=Preprocess(size_hw=(size, size)))
    save_bundle(folder, config, build(name, task.num_classes).state_dict())
    export_graph(folder, verify=False)
    figures = row(name)
    assert figures.gflop is not None
    return figures.gflop * (size / figures.size) ** 2


class Worker:
    """One way in a process of its own."""

    def __init__(self, way: str, folder: Path, options: argparse.Namespace) -> None:
        command = [sys.executable, __file__, "--work", way, str(folder), "--size", str(options.size)]
        command += ["--batch", str(options.batch), "--threads", str(options.threads)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.note = self._answer()["note"]

    def run(self) -> tuple[float, float, float]:
        """Run once; return wall, user and system seconds."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer = self._answer()
        return answer["wall"], answer["user"], answer["sys"]

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a way failed: see above")
        return json.loads(line)  # type: ignore[no-any-return]


def measure(ways: list[str], folder: Path, options: argparse.Namespace) -> dict[str, list[tuple[float, float, float]]]:
    """Return (wall, user, sys) seconds of each round, by way."""
    workers = {}
    for way in ways:
        workers[way] = Worker(way, folder, options)
        print(f"{way}: {workers[way].note}", file=sys.stderr)
    seconds: dict[str, list[tuple[float, float, float]]] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way, worker in workers.items():
            seconds[way].append(worker.run())
    for worker in workers.values():
        worker.close()
    return seconds


def report(
    seconds: dict[str, list[tuple[float, float, float]]], network_gflop: float, options: argparse.Namespace
) -> None:
    title = (
        f"{options.model} {options.size}, batch {options.batch}, {options.threads} threads, {network_gflop:.1f} GFLOP"
    )
    rows: list[dict[str, Any]] = []
    gflops = {way: 2 * SIDE**3 / 1e9 if way == "product" else network_gflop for way in seconds}
    peak = max(gflops["product"] / wall for wall, _, _ in seconds["product"])
    cpu_peak = max(gflops["product"] / (user + system) for _, user, system in seconds["product"])
    for way, rounds in seconds.items():
        wall, user, system = (statistics.median(column) for column in zip(*rounds, strict=True))
        best_wall = min(wall for wall, _, _ in rounds)
        best_cpu = min(user + system for _, user, system in rounds)
        rows.append({
            "way": way, "wall_ms": 1e3 * wall, "best_ms": 1e3 * best_wall, "user_ms": 1e3 * user,
            "sys_ms": 1e3 * system, "gflop_s": gflops[way] / wall, "share": gflops[way] / best_wall / peak,
            "cpu_share": gflops[way] / best_cpu / cpu_peak,
        })  # fmt: skip
    if options.json:
        print(json.dumps({"title": title, "rounds": options.rounds, "rows": rows}))
        return
    print(f"{title}; median of {options.rounds} rounds; shares are of the quietest rounds")
    print(f"{'':40s} {'wall ms':>8} {'best':>7} {'user':>7} {'sys':>6} {'GFLOP/s':>8} {'of peak':>8} {'by CPU':>7}")
    for row in rows:
        print(
            f"{row['way']:40s} {row['wall_ms']:8.0f} {row['best_ms']:7.0f} {row['user_ms']:7.0f} {row['sys_ms']:6.0f}"
            f" {row['gflop_s']:8.1f} {100 * row['share']:7.0f}% {100 * row['cpu_share']:6.0f}%"
        )


def serve(way: str, folder: str, options: argparse.Namespace) -> None:
    """Set a way up, then run it once for every line on stdin."""
    import resource

    start_s = time.perf_counter()
    run = set_up(way, Path(folder), options)
    for _ in range(WARM_UP):
        run()
    print(json.dumps({"note": f"ready after {time.perf_counter() - start_s:.1f} s"}), flush=True)
    for _ in sys.stdin:
        before, start_s = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        run()
        wall, after = time.perf_counter() - start_s, resource.getrusage(resource.RUSAGE_SELF)
        user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
        print(json.dumps({"wall": wall, "user": user, "sys": system}), flush=True)


def set_up(way: str, folder: Path, options: argparse.Namespace) -> Callable[[], object]:
    import numpy as np

    pixels = np.random.default_rng(0).integers(0, 256, (options.batch, options.size, options.size, 3), dtype=np.uint8)
    if way == "product":
        import torch

        torch.set_num_threads(options.threads)
        square = torch.randn(SIDE, SIDE)
        return lambda: square @ square
    if way.startswith("torch ") and way != COMPILED:
        return bare_torch(way, folder, pixels, options.threads)
    from seglab.device import Device
    from seglab.engines import EngineChoice, open_engine

    choice = EngineChoice(way.split()[0], compile=way == COMPILED, threads=options.threads)
    engine, _ = open_engine(folder, Device("cpu", None, "asked for"), choice)
    return lambda: engine(pixels)


def bare_torch(way: str, folder: Path, pixels: Any, threads: int) -> Callable[[], object]:
    """Return the network as torch runs it with some or none of what the engine does for it."""
    import torch

    from seglab.allocator import keep_freed_memory
    from seglab.device import Device
    from seglab.models.bundle import load_network
    from seglab.models.weights import fold_batch_norm

    torch.set_num_threads(threads)
    if "allocator" in way:
        keep_freed_memory()
    network, _ = load_network(folder, Device("cpu", None, "asked for"))
    image = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(255).contiguous()
    if "folded" in way:
        network = fold_batch_norm(network)[0].to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        image = image.to(memory_format=torch.channels_last)

    def run() -> object:
        with torch.inference_mode():
            return network(image)[0].numpy()

    return run


if __name__ == "__main__":
    main()
