"""Each flag before the network: one volume that raises it, one that does not."""

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from medmtl.core.geometry import Geometry
from medmtl.core.volume import Volume
from medmtl.evidence.input_ranges import InputRanges, input_ranges
from medmtl.evidence.quality import check_input

SPACING_MM = (1.5, 1.5, 8.0)
SHAPE = (64, 48, 10)


def image(
    *,
    shape: tuple[int, int, int] = SHAPE,
    spacing_mm: tuple[float, float, float] = SPACING_MM,
    low: float = -1000.0,
    high: float = 1000.0,
) -> Volume:
    """A ramp from `low` to `high`, squared so that the median lies at a quarter of the range."""
    ramp = np.linspace(0, 1, int(np.prod(shape))).reshape(shape) ** 2
    geometry = Geometry.from_parts(shape=shape, spacing_mm=spacing_mm)
    return Volume(array=low + (high - low) * ramp, geometry=geometry, id="ed", modality="CT")


RANGES = input_ranges([image()], modality="CT", has_units=True)


def codes(volume: Volume, ranges: InputRanges = RANGES) -> set[str]:
    return {flag.code for flag in check_input(volume, ranges)}


def inverted(volume: Volume) -> Volume:
    return volume.with_array(-volume.array)


RAISED: dict[str, tuple[Volume, str]] = {
    "modality-unexpected": (replace(image(), modality="MR"), "modality MR.*from CT only"),
    "spacing-outside-training": (
        image(shape=(64, 48, 40), spacing_mm=(1.5, 1.5, 2.0)),
        r"slice axis is 2\.00 mm, training images had 6\.67 to 9\.60 mm",
    ),
    "field-of-view-small": (
        image(shape=(20, 48, 10)), "column axis is 30 mm, training images had at least 80 mm",
    ),
    "field-of-view-large": (
        image(shape=(64, 96, 10)), "row axis is 144 mm, training images had at most 86 mm",
    ),
    "slices-few": (image(shape=(64, 48, 7)), "7 slices, training images had at least 8"),
    "contrast-missing": (image(low=40.0, high=40.0), "all voxels have the value 40"),
    "intensity-outside-training": (
        image(low=24.0, high=2024.0), "1 % of the voxels lie below 24, in training images below",
    ),
    "contrast-outside-training": (inverted(image()), r"median lies at 0\.7.*may be inverted"),
}  # fmt: skip


@pytest.mark.parametrize("code", RAISED)
def test_raises_the_flag_and_says_what_was_found(code: str) -> None:
    volume, message = RAISED[code]
    flags = [flag for flag in check_input(volume, RANGES) if flag.code == code]
    assert flags
    assert flags[0].message.startswith("Volume ed: ")
    assert re.search(message, flags[0].message)


def test_an_image_like_those_of_training_raises_nothing() -> None:
    assert not codes(image())


@pytest.mark.parametrize(
    "change",
    [
        lambda: replace(image(), modality=""),  # NIfTI does not say
        lambda: image(spacing_mm=(1.4, 1.6, 8.5)),
        lambda: image(shape=(70, 44, 9)),
        lambda: image(low=-1050.0, high=950.0),
    ],
)
def test_small_differences_raise_nothing(change: Callable[[], Volume]) -> None:
    assert not codes(change())


def test_magnetic_resonance_intensities_have_no_unit() -> None:
    ranges = input_ranges([image()], modality="CT", has_units=False)
    assert ranges.intensity is None
    assert not codes(image(low=0.0, high=77.0), ranges)
    assert codes(inverted(image(low=0.0, high=77.0)), ranges) == {"contrast-outside-training"}


def test_patient_axes_follow_the_anatomy_not_the_array() -> None:
    ranges = input_ranges([image()], modality="CT", axes="patient", has_units=True)
    volume = image()
    sagittal = Volume(
        array=volume.array.transpose(1, 2, 0),
        geometry=Geometry(
            shape=(48, 10, 64), affine_lps=volume.geometry.affine_lps[:, [1, 2, 0, 3]]
        ),
        modality="CT",
    )
    assert not codes(sagittal, ranges)
    assert "spacing-outside-training" in codes(sagittal)


def test_what_the_ranges_leave_out_is_not_checked() -> None:
    assert not codes(replace(inverted(image(shape=(9, 9, 2))), modality="MR"), InputRanges())


def test_ranges_hold_all_training_images_and_survive_storage() -> None:
    volumes = [image(), image(shape=(32, 80, 14), spacing_mm=(1.0, 1.2, 10.0), high=400.0)]
    ranges = input_ranges(volumes, modality="CT", has_units=True)
    assert not any(codes(volume, ranges) for volume in volumes)
    assert InputRanges.model_validate_json(ranges.model_dump_json()) == ranges


def test_wrong_ranges_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"\(low, high\). Found \(2.0, 1.0\)"):
        InputRanges(relative_median=(2.0, 1.0))
    with pytest.raises(ValidationError, match="Extra inputs"):
        InputRanges.model_validate({"spacing": [1, 2]})
    with pytest.raises(ValueError, match="Found none"):
        input_ranges([], modality="CT", has_units=True)


def test_a_large_image_is_sampled_to_the_same_answer() -> None:
    volume = image(shape=(160, 160, 160), spacing_mm=(1, 1, 1))
    ranges = input_ranges([volume], modality="CT", has_units=True)
    assert ranges.intensity is not None
    low, high = ranges.intensity[1]
    assert (low + high) / 2 == pytest.approx(np.median(volume.array), abs=10)
