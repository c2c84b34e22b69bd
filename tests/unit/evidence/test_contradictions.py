"""Each contradiction: one study that raises it, one that does not."""

import numpy as np
import pytest
from pydantic import ValidationError

from medmtl.core.geometry import Geometry
from medmtl.core.labels import FindingSpec, LabelSchema
from medmtl.core.prediction import FindingResult, Measurement, SegmentResult
from medmtl.core.volume import Volume
from medmtl.evidence.contradictions import (
    MeasurementRule,
    check_activation,
    check_contradictions,
    check_measurements,
)

SCHEMA = LabelSchema(
    findings=(
        FindingSpec("nodule", segments=("lung_left", "lung_right"), requires_segment="nodule_mask"),
        FindingSpec("dcm", segments=("myocardium",)),
    )
)
GRID = Geometry.from_parts(shape=(2, 2, 2), spacing_mm=(1, 1, 1))


def finding(
    name: str = "nodule", *, decision: bool, energy: dict[str, float] | None = None, peak: float = 1
) -> FindingResult:
    cam = Volume(array=np.full(GRID.shape, peak), geometry=GRID)
    return FindingResult(
        name=name, probability=0.9 if decision else 0.1, threshold=0.5, decision=decision,
        calibrated=True, cams={} if energy is None else {"image": cam},
        cam_energy_in_segments=energy or {},
    )  # fmt: skip


def lesion(volume_ml: float, *, volume: str = "image") -> SegmentResult:
    return SegmentResult(volume, 3, "nodule_mask", volume_ml, int(volume_ml * 1000), None)


@pytest.mark.parametrize(
    ("decision", "volume_ml", "expected"),
    [
        (True, 0.0, ["finding-without-lesion"]),
        (True, 0.5, []),
        (False, 0.5, ["lesion-without-finding"]),
        (False, 0.0, []),
        (False, 0.05, []),
    ],
)
def test_a_finding_and_its_lesion_mask_must_agree(
    decision: bool, volume_ml: float, expected: list[str]
) -> None:
    flags = check_contradictions(
        SCHEMA, segments=[lesion(volume_ml)], findings=[finding(decision=decision)]
    )
    assert [flag.code for flag in flags] == expected
    assert all(f"{volume_ml:.2f} mL" in flag.message for flag in flags)


def test_a_lesion_in_any_volume_supports_the_finding() -> None:
    segments = [lesion(0.0, volume="native"), lesion(0.5, volume="venous")]
    assert not check_contradictions(SCHEMA, segments=segments, findings=[finding(decision=True)])


def test_nothing_is_said_where_no_segmentation_or_no_diagnosis_was_made() -> None:
    assert not check_contradictions(SCHEMA, segments=[], findings=[finding(decision=True)])
    assert not check_contradictions(SCHEMA, segments=[lesion(0.5)], findings=[])


DCM_PRESENT = MeasurementRule(
    finding="dcm", is_present=True, measurement="lv_ejection_fraction", high=0.55
)
DCM_ABSENT = MeasurementRule(
    finding="dcm", is_present=False, measurement="lv_ejection_fraction", low=0.3
)


@pytest.mark.parametrize(
    ("decision", "value", "expected"),
    [
        (True, 0.6, "dcm is called present, but lv_ejection_fraction is 0.6 1 where at most 0.55"),
        (True, 0.55, None),
        (False, 0.2, "dcm is called absent, but lv_ejection_fraction is 0.2 1 where at least 0.3"),
        (False, 0.6, None),
        (True, None, None),
    ],
)
def test_a_finding_and_its_measurement_must_agree(
    decision: bool, value: float | None, expected: str | None
) -> None:
    flags = check_measurements(
        [DCM_PRESENT, DCM_ABSENT],
        measurements=[Measurement("lv_ejection_fraction", value, "1", "ed, es")],
        findings=[finding("dcm", decision=decision)],
    )
    if expected is None:
        assert not flags
        return
    (flag,) = flags
    assert flag.code == "finding-against-measurement"
    assert expected in flag.message


def test_a_rule_on_what_was_not_measured_or_diagnosed_says_nothing() -> None:
    assert not check_measurements([DCM_PRESENT], measurements=[], findings=[])


def test_a_rule_without_limits_is_refused() -> None:
    with pytest.raises(ValidationError, match="give low, high or both"):
        MeasurementRule(finding="dcm", is_present=True, measurement="lv_ejection_fraction")


def activation_codes(result: FindingResult) -> list[str]:
    return [flag.code for flag in check_activation(SCHEMA, findings=[result], min_share=0.4)]


def test_activation_outside_of_the_organ_is_flagged() -> None:
    outside = finding(decision=True, energy={"lung_left": 0.1, "lung_right": 0.2, "heart": 0.6})
    (flag,) = check_activation(SCHEMA, findings=[outside], min_share=0.4)
    assert flag.code == "activation-outside-organ"
    assert "only 30 % of its activation lies in lung_left, lung_right" in flag.message


def test_activation_inside_the_organs_together_raises_nothing() -> None:
    inside = finding(decision=True, energy={"lung_left": 0.3, "lung_right": 0.2})
    assert not activation_codes(inside)


def test_activation_of_zero_everywhere_is_flagged() -> None:
    assert activation_codes(finding(decision=True, energy={"lung_left": 0.0}, peak=0)) == [
        "activation-empty"
    ]


def test_activation_of_an_absent_finding_or_without_maps_raises_nothing() -> None:
    assert not activation_codes(finding(decision=False, energy={"lung_left": 0.0}))
    assert not activation_codes(finding(decision=True))
