"""Reading an uncompressed 512x512x300 CT: medmtl with all its checks against the usual loops."""

from __future__ import annotations

import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import SimpleITK

from benchmarks.alternate import take_turns
from benchmarks.memory import QUICK_SHAPE, SHAPE, write_ct
from benchmarks.peak import run_and_watch
from benchmarks.record import Row, finish, options
from medmtl.data.intake import open_input

if TYPE_CHECKING:
    from numpy.typing import NDArray

ROUNDS, QUICK_ROUNDS = 5, 2
TIMES_AS_FAST = 4.0


def _values(image: pydicom.FileDataset) -> NDArray[Any]:
    values = image.pixel_array * int(image.RescaleSlope) + int(image.RescaleIntercept)
    return np.asarray(values, dtype=np.int16)


def _stacked(images: list[pydicom.FileDataset], planes: list[NDArray[Any]]) -> NDArray[Any]:
    """Sorted by position, as every tutorial does; no check of anything."""
    order = sorted(range(len(images)), key=lambda n: float(images[n].ImagePositionPatient[2]))
    return np.stack([planes[n] for n in order]).transpose(2, 1, 0)


def by_pydicom(folder: Path) -> NDArray[Any]:
    images = [pydicom.dcmread(path) for path in folder.iterdir()]
    return _stacked(images, [_values(image) for image in images])


def by_pydicom_threads(folder: Path) -> NDArray[Any]:
    with ThreadPoolExecutor() as pool:
        images = list(pool.map(pydicom.dcmread, folder.iterdir()))
        return _stacked(images, list(pool.map(_values, images)))


def by_simpleitk(folder: Path) -> NDArray[Any]:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return np.asarray(SimpleITK.GetArrayFromImage(reader.Execute()).T)


def by_medmtl(folder: Path) -> NDArray[Any]:
    """Headers, selection, geometry checks and pixels."""
    (study,) = open_input(folder).studies
    return study.volumes[0].read().array


RIVALS = {
    "pydicom, a loop": by_pydicom,
    "pydicom, in threads": by_pydicom_threads,
    "SimpleITK": by_simpleitk,
    "medmtl, checks included": by_medmtl,
}


def peak_gib(name: str, folder: Path) -> float:
    """Of a process that reads once; all libraries are in it for all."""
    code = (
        "import sys, pathlib; from benchmarks.reading import RIVALS; "
        "RIVALS[sys.argv[1]](pathlib.Path(sys.argv[2]))"
    )
    peak_bytes, _ = run_and_watch([sys.executable, "-c", code, name, str(folder)])
    return peak_bytes / 2**30


def main() -> None:
    arguments = options(__doc__ or "")
    shape = QUICK_SHAPE if arguments.quick else SHAPE
    rounds = QUICK_ROUNDS if arguments.quick else ROUNDS
    with tempfile.TemporaryDirectory() as aside:
        folder = Path(aside) / "ct"
        write_ct(folder, shape)
        expected = by_pydicom(folder)
        for name, read in RIVALS.items():
            if not np.array_equal(read(folder), expected):
                raise SystemExit(f"{name} read other values")
        times = take_turns(
            {name: partial(read, folder) for name, read in RIVALS.items()}, rounds=rounds
        )
        peaks = {name: peak_gib(name, folder) for name in RIVALS}
    size = "x".join(map(str, shape))
    rows = [
        Row(f"{name}: {size} CT, uncompressed", f"{taken}, {peaks[name]:.2f} GiB")
        for name, taken in times.items()
    ]
    ratio = times["pydicom, a loop"].median / times["medmtl, checks included"].median
    rows.append(
        Row("times as fast as the pydicom loop", f"{ratio:.1f}", f">= {TIMES_AS_FAST:g}",
            ratio >= TIMES_AS_FAST)
    )  # fmt: skip
    finish("reading", rows, arguments)


if __name__ == "__main__":
    main()
