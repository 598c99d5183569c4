"""7z archives that 7-Zip 22.01 made (``7z a -mx=1 -m0=METHOD``), and what may be wrong with one."""

import contextlib
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest

from seglab.data.fetching.admission import ArchiveError, Limits
from seglab.data.fetching.unpack import unpack
from seglab.errors import DataError

ARCHIVES = Path(__file__).parent / "archives"
MEMBERS = {"d/a.txt": b"seven zip " * 40, "d/empty": b"", "d/sub/é [x].bin": bytes(range(256))}


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def out(tmp_path):
    path = tmp_path / "out"
    path.mkdir()
    return path


@pytest.mark.parametrize("name", ["lzma2", "lzma", "deflate", "bzip2", "copy", "x86", "plain"])
def test_what_7zip_packed_comes_out(out, name):
    tree = unpack(ARCHIVES / f"{name}.7z", out)
    assert contents(out) == MEMBERS
    assert (tree.num_files, tree.num_bytes) == (3, 656)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("locked", "`a.txt` is encrypted"),
        ("hidden", "`the list of members` is encrypted"),
        ("link", "`link` is a link"),
    ],
)
def test_what_must_not_be_unpacked_is_refused_by_name(out, name, words):
    with pytest.raises(ArchiveError, match=words):
        unpack(ARCHIVES / f"{name}.7z", out)
    assert not list(out.iterdir())


def test_a_method_that_is_not_read_names_the_program_that_reads_it(out):
    with pytest.raises(DataError, match="packed with PPMd") as caught:
        unpack(ARCHIVES / "ppmd.7z", out)
    assert not isinstance(caught.value, ArchiveError)
    assert f"7z x {ARCHIVES / 'ppmd.7z'} -o" in caught.value.hint


def test_too_many_members_and_too_large_a_ratio_are_refused(out):
    with pytest.raises(ArchiveError, match="5 of them; 4 are allowed"):
        unpack(ARCHIVES / "plain.7z", out, limits=Limits(num_members=4))
    with pytest.raises(ArchiveError, match="more than 1 times"):
        unpack(ARCHIVES / "lzma2.7z", out, limits=Limits(ratio=1, always_bytes=10))
    assert not list(out.iterdir())


def renamed(name: bytes, new: bytes) -> bytes:
    """Return an archive with another name in its (plain) list and all checksums right again."""
    data = bytearray((ARCHIVES / "plain.7z").read_bytes())
    old, new = (text.decode().encode("utf-16-le") for text in (name, new))
    assert len(old) == len(new)
    at = data.rfind(old)
    data[at : at + len(old)] = new
    offset, size = (int.from_bytes(data[i : i + 8], "little") for i in (12, 20))
    data[28:32] = zlib.crc32(data[32 + offset : 32 + offset + size]).to_bytes(4, "little")
    data[8:12] = zlib.crc32(data[12:32]).to_bytes(4, "little")
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "new", "words"),
    [
        (b"d/a.txt", b"../.txt", "leads out"),
        (b"d/a.txt", b"/a/.txt", "absolute"),
        (b"d/a.txt", b"c:a.txt", "drive"),
        (b"d/a.txt", b"d/EMPTY", "case"),
        (b"d/a.txt", b"d/empty", "twice"),
        (b"d/a.txt", b"d/a\ntxt", "control"),
    ],
)
def test_bad_names_are_refused(tmp_path, out, name, new, words):
    path = tmp_path / "a.7z"
    path.write_bytes(renamed(name, new))
    with pytest.raises(ArchiveError, match=words):
        unpack(path, out)
    assert not list(out.iterdir())


@pytest.mark.parametrize("name", ["lzma2", "lzma", "deflate", "bzip2", "copy", "plain"])
def test_no_flipped_bit_gives_wrong_content_or_a_crash(tmp_path, name):
    data = (ARCHIVES / f"{name}.7z").read_bytes()
    path = tmp_path / "broken.7z"
    for at in range(0, len(data), 3):
        broken = bytearray(data)
        broken[at] ^= 1 << at % 8
        path.write_bytes(broken)
        folder = tmp_path / str(at)
        folder.mkdir()
        try:
            unpack(path, folder)
        except DataError:
            continue
        assert contents(folder) == MEMBERS


@pytest.mark.parametrize("name", ["lzma2", "plain"])
def test_a_list_with_any_byte_changed_is_an_error_of_ours_even_with_the_right_checksum(tmp_path, name):
    """The list is what a stranger controls: whatever stands in it, nothing but our own error comes of it."""
    data = bytearray((ARCHIVES / f"{name}.7z").read_bytes())
    offset, size = (int.from_bytes(data[i : i + 8], "little") for i in (12, 20))
    path = tmp_path / "evil.7z"
    for at in range(32 + offset, 32 + offset + size):
        for value in (0, 0x7F) if at % 2 else (1, 0xFF):
            evil = bytearray(data)
            evil[at] = value
            evil[28:32] = zlib.crc32(evil[32 + offset :]).to_bytes(4, "little")
            evil[8:12] = zlib.crc32(evil[12:32]).to_bytes(4, "little")
            path.write_bytes(evil)
            folder = tmp_path / f"{at}-{value}"
            folder.mkdir()
            with contextlib.suppress(DataError):
                unpack(path, folder)
            shutil.rmtree(folder)
    assert {item.name for item in tmp_path.iterdir()} == {"evil.7z", "home"}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_half_an_archive_is_damaged(tmp_path, out, share):
    data = (ARCHIVES / "lzma2.7z").read_bytes()
    (tmp_path / "half.7z").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ArchiveError, match="damaged"):
        unpack(tmp_path / "half.7z", out)


@pytest.mark.skipif(not shutil.which("7z"), reason="needs the program 7z")
@pytest.mark.parametrize("method", ["lzma2", "lzma", "bzip2", "deflate"])
def test_many_blocks_and_large_members_agree_with_7zip(tmp_path, out, method):
    import random

    source = tmp_path / "in"
    source.mkdir()
    for number in range(12):
        noise = random.Random(number).randbytes(40_000 * number)
        (source / f"{number}.bin").write_bytes(noise + bytes(60_000) + noise[: number * 100])
    path = tmp_path / "a.7z"
    subprocess.run(
        ["7z", "a", "-bso0", "-mx=1", f"-m0={method}", "-ms=1m", str(path), "."],
        cwd=source,
        check=True,
        capture_output=True,
    )
    unpack(path, out)
    assert contents(out) == contents(source)


def test_a_bomb_behind_noise_is_refused_though_they_share_one_stream(out):
    """``bomb.7z`` holds 64 MiB of zeros behind 20 kB of noise, in one block."""
    limits = Limits(ratio=100_000, padding_bytes=1 << 20)
    with pytest.raises(ArchiveError, match=r"`bomb.npy` unpacks to more than 500 times its packed size"):
        unpack(ARCHIVES / "bomb.7z", out, limits=limits)
    (out / "again").mkdir()
    assert unpack(ARCHIVES / "bomb.7z", out / "again").num_bytes == (64 << 20) + 20_000
