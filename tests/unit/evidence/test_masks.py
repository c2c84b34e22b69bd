"""Each flag on the masks: one label map that raises it, one that does not."""

import numpy as np
import pytest
from numpy.typing import NDArray

from medmtl.core.flags import Flag
from medmtl.core.labels import LabelSchema, SegmentSpec
from medmtl.core.prediction import SegmentResult
from medmtl.evidence.masks import MaskRules, check_masks

SCHEMA = LabelSchema(
    segments=(
        SegmentSpec(1, "liver", expected_ml=(0.5, 1.5)),
        SegmentSpec(2, "heart"),
        SegmentSpec(3, "liver_lesion", is_lesion=True, expected_ml=(0.1, 0.2)),
    )
)
SHAPE = (24, 24, 24)  # 1 mm voxels


def organs() -> NDArray[np.uint8]:
    """A liver of 10 x 10 x 10 mm and a heart of 6 x 6 x 6 mm, away from the border."""
    label_map = np.zeros(SHAPE, dtype=np.uint8)
    label_map[2:12, 2:12, 2:12] = 1
    label_map[15:21, 15:21, 15:21] = 2
    return label_map


def codes(label_map: NDArray[np.uint8], rules: MaskRules | None = None) -> list[str]:
    return [flag.code for flag in flags_of(label_map, rules)]


def flags_of(label_map: NDArray[np.uint8], rules: MaskRules | None = None) -> tuple[Flag, ...]:
    counts = {spec: int((label_map == spec.label).sum()) for spec in SCHEMA.segments}
    segments = [
        SegmentResult("es", spec.label, spec.name, count / 1000, count, None)
        for spec, count in counts.items()
    ]
    return check_masks(SCHEMA, label_map, segments=segments, rules=rules)


def test_plausible_organs_raise_nothing() -> None:
    assert not codes(organs())


def test_no_lesion_and_many_lesions_at_the_border_raise_nothing() -> None:
    label_map = organs()
    label_map[2:4, 2:4, 0:2] = label_map[8:10, 8:10, 0:2] = 3
    assert not codes(label_map)


def test_an_empty_organ_is_named() -> None:
    label_map = organs()
    label_map[label_map == 2] = 0
    (flag,) = flags_of(label_map)
    assert flag.code == "segment-empty"
    assert "Volume es: heart was not found" in flag.message


@pytest.mark.parametrize("side", [6, 14])
def test_an_implausible_volume_is_named_with_its_limits(side: int) -> None:
    label_map = np.where(organs() == 2, organs(), 0)
    label_map[1 : 1 + side, 1 : 1 + side, 1 : 1 + side] = 1
    (flag,) = flags_of(label_map)
    assert flag.code == "volume-implausible"
    assert f"liver has {side**3 / 1000:.1f} mL, expected is 0.4 to 1.9 mL" in flag.message


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("is_last", [False, True])
def test_an_organ_cut_by_any_border_is_named(axis: int, is_last: bool) -> None:
    label_map = np.roll(organs(), 3 if is_last else -2, axis=axis)
    (flag,) = flags_of(label_map)
    assert flag.code == "segment-cut-off"
    name = ("column", "row", "slice")[axis]
    assert f"cut off at the {'last' if is_last else 'first'} {name}" in flag.message


def test_a_tip_that_touches_the_border_is_no_cut() -> None:
    label_map = organs()
    label_map[5, 5, :2] = 1
    assert not codes(label_map)


def test_a_short_axis_stack_may_end_inside_the_heart() -> None:
    label_map = np.roll(organs(), 3, axis=2)
    assert codes(label_map) == ["segment-cut-off"]
    assert not codes(label_map, MaskRules(border_axes=(0, 1)))
    assert not codes(label_map, MaskRules(may_be_cut=("heart",)))


def test_an_organ_in_two_large_pieces_is_fragmented() -> None:
    label_map = organs()
    label_map[6:8, 2:12, 2:12] = 0
    (flag,) = flags_of(label_map)
    assert flag.code == "segment-fragmented"
    assert "liver is in 2 pieces, the second holds 50 % of it" in flag.message
    assert not codes(label_map, MaskRules(may_be_pieces=("liver",)))


def test_a_crumb_beside_the_organ_is_not_fragmentation() -> None:
    label_map = organs()
    label_map[22, 22, 2] = 1
    assert not codes(label_map)


def test_a_large_organ_is_looked_at_in_blocks() -> None:
    label_map = np.zeros((200, 200, 120), dtype=np.uint8, order="F")
    label_map[2:90, 2:198, 2:118] = 2
    label_map[110:198, 2:198, 2:118] = 2
    assert codes(label_map) == ["segment-empty", "segment-fragmented"]
    label_map[90:110, 99, 60] = 2  # a bridge of one voxel
    assert codes(label_map) == ["segment-empty"]


def test_segments_without_a_result_are_not_checked() -> None:
    assert not check_masks(SCHEMA, np.zeros(SHAPE, dtype=np.uint8), segments=[])
