"""Archives of every kind, the good, the broken and the hostile."""

import io
import os
import stat
import struct
import tarfile
import zipfile
from contextlib import contextmanager

import pytest

from seglab.data.fetching.admission import ArchiveError, Limits
from seglab.data.fetching.unpack import Tree, read_tree, unpack
from seglab.errors import DataError
from tests.fetch.site import make_tar, make_zip

MEMBERS = {
    "set/images/1.jpg": os.urandom(3_000),
    "set/images/ä [2].jpg": b"x" * 70_000,
    "set/empty.txt": b"",
    "set/labels/1.png": bytes(range(256)) * 30,
}
MAKERS = {
    "zip": make_zip,
    "tar": make_tar,
    "tar.gz": lambda members: make_tar(members, "w:gz"),
    "tar.bz2": lambda members: make_tar(members, "w:bz2"),
    "tar.xz": lambda members: make_tar(members, "w:xz"),
}


@pytest.fixture
def out(tmp_path):
    path = tmp_path / "out"
    path.mkdir()
    return path


@pytest.fixture
def archive(tmp_path):
    """Write the bytes of an archive under a name that says nothing."""

    def write(data: bytes):
        path = tmp_path / "archive"
        path.write_bytes(data)
        return path

    return write


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", MAKERS)
def test_an_archive_comes_out_as_it_went_in(archive, out, kind):
    path = archive(MAKERS[kind](MEMBERS))
    tree = unpack(path, out)
    assert contents(out) == MEMBERS
    assert tree == read_tree(out, leave_out=frozenset(), digest=True)
    assert (tree.num_files, tree.num_bytes) == (4, sum(map(len, MEMBERS.values())))


def test_the_digest_of_a_tree_is_that_of_sha256sum(archive, out):
    import hashlib

    unpack(archive(make_zip({"b": b"2", "a/c": b"1"})), out)
    lines = f"{hashlib.sha256(b'1').hexdigest()}  a/c\n{hashlib.sha256(b'2').hexdigest()}  b\n"
    tree = Tree(2, 2, hashlib.sha256(lines.encode()).hexdigest())
    assert read_tree(out, leave_out=frozenset(), digest=True) == tree


def test_folders_without_files_are_kept_and_modes_are_not(archive, out):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind, mode in (("d/", tarfile.DIRTYPE, 0o000), ("./d/f", tarfile.REGTYPE, 0o4755)):
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, mode
            tar.addfile(info)
    unpack(archive(buffer.getvalue()), out)
    assert (out / "d" / "f").read_bytes() == b""
    assert not (out / "d" / "f").stat().st_mode & 0o7111


BAD_NAMES = {
    "../evil": "leads out",
    "a/../../evil": "leads out",
    "..": "leads out",
    "..\\evil": "leads out",
    "/etc/evil": "absolute",
    "\\evil": "absolute",
    "//host/share/evil": "absolute",
    "C:\\evil": "drive",
    "c:evil": "drive",
    "line\nbreak": "control",
    "bell\x07": "control",
    "n" * 256: "255 bytes",
    "ä" * 128: "255 bytes",
}


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_leads_elsewhere_is_refused_by_name(archive, out, tmp_path, kind, name):
    path = archive(MAKERS[kind]({"good": b"1", name: b"evil"}))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ArchiveError, match=BAD_NAMES[name]) as caught:
        unpack(path, out)
    shown = name if name.isprintable() else name.encode("unicode_escape").decode()
    assert f"`{shown[:100]}" in caught.value.message
    assert sorted(tmp_path.iterdir()) == before
    if kind == "zip":
        assert not list(out.iterdir())


def test_a_nul_in_a_name_is_refused(archive, out):
    data = make_zip({"photo.jpgX.exe": b"1"}).replace(b"photo.jpgX", b"photo.jpg\0")
    with pytest.raises(ArchiveError, match="control"):
        unpack(archive(data), out)


def test_a_member_without_a_name_is_refused(archive, out):
    with pytest.raises(ArchiveError, match="has no name"):
        unpack(archive(make_tar({"./": b""}).replace(b"0\0ustar", b"0\0ustar")), out)


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("a/Photo.JPG", "a/photo.jpg", "case or accents"),
        ("A/1.jpg", "a/2.jpg", "case or accents"),
        ("é.png", "e\u0301.png", "case or accents"),
        ("straße", "STRASSE", "case or accents"),
        ("a", "a/b", "both a file and a folder"),
        ("a/b", "a", "both a file and a folder"),
        ("a/./b", "a//b", "twice"),
    ],
)
def test_names_that_a_disk_may_hold_for_one_are_refused(archive, out, kind, first, second, words):
    with pytest.raises(ArchiveError, match=words):
        unpack(archive(MAKERS[kind]({first: b"1", second: b"2"})), out)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_name_twice_is_refused(archive, out, kind):
    twice = {
        "zip": make_zip({"aa": b"1", "ab": b"2"}).replace(b"ab", b"aa"),
        "tar": make_tar({"aa": b"1"})[:1024] + make_tar({"aa": b"2"}),
    }
    with pytest.raises(ArchiveError, match="`aa` is there twice"):
        unpack(archive(twice[kind]), out)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a device"),
    ],
)
def test_links_and_devices_of_a_tar_are_refused(archive, out, kind, words):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("photo.jpg")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(ArchiveError, match=f"`photo.jpg` is {words}"):
        unpack(archive(buffer.getvalue()), out)
    assert not list(out.iterdir())


@pytest.mark.parametrize(
    ("mode", "words"), [(stat.S_IFLNK, "a link"), (stat.S_IFCHR, "a device"), (stat.S_IFIFO, "a device")]
)
def test_links_and_devices_of_a_zip_are_refused(archive, out, mode, words):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        info = zipfile.ZipInfo("photo.jpg")
        info.create_system, info.external_attr = 3, (mode | 0o777) << 16
        file.writestr(info, "/etc/passwd")
    with pytest.raises(ArchiveError, match=f"`photo.jpg` is {words}"):
        unpack(archive(buffer.getvalue()), out)
    assert not list(out.iterdir())


def test_an_encrypted_zip_is_refused(archive, out):
    data = bytearray(make_zip({"open.txt": b"1", "secret.txt": b"2"}))
    at = data.rfind(b"PK\x01\x02")
    data[at + 8] |= 1
    with pytest.raises(ArchiveError, match=r"`secret.txt` is encrypted"):
        unpack(archive(bytes(data)), out)
    assert not list(out.iterdir())


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_too_many_members_are_refused(archive, out, kind):
    path = archive(MAKERS[kind]({f"{number}.txt": b"" for number in range(11)}))
    with pytest.raises(ArchiveError, match=r"`10.txt` is one too many: more than 10 members"):
        unpack(path, out, limits=Limits(num_members=10))


def test_too_many_members_are_refused_before_there_is_an_object_for_each(archive, out, monkeypatch):
    path = archive(make_zip({str(number): b"" for number in range(11)}))
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with pytest.raises(ArchiveError, match="one too many"):
        unpack(path, out, limits=Limits(num_members=10))


def test_the_members_are_counted_whatever_the_end_record_says(archive, out):
    data = bytearray(make_zip({str(number): b"" for number in range(11)}))
    at = data.rfind(b"PK\x05\x06")
    data[at + 8 : at + 12] = struct.pack("<HH", 1, 1)
    with pytest.raises(ArchiveError, match="one too many"):
        unpack(archive(bytes(data)), out, limits=Limits(num_members=10))


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.xz"])
def test_an_archive_that_grows_too_much_is_refused(archive, out, kind):
    path = archive(MAKERS[kind]({"small": b"1", "bomb": bytes(3 << 20)}))
    with pytest.raises(ArchiveError, match=r"`bomb` unpacks to more than 200 times"):
        unpack(path, out, limits=Limits(always_bytes=1000))
    assert not (out / "bomb").exists()
    (out / "again").mkdir()
    assert unpack(path, out / "again").num_bytes == (3 << 20) + 1


def test_a_zip_that_lies_about_sizes_is_refused(archive, out):
    data = bytearray(make_zip({"bomb": bytes(3 << 20)}))
    for magic, at in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        start = data.rfind(magic)
        data[start + at : start + at + 4] = struct.pack("<I", 100)
    with pytest.raises(ArchiveError, match="damaged at `bomb`"):
        unpack(archive(bytes(data)), out, limits=Limits(always_bytes=1000))


def test_a_header_of_gigabytes_is_refused_before_it_is_read(archive, out):
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 3 << 30
    with pytest.raises(ArchiveError, match="header` is too long"):
        unpack(archive(info.tobuf() + bytes(10_240)), out)


def test_what_follows_the_members_counts_too(archive, out):
    import gzip

    path = archive(gzip.compress(make_tar({"a": b"1"}) + bytes(3 << 20)))
    with pytest.raises(ArchiveError, match="unpacks to too much"):
        unpack(path, out, limits=Limits(always_bytes=1000))


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_half_an_archive_is_damaged(archive, out, kind, share):
    data = MAKERS[kind](MEMBERS)
    with pytest.raises(ArchiveError):
        unpack(archive(data[: int(len(data) * share)]), out)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_flipped_bit_is_noticed_or_harmless(archive, out, kind, tmp_path):
    """No crash, and where the format has checksums no wrong content: tar itself has none for content."""
    data = MAKERS[kind]({"a.bin": os.urandom(500), "b.txt": b"text" * 50})
    checked = contents_of(archive(data), tmp_path / "good")
    step = max(1, len(data) // 150)
    for at in range(0, len(data), step):
        broken = bytearray(data)
        broken[at] ^= 0x10
        try:
            found = contents_of(archive(bytes(broken)), tmp_path / str(at))
        except DataError:
            continue
        if kind not in ("tar", "zip"):
            assert found == checked
        elif kind == "zip":
            assert sorted(found.values()) == sorted(checked.values())


def contents_of(path, folder):
    folder.mkdir()
    unpack(path, folder)
    return contents(folder)


def test_a_tar_without_its_end_is_damaged(archive, out):
    with pytest.raises(ArchiveError, match="its end is missing"):
        unpack(archive(make_tar({"a": b"1"})[:1024]), out)


def test_a_tar_with_a_damaged_header_in_the_middle_is_damaged(archive, out):
    data = bytearray(make_tar({"a": b"1", "b": b"2"}))
    data[1024 + 3] ^= 1
    with pytest.raises(ArchiveError, match=r"after `a`.*a header is damaged"):
        unpack(archive(bytes(data)), out)


@pytest.mark.parametrize("data", [b"", b"Rar!\x1a\x07\x00" + bytes(50), b"no archive at all", b"<html>"])
def test_what_is_no_archive_is_said(archive, out, data):
    with pytest.raises(ArchiveError, match="no archive that seglab unpacks"):
        unpack(archive(data), out)


def test_a_gzip_that_holds_no_tar_is_said(archive, out):
    import gzip

    with pytest.raises(ArchiveError, match="is no tar"):
        unpack(archive(gzip.compress(b"hello " * 1000)), out)


def test_a_zip_method_that_is_unknown_names_the_program_that_knows_it(archive, out):
    data = bytearray(make_zip({"a": b"1" * 100}))
    for magic, at in ((b"PK\x01\x02", 10), (b"PK\x03\x04", 8)):
        start = data.rfind(magic)
        data[start + at] = 9
    with pytest.raises(DataError, match="does not read") as caught:
        unpack(archive(bytes(data)), out)
    assert not isinstance(caught.value, ArchiveError)
    assert "7z x " in caught.value.hint


def test_the_room_is_asked_for_before_the_first_member(archive, out):
    def need_room(num_bytes):
        assert num_bytes == sum(map(len, MEMBERS.values()))
        raise DataError("no room")

    with pytest.raises(DataError, match="no room"):
        unpack(archive(make_zip(MEMBERS)), out, need_room=need_room)
    assert not list(out.iterdir())


def test_the_meter_is_told_of_every_byte(archive, out):
    seen = []

    @contextmanager
    def meter(what, total, done):
        seen.append(total)
        yield seen.append

    unpack(archive(make_zip(MEMBERS)), out, meter=meter)
    assert sum(seen[1:]) == seen[0] == sum(map(len, MEMBERS.values()))


def test_a_large_zip_with_the_long_end_record_is_read(archive, out, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 5)
    data = make_zip({f"{number:02}": b"1" for number in range(9)})
    assert b"PK\x06\x06" in data
    assert unpack(archive(data), out).num_files == 9
    with pytest.raises(ArchiveError, match="one too many"):
        unpack(archive(data), out, limits=Limits(num_members=8))


def test_an_archive_of_nothing_is_refused(out, tmp_path):
    path = tmp_path / "nothing.zip"
    zipfile.ZipFile(path, "w").close()
    with pytest.raises(ArchiveError, match="no file"):
        unpack(path, out)


NOISE = os.urandom(5 << 20)
ZEROS = bytes(90 << 20)
SMALL = Limits(always_bytes=8 << 20, padding_bytes=4 << 20)


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.xz", "tar.bz2"])
def test_a_bomb_behind_photos_is_refused(archive, out, kind):
    """Ninety MB of zeros behind five of noise: 18 times the whole, a thousand times the member."""
    path = archive(MAKERS[kind]({"photo.jpg": NOISE, "bomb.npy": ZEROS}))
    with pytest.raises(ArchiveError, match=r"`bomb.npy` unpacks to more than 500 times its packed size") as caught:
        unpack(path, out, limits=SMALL)
    assert "7z x ARCHIVE" in caught.value.hint
    assert "seglab prepare" in caught.value.hint
    if kind == "zip":
        assert not list(out.iterdir())


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_bomb_in_many_small_members_is_refused(archive, out, kind):
    path = archive(MAKERS[kind]({"photo.jpg": NOISE} | {f"{number}.npy": bytes(1 << 20) for number in range(40)}))
    with pytest.raises(ArchiveError, match=r"`\d+.npy` unpacks to more than 500 times"):
        unpack(path, out, limits=SMALL)


def sparse_masks(dtype, num):
    """Return masks as a person in a photo leaves them: one shape with a rough edge, the rest background."""
    import numpy as np

    random = np.random.default_rng(0)
    masks = {}
    for number in range(num):
        labels = np.zeros((375, 500), dtype)
        middle, width = 250 + np.cumsum(random.integers(-2, 3, 375)), 30 + np.cumsum(random.integers(-1, 2, 375))
        for y in range(60, 330):
            labels[y, max(0, middle[y] - abs(width[y])) : middle[y] + abs(width[y])] = y // 60
        buffer = io.BytesIO()
        np.save(buffer, labels)
        masks[f"gt_masks/{number}.npy"] = buffer.getvalue()
    return masks


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize("dtype", ["uint8", "int64"])
def test_sparse_masks_are_no_bomb(archive, out, kind, dtype):
    members = {"photo.jpg": NOISE} | sparse_masks(dtype, 60)
    data = MAKERS[kind](members)
    packed = len(data) - len(NOISE)
    assert sum(map(len, members.values())) - len(NOISE) > (100 if dtype == "int64" else 50) * packed
    limits = SMALL if kind == "zip" else Limits(always_bytes=8 << 20)  # streams are judged in stretches of 64 MiB
    assert unpack(archive(data), out, limits=limits).num_files == 61


def test_a_csv_of_one_line_again_and_again_is_no_bomb(archive, out):
    data = make_zip(
        {"train.csv": b"000b3ec2c6eaffb491a5abb72c2e3e26.jpg,6068157 7 6073371 20,3676,2448,33\n" * 400_000}
    )
    assert (28 << 20) / len(data) > 190
    assert unpack(archive(data), out).num_files == 1


def test_the_default_limits_refuse_a_bomb_of_900_mb_in_50_mb():
    from seglab.data.fetching.admission import Admission, Member

    def member(name, size, packed):
        return Member(name, "file", size, encrypted=False, packed=packed, read=lambda: iter(()))

    admission = Admission(Limits(), 50_000_000)
    admission.admit(member("photos.bin", 49_000_000, 49_000_000))
    with pytest.raises(ArchiveError, match=r"`bomb` unpacks to more than 500 times"):
        admission.admit(member("bomb", 900_000_000, 875_000))
    admission = Admission(Limits(), 900_000)
    with pytest.raises(ArchiveError, match=r"`bomb` unpacks to more than 200 times the archive's size"):
        admission.admit(member("bomb", 900_000_000, 875_000))


def test_a_sparse_member_of_a_tar_counts_what_comes_out(archive, out):
    """GNU's sparse members hold a terabyte in a header."""
    info = tarfile.TarInfo("bomb")
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[386:398] = header[398:410] = b"00000000000\0"
    header[483:495] = b"77777777777\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(ArchiveError, match="`bomb` unpacks to more than 200 times"):
        unpack(archive(bytes(header) + bytes(10_240)), out)


def test_the_room_for_a_large_member_of_a_stream_is_looked_for(archive, out):
    rooms = []
    unpack(archive(make_tar({"small": b"1", "large": bytes(17 << 20)})), out, need_room=rooms.append)
    assert rooms == [17 << 20]
