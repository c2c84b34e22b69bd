"""NIfTI: both affines, more than three dimensions, values that are no numbers."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from tests.traps.expectation import Expectation, Image, reads, refuses
from tests.traps.series import distinct_values, rotation

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
SHAPE = (6, 5, 4)


def _affine(direction: NDArray[np.float64], spacing: tuple[float, ...] = (1.5, 0.75, 3.0)) -> Any:
    affine = np.eye(4)
    affine[:3, :3] = direction * np.array(spacing)
    affine[:3, 3] = (7.0, -13.0, 21.0)
    return affine


def _write(
    folder: Path, array: NDArray[Any], affine_ras: Any, *, name: str = "image.nii.gz"
) -> Image:
    folder.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, affine_ras)
    image.set_sform(affine_ras, code=1)
    image.set_qform(affine_ras, code=1)
    image.to_filename(folder / name)
    return Image(array, RAS_TO_LPS @ affine_ras)


def _values(dtype: str = "int16") -> NDArray[Any]:
    return distinct_values(SHAPE).astype(dtype)


def nifti_plain(folder: Path) -> Expectation:
    return reads(_write(folder, _values(), _affine(np.eye(3))), clean=True, studies=1)


def nifti_uncompressed_file(folder: Path) -> Expectation:
    truth = _write(folder, _values(), _affine(np.eye(3)), name="image.nii")
    return reads(truth, entry="image.nii", clean=True)


def nifti_left_handed(folder: Path) -> Expectation:
    return reads(_write(folder, _values(), _affine(np.diag([-1.0, 1.0, 1.0]))), clean=True)


def nifti_right_handed_flipped(folder: Path) -> Expectation:
    return reads(_write(folder, _values(), _affine(np.diag([-1.0, -1.0, 1.0]))), clean=True)


def nifti_permuted_oblique(folder: Path) -> Expectation:
    turn = rotation(0, 21.0) @ rotation(2, -33.0) @ np.array([[0, 0, 1], [1, 0, 0], [0, 1.0, 0]])
    return reads(_write(folder, _values("float32"), _affine(turn)))


def nifti_sform_qform_conflict(folder: Path) -> Expectation:
    """Two affines that disagree: one of them, flagged, or refused."""
    truth = _write(folder, _values(), _affine(np.eye(3)))
    image = nib.load(folder / "image.nii.gz")
    other = _affine(np.diag([-1.0, 1.0, 1.0]), (2.0, 2.0, 2.0))
    image.set_qform(other, code=1)
    nib.Nifti1Image(np.asarray(image.dataobj), None, image.header).to_filename(
        folder / "image.nii.gz"
    )
    return Expectation(
        images=((truth,), (Image(truth.array, RAS_TO_LPS @ other),)), flagged=True,
        may_refuse=True,
    )  # fmt: skip


def nifti_qform_only(folder: Path) -> Expectation:
    truth = _write(folder, _values(), _affine(rotation(2, 30.0)))
    image = nib.load(folder / "image.nii.gz")
    image.set_sform(None, code=0)
    image.to_filename(folder / "again.nii.gz")
    (folder / "image.nii.gz").unlink()
    return reads(truth)


def nifti_without_forms(folder: Path) -> Expectation:
    """Neither form: orientation unknown, flagged or refused."""
    affine = np.diag([1.5, 0.75, 3.0, 1.0])
    truth = _write(folder, _values(), affine)
    image = nib.load(folder / "image.nii.gz")
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    image.to_filename(folder / "again.nii.gz")
    (folder / "image.nii.gz").unlink()
    read = nib.load(folder / "again.nii.gz").affine
    return reads(Image(truth.array, RAS_TO_LPS @ read), flagged=True, may_refuse=True)


def nifti_4d(folder: Path) -> Expectation:
    array = distinct_values((6, 5, 4, 3)).astype(np.int16)
    affine = _affine(np.eye(3))
    _write(folder, array, affine)
    images = [Image(array[..., t], RAS_TO_LPS @ affine) for t in range(3)]
    return reads(*images, may_refuse=True)


def nifti_4d_of_one(folder: Path) -> Expectation:
    array = distinct_values((6, 5, 4, 1)).astype(np.int16)
    affine = _affine(np.eye(3))
    _write(folder, array, affine)
    return reads(Image(array[..., 0], RAS_TO_LPS @ affine), may_refuse=True)


def nifti_5d(folder: Path) -> Expectation:
    _write(folder, distinct_values((6, 5, 4, 1, 3)).astype(np.int16), _affine(np.eye(3)))
    return refuses()


def nifti_rgb(folder: Path) -> Expectation:
    array = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    _write(folder, array, _affine(np.eye(3)))
    return refuses()


def nifti_complex(folder: Path) -> Expectation:
    _write(folder, _values("complex64"), _affine(np.eye(3)))
    return refuses()


def nifti_2d(folder: Path) -> Expectation:
    array = distinct_values((6, 5)).astype(np.int16)
    affine = _affine(np.eye(3))
    _write(folder, array, affine)
    return reads(Image(array[..., None], RAS_TO_LPS @ affine), flagged=True, may_refuse=True)


def nifti_nan(folder: Path) -> Expectation:
    array = _values("float32")
    array[2, 2, 2] = np.nan
    _write(folder, array, _affine(np.eye(3)))
    return refuses()


def nifti_infinite(folder: Path) -> Expectation:
    array = _values("float32")
    array[1, 2, 3] = np.inf
    _write(folder, array, _affine(np.eye(3)))
    return refuses()


def _reheader(folder: Path, **fields: Any) -> None:
    """Overwrite raw header fields of folder/image.nii.gz."""
    path = folder / "image.nii.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    header = np.frombuffer(bytes(content[:348]), dtype=nib.Nifti1Header.template_dtype).copy()
    for name, value in fields.items():
        header[name] = value
    content[:348] = header.tobytes()
    path.write_bytes(gzip.compress(bytes(content)))


def nifti_sheared(folder: Path) -> Expectation:
    affine = _affine(np.eye(3))
    affine[0, 2] = 1.2
    folder.mkdir(parents=True, exist_ok=True)
    array = _values()
    image = nib.Nifti1Image(array, None)
    image.set_sform(affine, code=1)
    image.to_filename(folder / "image.nii.gz")
    return Expectation(images=((Image(array, RAS_TO_LPS @ affine),),), flagged=True,
                       may_refuse=True)  # fmt: skip


def nifti_determinant_zero(folder: Path) -> Expectation:
    _write(folder, _values(), _affine(np.eye(3)))
    _reheader(folder, srow_z=[0, 0, 0, 0], qform_code=0)
    return refuses()


def nifti_affine_nan(folder: Path) -> Expectation:
    _write(folder, _values(), _affine(np.eye(3)))
    _reheader(folder, srow_x=[np.nan, 0, 0, 0], qform_code=0)
    return refuses()


def nifti_scaled(folder: Path) -> Expectation:
    truth = _write(folder, _values(), _affine(np.eye(3)))
    _reheader(folder, scl_slope=0.25, scl_inter=-100.0)
    return reads(Image(truth.array * 0.25 - 100.0, truth.affine_lps))


def nifti_scale_zero(folder: Path) -> Expectation:
    """scl_slope 0 means "no scaling" by the NIfTI standard."""
    truth = _write(folder, _values(), _affine(np.eye(3)))
    _reheader(folder, scl_slope=0.0, scl_inter=5.0)
    return reads(truth)


def nifti_scale_nan(folder: Path) -> Expectation:
    truth = _write(folder, _values(), _affine(np.eye(3)))
    _reheader(folder, scl_slope=np.nan, scl_inter=np.nan)
    return reads(truth, may_refuse=True)


def nifti_scale_overflows(folder: Path) -> Expectation:
    truth = _write(folder, _values(), _affine(np.eye(3)))
    _reheader(folder, scl_slope=1000.0, scl_inter=-7.0)
    return reads(Image(truth.array.astype(float) * 1000.0 - 7.0, truth.affine_lps))


def nifti_unsigned_16(folder: Path) -> Expectation:
    array = distinct_values(SHAPE, step=500).astype(np.uint16)
    return reads(_write(folder, array, _affine(np.eye(3))))


def nifti_gz_truncated(folder: Path) -> Expectation:
    _write(folder, _values(), _affine(np.eye(3)))
    path = folder / "image.nii.gz"
    path.write_bytes(path.read_bytes()[:-30])
    return refuses(refusal_names=("image.nii.gz",))


def nifti_gz_flipped_byte(folder: Path) -> Expectation:
    """The checksum of gzip is the only witness."""
    _write(folder, _values(), _affine(np.eye(3)))
    path = folder / "image.nii.gz"
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF
    path.write_bytes(bytes(content))
    return refuses(refusal_names=("image.nii.gz",))


def nifti_truncated(folder: Path) -> Expectation:
    _write(folder, _values(), _affine(np.eye(3)), name="image.nii")
    path = folder / "image.nii"
    path.write_bytes(path.read_bytes()[:-30])
    return refuses(refusal_names=("image.nii",))


def nifti_is_text(folder: Path) -> Expectation:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "image.nii.gz").write_text("not an image")
    return Expectation(images=((),), not_images=("image.nii.gz",))


def nifti_empty(folder: Path) -> Expectation:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "image.nii").write_bytes(b"")
    return Expectation(images=((),), not_images=("image.nii",))


def nifti_claims_too_much(folder: Path) -> Expectation:
    """Dimensions of 32767 cubed in a file of some hundred bytes."""
    _write(folder, _values(), _affine(np.eye(3)))
    _reheader(folder, dim=[3, 32767, 32767, 32767, 1, 1, 1, 1])
    return refuses(refusal_names=("image.nii.gz",))


def nifti_gz_bomb(folder: Path) -> Expectation:
    """A header of 6x5x4 voxels and 500 MB of zeros behind it, 0.5 MB packed."""
    _write(folder, _values(), _affine(np.eye(3)), name="small.nii")
    content = (folder / "small.nii").read_bytes()
    (folder / "small.nii").unlink()
    with gzip.open(folder / "image.nii.gz", "wb", compresslevel=1) as packed:
        packed.write(content)
        for _ in range(10):
            packed.write(bytes(1 << 24))
    truth = Image(_values(), RAS_TO_LPS @ _affine(np.eye(3)))
    return reads(truth, may_refuse=True)


def nifti_two_files(folder: Path) -> Expectation:
    first = _write(folder, _values(), _affine(np.eye(3)), name="a.nii.gz")
    second = _write(folder, _values()[::-1].copy(), _affine(np.diag([-1.0, 1, 1])), name="b.nii")
    return reads(first, second, studies=2, clean=True)


def nifti_same_name_twice(folder: Path) -> Expectation:
    """a/image.nii.gz and b/image.nii.gz are two cases with two names."""
    first = _write(folder / "a", _values(), _affine(np.eye(3)))
    second = _write(folder / "b", _values()[::-1].copy(), _affine(np.eye(3)))
    return reads(first, second, studies=2)


def nifti_units_in_metres(folder: Path) -> Expectation:
    """xyzt_units says metre: the affine is not in mm."""
    truth = _write(folder, _values(), _affine(np.eye(3)))
    _reheader(folder, xyzt_units=1)
    scaled = truth.affine_lps.copy()
    scaled[:3] *= 1000.0
    return reads(Image(truth.array, scaled), flagged=True, may_refuse=True)


def nifti_with_identity_in_description(folder: Path) -> Expectation:
    truth = _write(folder, _values(), _affine(np.eye(3)))
    _reheader(folder, descrip=b"Zzyzx^Quentin PID90417", intent_name=b"Zzyzx")
    return reads(truth)


def nifti_cifti_beside(folder: Path) -> Expectation:
    """A valid CIFTI-2 file ends in .nii, holds a matrix, and stops nothing."""
    truth = _write(folder, _values(), _affine(np.eye(3)))
    brain = nib.cifti2.BrainModelAxis.from_mask(
        np.ones((3, 3, 3)), affine=np.eye(4), name="thalamus_left"
    )
    axes = (nib.cifti2.ScalarAxis(["a"]), brain)
    nib.Cifti2Image(np.ones((1, 27), np.float32), axes).to_filename(folder / "x.dscalar.nii")
    return reads(truth, not_images=("x.dscalar.nii",))


def nifti_cifti_damaged(folder: Path) -> Expectation:
    """The XML inside no longer parses."""
    truth = nifti_cifti_beside(folder)
    path = folder / "x.dscalar.nii"
    path.write_bytes(path.read_bytes().replace(b"</CIFTI>", b"</CIFTX>"))
    return truth


def nifti_voxels_below_a_micron(folder: Path) -> Expectation:
    _write(folder, _values(), _affine(np.eye(3)))
    affine = np.diag([2e-4, 2e-4, 2e-4, 1])
    _reheader(folder, **{f"srow_{axis}": affine[n] for n, axis in enumerate("xyz")}, qform_code=0)
    return refuses()


TRAPS = (
    nifti_plain, nifti_uncompressed_file, nifti_left_handed, nifti_right_handed_flipped,
    nifti_permuted_oblique, nifti_sform_qform_conflict, nifti_qform_only, nifti_without_forms,
    nifti_4d, nifti_4d_of_one, nifti_5d, nifti_rgb, nifti_complex, nifti_2d, nifti_nan,
    nifti_infinite, nifti_sheared, nifti_determinant_zero, nifti_affine_nan, nifti_scaled,
    nifti_scale_zero, nifti_scale_nan, nifti_scale_overflows, nifti_unsigned_16,
    nifti_gz_truncated, nifti_gz_flipped_byte, nifti_truncated, nifti_is_text, nifti_empty,
    nifti_claims_too_much, nifti_gz_bomb, nifti_two_files, nifti_same_name_twice,
    nifti_units_in_metres, nifti_with_identity_in_description, nifti_cifti_beside,
    nifti_cifti_damaged, nifti_voxels_below_a_micron,
)  # fmt: skip
