"""`medmtl scan` against SimpleITK's series reader on the same folder.

Both list every series of one folder with the files of each, in alternating rounds; the median
counts. medmtl also groups, sorts and checks the geometry, which SimpleITK does not.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK

from benchmarks.alternate import take_turns
from benchmarks.record import Row, finish, options
from medmtl.data.intake import open_input
from tests.dicom_factory import make_series

if TYPE_CHECKING:
    from collections.abc import Callable

SLICES = 100
FILES, QUICK_FILES = 5000, 200
ROUNDS, QUICK_ROUNDS = 5, 1
FASTER = 3.0


def write_folder(folder: Path, *, files: int) -> None:
    """Series of 100 CT slices of 64 x 64."""
    array = np.zeros((64, 64, SLICES), dtype=np.int16)
    for number in range(files // SLICES):
        make_series(folder, array=array, name=f"s{number:03d}", study=f"study{number // 5}")


def by_simpleitk(folder: Path) -> int:
    reader = SimpleITK.ImageSeriesReader
    uids = reader.GetGDCMSeriesIDs(str(folder))
    return sum(len(reader.GetGDCMSeriesFileNames(str(folder), uid)) for uid in uids)


def by_medmtl(folder: Path) -> int:
    listing = open_input(folder)
    return sum(len(ref.source_files) for study in listing.studies for ref in study.volumes)


def counted(scan: Callable[[Path], int], folder: Path, files: int) -> None:
    """Scan, and make sure that nothing was left out."""
    found = scan(folder)
    if found != files:
        message = f"{scan.__name__} found {found} of {files} files"
        raise RuntimeError(message)


def main() -> None:
    arguments = options(__doc__ or "")
    files = QUICK_FILES if arguments.quick else FILES
    rounds = QUICK_ROUNDS if arguments.quick else ROUNDS
    with tempfile.TemporaryDirectory() as name:
        write_folder(Path(name), files=files)
        rivals = {scan.__name__: scan for scan in (by_simpleitk, by_medmtl)}
        times = take_turns(
            {key: partial(counted, scan, Path(name), files) for key, scan in rivals.items()},
            rounds=rounds,
        )
    itk, ours = times["by_simpleitk"], times["by_medmtl"]
    ratio = itk.median / ours.median
    rows = [
        Row(f"SimpleITK: series and file names of {files} files", str(itk)),
        Row(f"`medmtl scan` of the same {files} files", str(ours)),
        Row("times as fast", f"{ratio:.1f}", f">= {FASTER:g}", ratio >= FASTER),
    ]
    finish("scan", rows, arguments)


if __name__ == "__main__":
    main()
