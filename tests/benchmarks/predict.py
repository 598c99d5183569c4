"""How fast `seglab cutout` is beside `rembg`, with one and the same U2NETP graph, from the shell.

    python tests/benchmarks/predict.py --photos FOLDER [--rembg PYTHON] [--num 40] [--large 4] [--rounds 3] [--json]

Three things are timed as whole processes, start-up included: a folder of photos as they are, a folder of photos of 6
and 12 megapixels (the same ones, enlarged, with a sensor's noise), and one photo. A round runs every program once on a
set, in turn, so that all see the same noise of the machine; told are medians, user + system time beside wall, and the
ratio of wall times within a round. PYTHON is the interpreter of an environment that has rembg; without one only seglab
is timed. `--only SET` takes a part.

The weights are random, which makes no difference to a network's time, and would make a mask of noise. So that what
follows the network has a person's worth of edges to work on, both graphs end in one added constant: the outline of a
figure.
"""

import argparse
import compileall
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SIDE = 320
SIZES_HW = ((2000, 3000), (3000, 4000))
NOISE = 3.0
"""Levels of 255."""
SETS = ("photos", "large", "one")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="a folder of JPEGs")
    parser.add_argument("--rembg", help="the python of an environment with rembg")
    parser.add_argument("--num", type=int, default=40, help="how many of them")
    parser.add_argument("--large", type=int, default=4, help="how many are enlarged, to each size")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--png-small", action="store_true", help="time `--png small` as well")
    parser.add_argument("--bf16", action="store_true", help="time `--engine openvino --precision bf16` as well")
    parser.add_argument("--embedded", action="store_true", help="time the weights that come with seglab as well")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--work", nargs=2, metavar=("WHAT", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        serve(options.work[0], Path(options.work[1]), options)
        return
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        ask("prepare", work)
        programs = find_programs(options, work)
        rounds = [measure(programs, work, set_name) for set_name in options.only for _ in range(options.rounds)]
        report([row for rows in rounds for row in rows], sizes(work), float(ask("network", work)), options)


def ask(what: str, work: Path) -> str:
    """Do something heavy in a process of its own: what a process is started from counts into its peak memory."""
    command = [sys.executable, __file__, *sys.argv[1:], "--work", what, str(work)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout


def serve(what: str, work: Path, options: argparse.Namespace) -> None:
    if what == "network":
        print(network_ms(work))
        return
    with contextlib.redirect_stdout(sys.stderr):
        install(work)
        make_graphs(work)
        make_photos(options.photos, work, options.num, options.large)


def install(work: Path) -> None:
    """Put the package where it is compiled, as an installed one is; a checkout may not keep what Python compiles."""
    shutil.copytree(ROOT / "seglab", work / "site" / "seglab", ignore=shutil.ignore_patterns("__pycache__"))
    if not compileall.compile_dir(work / "site", quiet=1):
        raise SystemExit("the package cannot be compiled")


def make_graphs(work: Path) -> None:
    """Write `model.onnx` for seglab and `rembg.onnx`, of one network, with a figure's outline added at their ends."""
    import numpy as np
    import onnx
    import torch

    from seglab.models.bundle import BundleConfig, save_bundle
    from seglab.models.export import ExportOptions, export_model
    from seglab.models.zoo import build
    from seglab.preprocess import Preprocess
    from seglab.tasks import TASKS

    torch.manual_seed(0)
    task = TASKS["person"]
    config = BundleConfig(task=task, model="u2netp", preprocess=Preprocess(size_hw=(SIDE, SIDE)))
    save_bundle(work / "bundle", config, build("u2netp", task.num_classes).state_dict())
    logit = figure()
    forms = {
        "model.onnx": (ExportOptions(size_hw=(SIDE, SIDE)), logit * [[[0]], [[1]]]),
        "rembg.onnx": (ExportOptions(profile="rembg"), 1 / (1 + 2.718281828 ** -logit[None])),
    }
    for name, (form, constant) in forms.items():
        export_model(work / "bundle", work / name, form, verify=False)
        graph = onnx.load(work / name)
        output = graph.graph.output[0].name
        for node in graph.graph.node:
            node.output[:] = ["network" if value == output else value for value in node.output]
        for value, tensor in (("faint", 1e-4), ("figure", constant)):
            graph.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(tensor, np.float32), value))
        graph.graph.node.append(onnx.helper.make_node("Mul", ["network", "faint"], ["fainter"]))
        graph.graph.node.append(onnx.helper.make_node("Add", ["fainter", "figure"], [output]))
        onnx.checker.check_model(graph)
        onnx.save(graph, work / name)


def figure() -> Any:
    """Return the logits of a person from the waist up, as soft as a network's at this size."""
    import cv2
    import numpy as np

    mask = np.zeros((SIDE, SIDE), np.uint8)
    cv2.ellipse(mask, (160, 110), (48, 62), 0, 0, 360, 255, -1)
    cv2.ellipse(mask, (160, 330), (110, 165), 0, 0, 360, 255, -1)
    probs = cv2.GaussianBlur(mask.astype(np.float32) / 255, (0, 0), 1.5).clip(1e-4, 1 - 1e-4)
    return np.log(probs / (1 - probs))


def make_photos(folder: Path, work: Path, num: int, num_large: int) -> None:
    import cv2
    import numpy as np

    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))[:num]
    if not paths:
        raise SystemExit(f"no JPEGs in {folder}")
    for name in SETS:
        (work / name).mkdir()
    for path in paths:
        (work / "photos" / path.name).write_bytes(path.read_bytes())
    for height, width in SIZES_HW:
        for path in paths[:num_large]:
            enlarged = cv2.resize(cv2.imread(str(path)), (width, height), interpolation=cv2.INTER_CUBIC)
            # A sensor's noise: without it a PNG of an enlarged photo is much smaller and sooner done than a camera's.
            noisy = enlarged + np.random.default_rng(0).normal(0, NOISE, enlarged.shape).astype(np.float32)
            enlarged = noisy.clip(0, 255).astype(np.uint8)
            cv2.imwrite(str(work / "large" / f"{height}-{path.name}"), enlarged, [cv2.IMWRITE_JPEG_QUALITY, 90])
    (work / "one" / "photo.jpg").write_bytes(paths[0].read_bytes())


def find_programs(options: argparse.Namespace, work: Path) -> dict[str, list[str]]:
    programs = {"seglab": [sys.executable, "-m", "seglab", "cutout", "--model", str(work / "model.onnx")]}
    if options.png_small:
        programs["seglab --png small"] = [*programs["seglab"], "--png", "small"]
    if options.bf16:
        programs["seglab, bf16"] = [*programs["seglab"], "--engine", "openvino", "--precision", "bf16"]
    if options.embedded:
        programs["seglab, embedded"] = [sys.executable, "-m", "seglab", "cutout"]
    reason = ""
    if not options.rembg:
        reason = "no `--rembg PYTHON` is named"
    elif subprocess.run([options.rembg, "-c", "import rembg.cli"], capture_output=True, check=False).returncode:
        reason = f"{options.rembg} cannot import rembg"
    if reason:
        print(f"rembg is skipped: {reason}", file=sys.stderr)
    else:
        code = "import sys; from rembg.cli import main; sys.argv[0] = 'rembg'; main()"
        programs["rembg"] = [options.rembg, "-c", code]
    return programs


def command(program: str, words: list[str], work: Path, set_name: str, out: Path) -> list[str]:
    photo = work / "one" / "photo.jpg"
    if program != "rembg":
        return (
            [*words, str(photo), "-o", f"{out}.png"]
            if set_name == "one"
            else [*words, f"{work / set_name}", "-o", f"{out}"]
        )
    custom = ["-m", "u2net_custom", "-x", json.dumps({"model_path": str(work / "rembg.onnx")})]
    if set_name == "one":
        return [*words, "i", *custom, str(photo), f"{out}.png"]
    return [*words, "p", *custom, str(work / set_name), str(out)]


def measure(programs: dict[str, list[str]], work: Path, set_name: str) -> list[dict[str, Any]]:
    """Run every program once on a set."""
    rows = []
    number = len(list((work / set_name).iterdir()))
    for program, words in programs.items():
        with tempfile.TemporaryDirectory(dir=work) as folder:
            out = Path(folder) / "out"
            if program == "rembg" and set_name != "one":
                out.mkdir()
            environment = {
                **os.environ,
                "PYTHONPATH": f"{work / 'site'}",
                "U2NET_HOME": str(work),
                "SEGLAB_DEVICE": "cpu",
            }
            if program == "rembg":
                del environment["PYTHONPATH"]
            start_s = time.perf_counter()
            process = subprocess.Popen(
                command(program, words, work, set_name, out), env=environment, stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE, cwd=folder,
            )  # fmt: skip
            assert process.stderr is not None
            errors = process.stderr.read()
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - start_s
            written = [path for path in Path(folder).rglob("*.png") if not path.name.startswith(".")]
            if status or len(written) != number:
                raise SystemExit(f"{program} wrote {len(written)} of {number}:\n{errors.decode()}")
            num_bytes = sum(path.stat().st_size for path in written)
        rows.append({
            "set": set_name, "program": program, "wall": wall, "cpu": usage.ru_utime + usage.ru_stime,
            "peak_mb": usage.ru_maxrss / 1024, "photos": number, "bytes": num_bytes,
        })  # fmt: skip
        print(f"{set_name}: {program} {wall:.2f} s", file=sys.stderr)
    return rows


def network_ms(work: Path, num: int = 12) -> float:
    """Return what the network alone takes, in the engine, once it is warm."""
    import numpy as np

    from seglab.device import Device
    from seglab.engines import open_engine

    engine, _ = open_engine(work / "model.onnx", Device("cpu", None, "asked for"))
    pixels = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), dtype=np.uint8)
    times = []
    for _ in range(num + 2):
        start_s = time.perf_counter()
        engine(pixels)
        times.append(1000 * (time.perf_counter() - start_s))
    return statistics.median(times[2:])


def sizes(work: Path) -> dict[str, int]:
    return {name: len(list((work / name).iterdir())) for name in SETS}


def report(rows: list[dict[str, Any]], numbers: dict[str, int], network: float, options: argparse.Namespace) -> None:
    table = []
    for set_name in options.only:
        programs = dict.fromkeys(row["program"] for row in rows)
        walls = {name: [r["wall"] for r in rows if (r["set"], r["program"]) == (set_name, name)] for name in programs}
        for name in programs:
            own = [row for row in rows if (row["set"], row["program"]) == (set_name, name)]
            ratios = [a / b for a, b in zip(walls.get("rembg", []), walls[name], strict=False)]
            table.append({
                "set": set_name, "program": name, "photos": numbers[set_name],
                **{key: statistics.median(row[key] for row in own) for key in ("wall", "cpu", "peak_mb", "bytes")},
                "times_rembg": statistics.median(ratios) if ratios else None,
                "times_rembg_range": [min(ratios), max(ratios)] if ratios else None,
            })  # fmt: skip
    if options.json:
        print(json.dumps({"network_ms": network, "rounds": options.rounds, "rows": table}))
        return
    print(f"medians of {options.rounds} rounds; the network alone takes {network:.0f} ms a photo")
    heads = f"{'photos':>7}{'wall s':>8}{'user+sys':>10}{'photos/s':>10}{'peak MB':>9}{'MB out':>8}"
    print(f"{'':8}{'':22}{heads}  times rembg")
    for row in table:
        low, high = row["times_rembg_range"] or (None, None)
        ratio = f"{row['times_rembg']:.2f} ({low:.2f}..{high:.2f})" if row["times_rembg"] else "-"
        print(
            f"{row['set']:8}{row['program']:22}{row['photos']:7}{row['wall']:8.2f}{row['cpu']:10.2f}"
            f"{row['photos'] / row['wall']:10.2f}{row['peak_mb']:9.0f}{row['bytes'] / 1e6:8.1f}  {ratio}"
        )


if __name__ == "__main__":
    main()
