"""Standard input and output, dry runs, parts, extras that are missing, and what is kept of a photo's metadata."""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seglab.errors import UsageError
from seglab.inference.plan import Layout, make_plan

ALL = ("-f", "palette", "-f", "overlay", "-f", "split", "-f", "coco")


class Pipe(io.TextIOWrapper):
    """A stream of bytes that may pretend to be a terminal."""

    def __init__(self, data: bytes = b"", *, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(data))
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    @property
    def written(self) -> bytes:
        return self.buffer.getvalue()  # type: ignore[attr-defined]


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Pipe]:
    """Put a stream in the place of standard input, and return the one that is put in the place of standard output."""

    def make(data: bytes = b"", *, terminal: bool = False) -> Pipe:
        out = Pipe(terminal=terminal)
        monkeypatch.setattr(sys, "stdin", Pipe(data))
        monkeypatch.setattr(sys, "stdout", out)
        return out

    return make


@pytest.fixture
def png(corners) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(corners()).save(buffer, "PNG")
    return buffer.getvalue()


def read(data: bytes | Path) -> tuple[str, np.ndarray]:
    with Image.open(io.BytesIO(data) if isinstance(data, bytes) else data) as stored:
        return stored.mode, np.asarray(stored)


@pytest.mark.parametrize(
    ("command", "mode"),
    [
        (("predict",), "P"),
        (("predict", "-f", "ids"), "L"),
        (("predict", "-f", "overlay"), "RGB"),
        (("cutout",), "RGBA"),
    ],
)  # fmt: skip
def test_a_photo_through_a_pipe(shell, save, corners, names, pipe, png, command: Any, mode: str) -> None:
    out = pipe(png)
    result = shell(*command, "-", "-o", "-")
    assert (result.code, "1 photo in" in result.err) == (0, True), result.err
    found = read(out.written)
    assert found[0] == mode
    assert names(Path()) == []
    save(Path("a.png"), corners())
    suffix = ".jpg" if mode == "RGB" else ".png"
    assert shell(*command, "a.png", "-o", f"file{suffix}").code == 0
    assert Path(f"file{suffix}").read_bytes() == out.written


def test_probabilities_through_a_pipe_that_cannot_be_searched(shell, pipe, png, monkeypatch) -> None:
    out = pipe(png)
    monkeypatch.setattr(out.buffer, "seekable", lambda: False, raising=False)
    assert shell("predict", "-", "-o", "-", "-f", "probs").code == 0
    with np.load(io.BytesIO(out.written)) as stored:
        assert stored["probs"].shape == (60, 90, 5)


def test_one_end_may_be_a_file(shell, save, corners, names, pipe, png) -> None:
    pipe(png)
    assert shell("predict", "-", "-o", "o").code == 0
    assert names(Path("o")) == ["legend.json", "stdin.png"]
    pipe(png)
    assert "1 finished earlier" in shell("predict", "-", "-o", "o", "--skip-existing").err, "the same bytes"
    pipe(png + b"more")
    assert "1 photo in" in shell("predict", "-", "-o", "o", "--skip-existing").err
    pipe(png)
    assert shell("cutout", "-").code == 0
    assert names(Path("seglab-cutouts")) == ["stdin.png"]
    save(Path("a.png"), corners())
    out = pipe()
    assert shell("predict", "a.png", "-o", "-").code == 0
    assert read(out.written)[0] == "P"


def test_what_cannot_be_piped_is_refused_before_any_work(shell, save, corners, names, pipe, png) -> None:
    save(Path("a.png"), corners())
    for arguments, terminal, code, message in (
        (("a.png", "-o", "-"), True, 2, "refusing to write a picture to a terminal"),
        (("a.png", "-", "-o", "-"), False, 2, "the photos may be several"),
        (("*.png", "-o", "-"), False, 2, "the photos may be several"),
        (("a.png", "-o", "-", "-f", "palette", "-f", "ids"), False, 2, "`palette`, `ids` are asked for"),
        (("a.png", "-o", "-", "--json"), False, 2, "would both write to standard output"),
    ):
        out = pipe(png, terminal=terminal)
        result = shell("predict", *arguments)
        assert (result.code, message in result.err) == (code, True), result.err
        assert out.written == b""
    pipe(b"")
    assert shell("predict", "-").code == 3
    assert shell.model.opened == []
    assert names(Path()) == ["a.png"]


def test_a_picture_is_not_lost_where_standard_output_is_closed(save, corners, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("a.png"), corners())
    with (tmp_path / "nowhere").open("w", encoding="utf-8") as in_its_place:
        monkeypatch.setattr(sys, "stdout", in_its_place)
        monkeypatch.setattr(sys, "__stdout__", None)  # so Python says that `>&-` was there from the start
        with pytest.raises(UsageError, match="standard output is closed"):
            make_plan(["a.png"], Layout("predict", {"palette": (".png",)}, Path("o")), out=Path("-"))


def test_a_bad_photo_on_standard_input_writes_nothing(shell, pipe) -> None:
    out = pipe(b"this is no picture")
    result = shell("predict", "-", "-o", "-")
    assert (result.code, "-: is text, not an image" in result.err, out.written) == (1, True, b"")


def test_a_dry_run_tells_and_writes_nothing(shell, save, corners, names) -> None:
    for name in ("p/a.png", "p/b.png"):
        save(Path(name), corners())
    Path("p/c.jpg").symlink_to("nowhere")
    result = shell("predict", "p", "-o", "o", "--dry-run", *ALL)
    assert result.code == 1
    assert "p/a.png -> o/a.png, o/a.overlay.jpg, o/a.red.png" in result.err
    assert "2 photos would be done" in result.err
    assert "p/c.jpg: broken link" in result.err
    assert result.out == ""
    assert (shell.model.opened, Path("o").exists()) == ([], False)
    lines = shell("cutout", "p/a.png", "--dry-run", "--json").lines
    assert lines == [{"input": "p/a.png", "outputs": {"cutout": "p/a.cutout.png"}, "planned": True}]
    assert shell("predict", "p/a.png", "-o", "o").code == 0
    assert "1 photo would be done, 1 finished earlier" in shell(
        "predict", "p/a.png", "p/b.png", "-o", "o", "--dry-run", "--skip-existing"
    ).err  # fmt: skip
    assert shell("predict", "p", "-o", "p", "--dry-run").code == 2, "clashes are found too"


def test_names_are_decided_for_all_parts_together(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "a.png", "b.jpg"):
        Path(name).write_bytes(b"x")
    from seglab.shards import Shard

    with pytest.raises(UsageError, match="would both become"):
        make_plan(["a.jpg", "b.jpg", "a.png"], Layout("predict", {"ids": (".png",)}, Path("o")), shard=Shard(2, 3))
    plan = make_plan(["a.jpg", "b.jpg"], Layout("predict", {"ids": (".png",)}, Path("o")), shard=Shard(2, 2))
    assert [str(job.path) for job in plan.jobs] == ["b.jpg"]


def test_parts_are_disjoint_and_complete(shell, save, corners, names) -> None:
    for number in range(5):
        save(Path(f"p/{number}.png"), corners())
    seen = []
    for part in ("1/2", "2/2"):
        seen += [line["input"] for line in shell("cutout", "p", "-o", "o", "--shard", part, "--json").lines]
    assert sorted(seen) == [f"p/{number}.png" for number in range(5)]
    assert names(Path("o")) == [f"{number}.png" for number in range(5)]
    for wrong in ("3/2", "0/2", "1", "a/b"):
        assert shell("predict", "p", "--shard", wrong).code == 2


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)


def test_an_extra_that_is_missing_is_named(shell, save, corners, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for name in ("p/a.HEIC", "p/b.heif"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(HEIC)
    result = shell("predict", "p", "-o", "o")
    assert result.code == 6, "nothing could be done for lack of it"
    assert 'p/a.HEIC: is HEIC, which needs an extra: `pip install "seglab[heic]"`' in result.err
    save(Path("p/c.png"), corners())
    result = shell("predict", "p", "-o", "o", "--json")
    assert (result.code, ["error" in line for line in result.lines]) == (1, [True, True, False])


def test_place_and_camera_are_kept_on_request_only(shell, save, corners) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "a camera", 6
    exif.get_ifd(0x8825)[1] = "N"
    save(Path("a.jpg"), corners(60, 90), format="JPEG", exif=exif.tobytes())
    for suffix, more in ((".png", ()), (".webp", ()), (".jpg", ("--background", "white"))):
        for flags in ((), ("--keep-exif",)):
            assert shell("cutout", "a.jpg", "-o", f"c{suffix}", *more, *flags).code == 0
            with Image.open(f"c{suffix}") as stored:
                kept = stored.getexif()
                assert stored.size == (60, 90)
                assert dict(kept.get_ifd(0x8825)) == ({1: "N"} if flags else {})
                assert (kept.get(0x010F), kept.get(0x0112)) == ("a camera" if flags else None, None)


def test_looking_again_is_a_setting_of_the_model(shell, save, corners, monkeypatch) -> None:
    manners = []

    def choose(task: Any, name: Any, manner: Any = None) -> Any:
        manners.append(manner)
        return shell.model

    monkeypatch.setattr("seglab.inference.model.choose_model", choose)
    save(Path("a.png"), corners())
    for command in ("predict", "cutout"):
        assert shell(command, "a.png", "--tta", "flip").code == 0
        assert shell(command, "a.png").code == 0
        assert shell(command, "a.png", "--tta", "twice").code == 2
    assert [manner.tta for manner in manners] == ["flip", "none"] * 2


def leave_half(dir: str, *names: str) -> None:
    """Leave what a process that is gone had begun to write."""
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    for name in names:
        Path(dir, f".{name}.{killed.pid}.1f.part").write_text("half", encoding="utf-8")


def test_what_killed_runs_left_among_the_outputs_is_removed(shell, save, corners) -> None:
    save(Path("p/a.png"), corners())
    Path("o").mkdir()
    leave_half("o", "a.png", ".seglab-done.jsonl", "legend.json", "annotations.json")
    assert shell("predict", "p", "-o", "o", "-f", "palette", "-f", "coco").code == 0
    assert not list(Path("o").glob(".*.part"))


def test_a_part_removes_only_what_no_other_part_may_be_writing(shell, save, corners) -> None:
    save(Path("p/a.png"), corners())
    save(Path("p/b.png"), corners())
    Path("o").mkdir()
    leave_half("o", ".seglab-done.1-of-2.jsonl", ".seglab-done.2-of-2.jsonl", "legend.json")
    assert shell("predict", "p", "-o", "o", "--shard", "1/2").code == 0
    left = sorted(path.name.partition(".part")[0].rsplit(".", 2)[0] for path in Path("o").glob(".*.part"))
    assert left == ["..seglab-done.2-of-2.jsonl", ".legend.json"]
