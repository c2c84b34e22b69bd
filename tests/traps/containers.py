"""Folders, zips and DICOMDIRs: regular files only, nothing outside, nothing that hangs."""

from __future__ import annotations

import os
import socket
import stat
import zipfile
from pathlib import Path

import numpy as np
from pydicom.fileset import FileSet

from tests.traps.expectation import Expectation, reads, refuses
from tests.traps.series import make_series, patch, save, write


def zip_of_a_series(folder: Path) -> Expectation:
    series = make_series()
    names = series.write(folder / "plain")
    _zip(folder / "study.zip", folder / "plain", names)
    return reads(series.image, entry="study.zip", clean=True)


def zip_with_folders_and_junk(folder: Path) -> Expectation:
    series = make_series()
    names = write(folder / "plain", series.datasets, [f"a/b{k % 2}/{k}" for k in range(6)])
    _zip(folder / "study.zip", folder / "plain", names)
    with zipfile.ZipFile(folder / "study.zip", "a") as archive:
        archive.writestr("notes.txt", "nothing")
        archive.writestr("empty/", "")
    return reads(series.image, entry="study.zip", not_images=("notes.txt",))


def zip_without_extension(folder: Path) -> Expectation:
    series = make_series()
    names = series.write(folder / "plain")
    _zip(folder / "archive", folder / "plain", names)
    return reads(series.image, entry="archive")


def _zip(path: Path, folder: Path, names: list[str]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.write(folder / name, name)


def zip_that_climbs_out(folder: Path) -> Expectation:
    """`../escaped` and an absolute name: nothing may be written outside."""
    series = make_series()
    names = series.write(folder / "plain")
    (folder / "in").mkdir()
    _zip(folder / "in" / "study.zip", folder / "plain", names)
    with zipfile.ZipFile(folder / "in" / "study.zip", "a") as archive:
        archive.writestr("../escaped.dcm", (folder / "plain" / names[0]).read_bytes())
        archive.writestr("../../../../../../../../tmp/medmtl_trap_escaped.dcm", b"x")
        archive.writestr("/tmp/medmtl_trap_absolute.dcm", b"x")  # noqa: S108
    return reads(series.image, entry="in/study.zip", may_refuse=True)


ESCAPES = (
    Path("/tmp/medmtl_trap_escaped.dcm"),  # noqa: S108
    Path("/tmp/medmtl_trap_absolute.dcm"),  # noqa: S108
)
"""What a careless unpacking of `zip_that_climbs_out` writes."""


def zip_with_a_link(folder: Path) -> Expectation:
    """A member that is a symbolic link to /etc/passwd."""
    series = make_series()
    names = series.write(folder / "plain")
    _zip(folder / "study.zip", folder / "plain", names)
    with zipfile.ZipFile(folder / "study.zip", "a") as archive:
        member = zipfile.ZipInfo("link.dcm")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    return reads(series.image, entry="study.zip", may_refuse=True)


def zip_bomb(folder: Path) -> Expectation:
    """A member of zeros, said to be 4 GiB: neither memory nor disk may take it whole."""
    folder.mkdir(parents=True, exist_ok=True)
    block = bytes(1 << 24)
    with (
        zipfile.ZipFile(folder / "bomb.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("big.dcm", "w", force_zip64=True) as member,
    ):
        member.write(bytes(128) + b"DICM")
        for _ in range(20):
            member.write(block)
    _claim_size(folder / "bomb.zip")
    return Expectation(images=((),), entry="bomb.zip", may_refuse=True)


def _claim_size(path: Path) -> None:
    """Let the archive's directory claim 4 GiB for its member (320 MiB are really there)."""
    content = bytearray(path.read_bytes())
    place = content.rfind(b"PK\x01\x02")
    content[place + 24 : place + 28] = b"\xfe\xff\xff\xff"
    path.write_bytes(bytes(content))


def zip_of_many_small_bombs(folder: Path) -> Expectation:
    """A member whose directory says 100 bytes but which unpacks to 64 MiB."""
    series = make_series()
    names = series.write(folder / "plain")
    _zip(folder / "study.zip", folder / "plain", names)
    with zipfile.ZipFile(
        folder / "study.zip", "a", zipfile.ZIP_DEFLATED, compresslevel=1
    ) as zipped:
        zipped.writestr("liar.dcm", bytes(1 << 26))
    content = bytearray((folder / "study.zip").read_bytes())
    place = content.rfind(b"PK\x01\x02")
    content[place + 24 : place + 28] = (100).to_bytes(4, "little")
    (folder / "study.zip").write_bytes(bytes(content))
    return reads(series.image, entry="study.zip", may_refuse=True, not_images=("liar.dcm",))


def zip_in_the_folder(folder: Path) -> Expectation:
    """A zip beside a series is a stranger (or read); it never stops the series."""
    series = make_series()
    series.write(folder)
    with zipfile.ZipFile(folder / "notes.zip", "w") as archive:
        archive.writestr("notes.txt", "nothing")
    return reads(series.image)


def zip_damaged(folder: Path) -> Expectation:
    series = make_series()
    names = series.write(folder / "plain")
    _zip(folder / "study.zip", folder / "plain", names)
    content = bytearray((folder / "study.zip").read_bytes())
    content[200:260] = bytes(60)
    (folder / "study.zip").write_bytes(bytes(content))
    lower = series.slices(1, 6)
    return Expectation(
        images=((lower,), ()), flagged=True, entry="study.zip", may_refuse=True,
        not_images=("IM0000.dcm",),
    )  # fmt: skip


def zip_encrypted(folder: Path) -> Expectation:
    series = make_series()
    names = series.write(folder / "plain")
    _zip(folder / "study.zip", folder / "plain", names)
    content = bytearray((folder / "study.zip").read_bytes())
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.find(magic)
        while place >= 0:
            content[place + offset] |= 1
            place = content.find(magic, place + 4)
    (folder / "study.zip").write_bytes(bytes(content))
    return refuses_or_skips("study.zip")


def refuses_or_skips(entry: str) -> Expectation:
    """Nothing is read, something is said."""
    return Expectation(images=((),), entry=entry, may_refuse=True)


def _file_set(folder: Path) -> Expectation:
    series = make_series()
    for dataset in series.datasets:  # type 1 and 2 keys of the directory records
        dataset.StudyTime = "101112"
    file_set = FileSet()
    for dataset in series.datasets:
        file_set.add(dataset)
    file_set.write(folder)
    file_set._stage["t"].cleanup()  # pydicom leaves its scratch folder to the garbage collector
    return reads(series.image)


def dicomdir_opened(folder: Path) -> Expectation:
    expected = _file_set(folder)
    return Expectation(images=expected.images, entry="DICOMDIR")


def dicomdir_in_the_folder(folder: Path) -> Expectation:
    return _file_set(folder)


def dicomdir_under_another_name(folder: Path) -> Expectation:
    """Known by its SOP class; opened directly under the other name."""
    expected = _file_set(folder)
    (folder / "DICOMDIR").rename(folder / "index.bin")
    return Expectation(images=expected.images, entry="index.bin")


def dicomdir_whose_file_is_missing(folder: Path) -> Expectation:
    _file_set(folder)
    victims = sorted(path for path in folder.rglob("IM*") if path.is_file())
    victims[2].unlink()
    return Expectation(images=((),), entry="DICOMDIR", may_refuse=True)


def dicomdir_that_points_outside(folder: Path) -> Expectation:
    """Referenced File IDs with `..` are not followed."""
    inner = folder / "inner"
    _file_set(inner)
    patch(inner / "DICOMDIR", b"PT000000", b"../outer")
    (inner / "PT000000").rename(folder / "outer")
    return refuses_or_skips("inner/DICOMDIR")


def fifo_in_the_folder(folder: Path) -> Expectation:
    """Opening a FIFO for reading waits forever."""
    series = make_series()
    series.write(folder)
    os.mkfifo(folder / "pipe.dcm")
    return reads(series.image, not_images=("pipe.dcm",))


def socket_in_the_folder(folder: Path) -> Expectation:
    series = make_series()
    series.write(folder)
    listener = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(folder)  # a socket path has at most 108 characters
    try:
        listener.bind("socket.dcm")
    finally:
        os.chdir(here)
        listener.close()
    return reads(series.image, not_images=("socket.dcm",))


def dangling_link(folder: Path) -> Expectation:
    series = make_series()
    series.write(folder)
    (folder / "dangling.dcm").symlink_to(folder / "nowhere.dcm")
    return reads(series.image, not_images=("dangling.dcm",))


def looping_links(folder: Path) -> Expectation:
    """A link to itself, and a link to the folder it lies in."""
    series = make_series()
    series.write(folder)
    (folder / "loop.dcm").symlink_to(folder / "loop.dcm")
    (folder / "again").symlink_to(folder, target_is_directory=True)
    return reads(series.image, not_images=("loop.dcm",))


def link_to_a_device(folder: Path) -> Expectation:
    """/dev/zero never ends."""
    series = make_series()
    series.write(folder)
    (folder / "zero.dcm").symlink_to("/dev/zero")
    return reads(series.image, not_images=("zero.dcm",))


def unreadable_file(folder: Path) -> Expectation:
    """Mode 000; for root, who may read all, the file is sound and a duplicate besides."""
    series = make_series()
    series.write(folder)
    stranger = folder / "locked.dcm"
    stranger.write_bytes(b"\0" * 600)
    stranger.chmod(0)
    return reads(series.image, not_images=("locked.dcm",))


def file_names_that_do_not_decode(folder: Path) -> Expectation:
    """File names are bytes; these are no UTF-8."""
    series = make_series()
    folder.mkdir(parents=True, exist_ok=True)
    for k, dataset in enumerate(series.datasets):
        scratch = folder / "scratch"
        save(dataset, scratch)
        os.rename(os.fsencode(scratch), os.fsencode(folder) + b"/\xff\xfe%d.dcm" % k)  # noqa: PTH104
    return reads(series.image)


def file_names_with_newlines(folder: Path) -> Expectation:
    series = make_series()
    series.write(folder, [f"a\n{k} ; rm -rf x.dcm" for k in range(6)])
    return reads(series.image)


def deep_folders(folder: Path) -> Expectation:
    series = make_series()
    deep = folder.joinpath(*[f"d{n}" for n in range(40)])
    write(deep, series.datasets)
    return reads(series.image)


def huge_sparse_file(folder: Path) -> Expectation:
    """A file of 20 GiB holes beside the series, with the DICOM magic."""
    series = make_series()
    series.write(folder)
    with (folder / "sparse.dcm").open("wb") as sparse:
        sparse.write(bytes(128) + b"DICM")
        sparse.truncate(20 << 30)
    return reads(series.image, not_images=("sparse.dcm",))


def frames_without_end(folder: Path) -> Expectation:
    """Rows 65535, Columns 65535, 10,000 frames; the pixel data is 200 bytes."""
    series = make_series(shape=(8, 7, 1))
    dataset = series.datasets[0]
    dataset.Rows = dataset.Columns = 65535
    dataset.NumberOfFrames = 10_000
    dataset.PixelData = bytes(200)
    series.write(folder)
    return refuses()


def many_slices_with_a_bomb_matrix(folder: Path) -> Expectation:
    """40 slices of 20,000 x 20,000: a volume of 32 GB, honestly declared but absent."""
    series = make_series(shape=(4, 3, 40), stored=np.zeros((4, 3, 40), dtype=int))
    series.set(Rows=20000, Columns=20000)
    series.write(folder)
    return refuses()


TRAPS = (
    zip_of_a_series, zip_with_folders_and_junk, zip_without_extension, zip_that_climbs_out,
    zip_with_a_link, zip_bomb, zip_of_many_small_bombs, zip_in_the_folder, zip_damaged,
    zip_encrypted, dicomdir_opened, dicomdir_in_the_folder, dicomdir_under_another_name,
    dicomdir_whose_file_is_missing, dicomdir_that_points_outside, fifo_in_the_folder,
    socket_in_the_folder, dangling_link, looping_links, link_to_a_device, unreadable_file,
    file_names_that_do_not_decode, file_names_with_newlines, deep_folders, huge_sparse_file,
    frames_without_end, many_slices_with_a_bomb_matrix,
)  # fmt: skip
