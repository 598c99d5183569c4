"""Does memory stay flat over very many photos? `python -m tests.soak.predictions [--num 20000] [--most-mb 20]`.

Predicts as many small drawn photos in one process, follows its memory by what the system counts, and compares the end
with what it was when a tenth was done. Then the same command is run again, which must do nothing.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from seglab.tasks import TASKS
from tests.inference.test_real_model import write_graph

TOP = Path(__file__).parents[2]
DISTINCT = 50


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=20_000)
    parser.add_argument("--most-mb", type=float, default=20.0, help="what memory may grow by")
    parser.add_argument("--command", choices=("predict", "cutout"), default="predict")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        lay_out(work, options.num)
        command = [sys.executable, "-m", "seglab", options.command, "photos", "-o", "out", "--model", "model.onnx"]
        done, grown = follow([*command, "--skip-existing"], work, options.num)
        start = time.perf_counter()
        again = subprocess.run(
            [*command, "--skip-existing"], cwd=work, env=environment(), capture_output=True, check=True
        )
        seconds = time.perf_counter() - start
    print(f"{done} of {options.num} photos; memory grew by {grown:.1f} MB after a tenth of them was done")
    print(f"the same command again: {seconds:.1f} s: {again.stderr.decode().strip().splitlines()[-1]}")
    return int(done != options.num or grown > options.most_mb)


def lay_out(work: Path, num: int) -> None:
    """Draw a few photos of 48 x 64 and give them many names."""
    rng = np.random.default_rng(0)
    write_graph(work / "model.onnx", TASKS["person"])
    (work / "photos").mkdir()
    for i in range(min(num, DISTINCT)):
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8)).save(work / f"{i}.jpg")
    for i in range(num):
        os.link(work / f"{i % DISTINCT}.jpg", work / "photos" / f"{i:06}.jpg")


def follow(command: list[str], work: Path, num: int) -> tuple[int, float]:
    """Run to the end; return how many results there are, and by how many MB the process grew after a tenth of them."""
    early = late = 0.0
    with subprocess.Popen(command, cwd=work, env=environment(), stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            time.sleep(0.25)
            used = memory_mb(process.pid)
            if used and num_results(work) < num // 10:
                early = max(early, used)
            late = max(late, used)
    assert process.returncode == 0
    return num_results(work), late - early


def num_results(work: Path) -> int:
    try:
        with os.scandir(work / "out") as entries:
            return sum(entry.name.endswith(".png") for entry in entries)
    except FileNotFoundError:
        return 0


def memory_mb(pid: int) -> float:
    """Return a process's resident memory; 0 once it has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    lines = [line.split()[1] for line in text.splitlines() if line.startswith("VmRSS")]
    return int(lines[0]) / 1024 if lines else 0.0


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(TOP)}


if __name__ == "__main__":
    sys.exit(main())
