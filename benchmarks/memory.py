"""Peak memory of `medmtl predict` on a 512x512x300 CT, and of restoring 10 or 100 classes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from benchmarks.peak import run_and_watch
from benchmarks.record import Row, finish, options

LIMIT_GIB = 4.0
SHAPE, QUICK_SHAPE = (512, 512, 300), (128, 128, 40)
FIELD_OF_VIEW_MM = (400.0, 400.0, 384.0)

_RESTORE = """
import sys
import numpy as np
from medmtl.core.geometry import Geometry
from medmtl.postprocess.restore import restore_labels
classes, i, j, k = map(int, sys.argv[1:])
field = (400.0, 400.0, 384.0)
def grid(shape):
    spacing = [size / n for size, n in zip(field, shape)]
    return Geometry.from_parts(shape=shape, spacing_mm=spacing,
                               origin_lps=[gap / 2 for gap in spacing])
source, network = grid((i, j, k)), grid((64, 64, 64))
# Every class wins around a centre of its own, as organs do.
centres = np.random.default_rng(0).uniform(4, 60, (classes, 3)).astype(np.float32)
axis = np.arange(64, dtype=np.float32)
logits = np.stack([
    -np.add.outer(np.add.outer((axis - z) ** 2, (axis - y) ** 2), (axis - x) ** 2)
    for z, y, x in centres
])
labels = restore_labels(logits, network, source)
found = set()
for plane in range(k):
    found.update(np.unique(labels[:, :, plane]).tolist())
if len(found) != classes:
    sys.exit("a class is missing")
"""


def body_hu(shape: tuple[int, int, int], k: int) -> np.ndarray[tuple[int, int], np.dtype[np.int16]]:
    """One axial slice (row, column): a body with two lungs, heart, spine and noise."""
    i, j, slices = shape
    y, x = np.mgrid[-1 : 1 : j * 1j, -1 : 1 : i * 1j]
    z = 2 * k / (slices - 1) - 1
    hu = np.where((x / 0.85) ** 2 + (y / 0.6) ** 2 < 1, 40, -1000)
    for side in (-0.4, 0.4):
        hu[((x - side) / 0.28) ** 2 + (y / 0.42) ** 2 + ((z - 0.3) / 0.6) ** 2 < 1] = -850
    hu[((x - 0.05) / 0.2) ** 2 + ((y + 0.15) / 0.18) ** 2 + ((z - 0.1) / 0.3) ** 2 < 1] = 45
    hu[(x / 0.09) ** 2 + ((y - 0.42) / 0.09) ** 2 < 1] = 400
    noise = np.random.default_rng(k).normal(0, 12, hu.shape)
    return (hu + noise).astype(np.int16)


def _slice(shape: tuple[int, int, int], k: int, uids: dict[str, str]) -> Dataset:
    """One classic CT image (PS3.3 A.3)."""
    spacing = [size / n for size, n in zip(FIELD_OF_VIEW_MM, shape, strict=True)]
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = (
        CTImageStorage,
        generate_uid(entropy_srcs=[uids["series"], f"{k}"]),
    )
    image.StudyInstanceUID, image.SeriesInstanceUID = uids["study"], uids["series"]
    image.FrameOfReferenceUID, image.Modality = uids["frame"], "CT"
    image.PatientID, image.PatientName, image.PatientSex = "BENCH", "BENCH", "F"
    image.ImageType, image.BodyPartExamined = ["ORIGINAL", "PRIMARY", "AXIAL"], "CHEST"
    image.InstanceNumber, image.SliceThickness = k + 1, f"{spacing[2]:.6g}"
    image.ImagePositionPatient = [-200.0, -200.0, f"{k * spacing[2]:.6f}"]
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.PixelSpacing = [f"{spacing[1]:.6g}", f"{spacing[0]:.6g}"]
    image.Rows, image.Columns = shape[1], shape[0]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
    image.PixelRepresentation, image.RescaleIntercept, image.RescaleSlope = 1, 0, 1
    image.RescaleType = "HU"
    image.PixelData = body_hu(shape, k).astype("<i2").tobytes()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = CTImageStorage
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    return image


def write_ct(folder: Path, shape: tuple[int, int, int], *, name: str = "memory") -> None:
    """Write the generated CT as one DICOM series of `shape[2]` files; the name makes its UIDs."""
    folder.mkdir(parents=True)
    uids = {
        level: generate_uid(entropy_srcs=[name, level]) for level in ("study", "series", "frame")
    }
    for k in range(shape[2]):
        _slice(shape, k, uids).save_as(folder / f"{k:04d}", enforce_file_format=True)


def _row(what: str, peak_bytes: int, seconds: float) -> Row:
    gib = peak_bytes / 2**30
    return Row(what, f"{gib:.2f} GiB, {seconds:.0f} s", f"< {LIMIT_GIB:g} GiB", gib < LIMIT_GIB)


def main() -> None:
    """Measure the whole command, then the step whose memory could grow with the classes."""
    arguments = options(__doc__ or "")
    shape = QUICK_SHAPE if arguments.quick else SHAPE
    size = "x".join(map(str, shape))
    rows = []
    with tempfile.TemporaryDirectory() as aside:
        folder = Path(aside)
        write_ct(folder / "ct", shape)
        command = [
            sys.executable, "-m", "medmtl", "predict", str(folder / "ct"),
            "-o", str(folder / "out"), "--model", "torso-ct-phantom", "--quiet",
        ]  # fmt: skip
        rows.append(_row(f"`medmtl predict` on a {size} CT", *run_and_watch(command)))
    for classes in (10, 100):
        command = [sys.executable, "-c", _RESTORE, str(classes), *map(str, shape)]
        rows.append(_row(f"label map of {size} from {classes} classes", *run_and_watch(command)))
    finish("memory", rows, arguments)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"exit status {error.returncode} of {error.cmd[:4]}") from error
