"""A week of nightly retraining in minutes: `python -m tests.soak.week [--days 7]`.

Every day `examples/cron_retrain.sh` is started twice, the second time while the first is at work; on every third day
the first is killed with all that it started, and started again. Somebody else uses the served model the whole time.
Told is every start that did not end as it should, every use that failed, and whatever was left lying about.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

TOP = Path(__file__).parents[2]
TINY = ("--model", "unet-light", "--set", "model_args={width=2}", "--size", "32", "--batch-size", "4", "--epochs", "3")
DONE, NOT_BETTER, BUSY = 0, 1, 5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=7)
    days = parser.parse_args().days
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        lay_out(work)
        uses: Counter[str] = Counter()
        ended = threading.Event()
        user = threading.Thread(target=use_served, args=(work, uses, ended))
        user.start()
        wrong = [message for day in range(1, days + 1) for message in one_day(work, day)]
        ended.set()
        user.join()
        wrong += check(work, days)
    print(f"{days} days; the served model was used {uses['good']} times; {uses['bad']} uses failed")
    print("\n".join(wrong) or "nothing else went wrong")
    return int(bool(wrong) or uses["bad"] > 0 or not uses["good"])


def lay_out(work: Path) -> None:
    """Draw data, and put programs before those of the machine: seglab, and a calendar that is turned by hand."""
    (work / "bin").mkdir()
    for name, line in (("seglab", f'exec "{sys.executable}" -m seglab "$@"'), ("date", f'cat "{work}/today"')):
        (work / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
        (work / "bin" / name).chmod(0o755)
    subprocess.run(
        ["seglab", "synth", "data", "--task", "person", "-n", "24", "--size", "48"],
        cwd=work, env=environment(work), check=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def one_day(work: Path, day: int) -> list[str]:
    """Start the night's work twice, and on some days kill it; return what did not end as it should."""
    (work / "today").write_text(f"2030-01-{day:02}\n")
    wrong = []
    first = start(work)
    wait_for_lock(work / "runs" / f"person-2030-01-{day:02}")
    second = start(work)
    if day % 3 == 0:
        os.killpg(first.pid, signal.SIGKILL)
        second.wait()
        first.wait()
        first = start(work)
    codes = first.wait(), second.wait()
    fine = {DONE, NOT_BETTER}
    if codes[0] not in fine or codes[1] not in fine | {BUSY} or (day % 3 and codes[1] != BUSY):
        wrong.append(f"day {day}: the starts ended with {codes}")
    return wrong


def start(work: Path) -> "subprocess.Popen[bytes]":
    line = [str(TOP / "examples" / "cron_retrain.sh"), "person", "data", "served", "10m", "0.0", *TINY]
    return subprocess.Popen(
        line,
        cwd=work,
        env=environment(work),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_for_lock(run: Path) -> None:
    """Wait until a training has taken its folder."""
    for _ in range(600):
        if (run / "train.json").exists():
            return
        time.sleep(0.1)


def use_served(work: Path, uses: "Counter[str]", ended: threading.Event) -> None:
    """Use the served model again and again, from when there is one."""
    photo = next((work / "data").glob("*/images/*"))
    while not ended.is_set():
        if not (work / "served").exists():
            time.sleep(0.2)
            continue
        command = ["seglab", "predict", "--model", "served", str(photo), "-o", "used", "--overwrite"]
        done = subprocess.run(command, cwd=work, env=environment(work), capture_output=True, check=False)
        uses["good" if done.returncode == 0 else "bad"] += 1
        if done.returncode:
            print(done.stderr.decode(errors="replace"), file=sys.stderr)


def check(work: Path, days: int) -> list[str]:
    """Return what is wrong with what is left at the end."""
    wrong = [f"left behind: {path.relative_to(work)}" for path in work.rglob("*.part")]
    for run in sorted((work / "runs").glob("person-*/")):
        for name in ("model.safetensors", "model.onnx", "config.json"):
            if not (run / name).is_file():
                wrong.append(f"{run.name} has no {name}")
    num_runs = len(list((work / "runs").glob("person-*/")))
    if num_runs != days:
        wrong.append(f"{num_runs} runs in {days} days")
    return wrong


def environment(work: Path) -> dict[str, str]:
    path = f"{work / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(TOP), "RUNS": "runs", "SEGLAB_CACHE": str(work / "cache")}


if __name__ == "__main__":
    assert shutil.which("bash")
    sys.exit(main())
