"""Many photos on few CPUs: each thread takes photos from end to end, and nothing else may change."""

import platform
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import seglab.inference.flow as flow
from seglab.device import Device
from seglab.engines import EngineChoice, num_callers, open_engine
from seglab.errors import DataError
from seglab.inference.flow import Done, callers_for, run
from seglab.inference.inputs import Failure
from seglab.inference.ledger import Ledger
from seglab.inference.plan import Layout, make_plan
from seglab.inference.predictor import Predictor
from seglab.inference.views import Views
from seglab.models import session
from seglab.tasks import TASKS
from tests.inference.test_real_model import write_graph

CPU = Device("cpu", None, "")
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("photos", "batch", "cpus", "expected"),
    [(8, 1, 2, 2), (7, 1, 2, 1), (1000, 1, 1, 1), (1000, 1, 8, 8), (1000, 1, 9, 1), (1000, 2, 2, 1), (0, 1, 2, 1)],
)
def test_when_threads_take_photos_of_their_own(photos: int, batch: int, cpus: int, expected: int) -> None:
    assert callers_for(CPU, photos, batch, cpus) == expected
    assert callers_for(Device("cuda", 0, ""), photos, batch, cpus) == 1


def test_engines_know_their_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_graph(tmp_path / "m.onnx", TASKS["person"])
    seen = []

    def spy(path: Path, data: bytes, *, threads: int, providers: list) -> object:
        seen.append(threads)
        return session.open_session(path, data, threads=threads, providers=providers)

    monkeypatch.setattr("seglab.engines.num_threads", lambda: 4)
    monkeypatch.setattr("seglab.engines.onnxruntime.open_session", spy)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    answers = []
    for callers in (1, 2, 4, 8):
        engine, config = open_engine(tmp_path / "m.onnx", CPU, EngineChoice("onnxruntime", callers=callers))
        assert num_callers(engine) == num_callers(Views(engine, config.task, "flip")) == callers
        answers.append(engine(pixels))
    assert seen == [4, 2, 1, 1]
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer, answers[0])


@pytest.fixture
def photos(tmp_path: Path, corners) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(12):
        Image.fromarray(corners(40 + index, 60)).save(folder / f"{index:02}.png")
    (folder / "05.png").write_bytes(b"no picture")
    return folder


def work(folder: Path, model, tmp_path: Path, finish, callers: int = 3) -> list:
    plan = make_plan([folder], Layout("predict", {"palette": (".png",)}, tmp_path / "out"))
    model.engine.callers = callers
    predictor = Predictor(model.engine, model.config)
    ledger = Ledger(plan.out_dir, "predict", {})
    ledger.open()
    return list(run(plan, predictor, finish, ledger))


def test_photos_go_side_by_side_and_come_in_order(photos: Path, model, tmp_path: Path) -> None:
    inside, most, lock = set(), [0], threading.Lock()

    def finish(job, answer):
        with lock:
            inside.add(threading.get_ident())
            most[0] = max(most[0], len(inside))
        time.sleep(0.01 if int(job.path.stem) % 3 else 0.05)
        next(iter(job.outputs.values())).write_bytes(b"x")
        with lock:
            inside.discard(threading.get_ident())
        assert cv2.getNumThreads() == 1
        return True, {}

    before = cv2.getNumThreads()
    outcomes = work(photos, model, tmp_path, finish)
    assert cv2.getNumThreads() == before
    assert [outcome.path.stem for outcome in outcomes] == [f"{index:02}" for index in range(12)]
    assert [type(outcome) for outcome in outcomes] == [Failure if index == 5 else Done for index in range(12)]
    assert most[0] == 3
    assert all(shape[0] == 1 for shape in model.engine.shapes)
    assert len(model.engine.shapes) == 11
    lines = (tmp_path / "out" / ".seglab-done.jsonl").read_text().splitlines()
    assert len(lines) == 12


def test_a_full_disk_ends_the_run(photos: Path, model, tmp_path: Path) -> None:
    def finish(job, answer):
        if job.path.stem == "03":
            raise DataError("cannot write") from OSError("no space left on device")
        next(iter(job.outputs.values())).write_bytes(b"x")
        return True, {}

    before = cv2.getNumThreads()
    with pytest.raises(DataError, match="cannot write"):
        work(photos, model, tmp_path, finish)
    assert cv2.getNumThreads() == before


def test_the_same_files_either_way(shell, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the command line, with an engine that says how many callers it was opened for."""
    wanted = []
    real = type(shell.model).open

    def opening(self, device, *, engine, batch_size):
        wanted.append(engine.callers)
        self.engine.callers = engine.callers
        return real(self, device, engine=engine, batch_size=batch_size)

    monkeypatch.setattr(type(shell.model), "open", opening)
    monkeypatch.setattr(flow, "num_threads", lambda: 2)
    assert shell("cutout", photos, "-o", "two").code == 1
    monkeypatch.setattr(flow, "num_threads", lambda: 1)
    assert shell("cutout", photos, "-o", "one").code == 1
    assert wanted == [2, 1]
    names = sorted(path.name for path in Path("two").glob("*.png"))
    assert len(names) == 11
    for name in names:
        assert (Path("one") / name).read_bytes() == (Path("two") / name).read_bytes()


def test_memory_is_kept_from_photo_to_photo_only(shell, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    monkeypatch.setattr(flow, "keep_freed_memory", lambda **limits: kept.append(limits))
    assert shell("cutout", photos / "01.png", "-o", "a.png").code == 0
    assert kept == []
    assert shell("cutout", photos, "-o", "two").code == 1
    assert kept == [{"blocks": flow.KEPT_BYTES}]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_only_small_blocks_are_kept() -> None:
    """Counted by what the system has to clear: pages of 4 KiB or more."""
    code = (
        "import resource, sys, numpy as np\n"
        "from seglab.allocator import keep_freed_memory\n"
        "def faults(num_bytes):\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(20): a = np.ones(num_bytes, np.uint8); b = np.ones(num_bytes, np.uint8); del a, b\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "assert keep_freed_memory(blocks=2**25)\n"
        "print(faults(2**23), faults(2**26))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    small, large = map(int, done.stdout.split())
    page = resource.getpagesize()
    assert small < 4 * 2 * 2**23 / page, "they were cleared once or twice, not 20 times"
    assert large >= 20 * 2 * 2**26 / page / 512, "they were given back"
