"""Bad input 40: archives that strangers made, handed to fetch; nothing of them may be left anywhere."""

import io
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bad_inputs.conftest import Seglab, tree
from tests.bad_inputs.pictures import written
from tests.fetch.site import make_tar, make_zip

MANY = 750_001
"""One member more than an archive may have."""


def zip_with_mode(mode: int) -> bytes:
    """Return a zip whose member is a link or a device, as Unix says it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("photo.jpg")
        info.create_system, info.external_attr = 3, (mode | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    return buffer.getvalue()


def tar_with_kind(kind: bytes) -> bytes:
    """Return a tar whose member is no file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("photo.jpg")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    return buffer.getvalue()


def swollen_zip() -> bytes:
    """Return a zip of some kB that says 4 GB come out of it."""
    data = bytearray(make_zip({"bomb": bytes(1 << 20)}))
    at = data.rfind(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 0xFFFF_FFF0)
    return bytes(data)


def crowded_zip() -> bytes:
    """Return a zip with more members than any data set has."""
    data = make_zip({"a": b""})
    at, end = data.rfind(b"PK\x01\x02"), data.rfind(b"PK\x05\x06")
    listed = data[at:end] * MANY
    return data[:at] + listed + struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 65535, 65535, len(listed), at, 0)


def encrypted_zip() -> bytes:
    """Return a zip whose second member wants a password."""
    data = bytearray(make_zip({"open.txt": b"1", "secret.txt": b"2"}))
    data[data.rfind(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


ARCHIVES: dict[str, tuple[Callable[[], bytes], str]] = {
    "zip-above": (lambda: make_zip({"good": b"1", "../x": b"2"}), "`../x` leads out of the folder"),
    "tar-above": (lambda: make_tar({"good": b"1", "../x": b"2"}), "`../x` leads out of the folder"),
    "tar.gz-above": (lambda: make_tar({"good": b"1", "a/../../x": b"2"}, "w:gz"), "`a/../../x` leads out"),
    "zip-absolute": (lambda: make_zip({"good": b"1", "/etc/x": b"2"}), "`/etc/x` has an absolute name"),
    "tar-absolute": (lambda: make_tar({"good": b"1", "/etc/x": b"2"}), "`/etc/x` has an absolute name"),
    "zip-drive": (lambda: make_zip({"good": b"1", "C:\\x": b"2"}), "names a drive"),
    "zip-link": (lambda: zip_with_mode(stat.S_IFLNK), "`photo.jpg` is a link"),
    "tar-link": (lambda: tar_with_kind(tarfile.SYMTYPE), "`photo.jpg` is a link"),
    "tar-hard-link": (lambda: tar_with_kind(tarfile.LNKTYPE), "`photo.jpg` is a link"),
    "zip-case": (lambda: make_zip({"A.jpg": b"1", "a.jpg": b"2"}), "`a.jpg` differs from `A.jpg` only in its letters'"),
    "tar-case": (lambda: make_tar({"A.jpg": b"1", "a.jpg": b"2"}), "`a.jpg` differs from `A.jpg` only in its letters'"),
    "zip-device": (lambda: zip_with_mode(stat.S_IFCHR), "`photo.jpg` is a device"),
    "tar-device": (lambda: tar_with_kind(tarfile.BLKTYPE), "`photo.jpg` is a device"),
    "tar-fifo": (lambda: tar_with_kind(tarfile.FIFOTYPE), "`photo.jpg` is a device"),
    "zip-bomb": (swollen_zip, "`bomb` unpacks to more than "),
    "tar.gz-bomb": (lambda: make_tar({"bomb": bytes(130 << 20)}, "w:gz"), "`bomb` unpacks to more than "),
    "zip-crowd": (crowded_zip, "is one too many: more than 750,000 members"),
    "zip-encrypted": (encrypted_zip, "`secret.txt` is encrypted"),
    "html": (lambda: b"<!DOCTYPE html><html>", "a web page"),
    "empty": (lambda: b"", "empty"),
    "half": (lambda: make_zip({"a": bytes(range(256)) * 9})[:-30], ""),
}
REGISTRY = '[data]\nkind = "dataset"\ntitle = "data"\nlicence = "MIT"\n[[data.sources]]\npage = "https://example.org"\n'


@pytest.mark.parametrize("case", ARCHIVES)
def test_40_an_archive_that_is_refused_leaves_nothing(seglab: Seglab, here: Path, case: str) -> None:
    make, words = ARCHIVES[case]
    data = make()
    assert len(data) < 50_000_000
    written("archive", data)
    written("own.toml", REGISTRY.encode())
    before = tree(here.parent)
    ran = seglab("fetch", "data", "--from", "archive", "--registry", "own.toml", "--out", "out")
    assert (ran.code, ran.out) == (3, "")
    assert words in ran.error
    assert "archive" in ran.error
    assert ran.hint
    assert tree(here.parent) == before
    assert not Path("out").exists()


def test_40_the_same_archive_without_the_bad_member_is_taken(seglab: Seglab) -> None:
    written("archive", make_zip({"good": b"1", "x": b"2"}))
    written("own.toml", REGISTRY.encode())
    assert seglab("fetch", "data", "--from", "archive", "--registry", "own.toml", "--out", "out").code == 0
    assert tree(Path("out")) == ["SOURCE.json", "good", "x"]
