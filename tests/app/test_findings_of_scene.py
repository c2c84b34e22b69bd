"""Where a click on a finding leads: into its lesion, to its map's peak, or to its own structure."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from app.findings_of_scene import point_of_finding
from app.services.case_view import FindingView, SegmentView
from medmtl.core.errors import MedmtlError
from medmtl.core.geometry import Geometry

if TYPE_CHECKING:
    from app.open_case import OpenCase

GRID = Geometry.from_parts(
    shape=(20, 20, 20), spacing_mm=(2.0, 2.0, 2.0), origin_lps=(0.0, 0.0, 0.0),
    direction=((1, 0, 0), (0, 1, 0), (0, 0, 1)),
)  # fmt: skip
HEART, NODULE = 1, 2
IN_HEART, IN_NODULE, BESIDE = (10.0, 10.0, 10.0), (30.0, 30.0, 30.0), (2.0, 36.0, 2.0)
IN_CORNER_OF_HEART = (6.0, 6.0, 6.0)


def _case(*, has_mask: bool = True, nodule_ml: float = 0.2) -> OpenCase:
    labels = np.zeros(GRID.shape, dtype=np.uint8)
    labels[3:8, 3:8, 3:8] = HEART
    labels[14:17, 14:17, 14:17] = NODULE

    def masks(volume: str) -> SimpleNamespace:
        if not has_mask:
            raise MedmtlError("no mask")
        assert volume == "ct"
        return SimpleNamespace(label_map=labels, geometry=GRID)

    model = SimpleNamespace(
        lesions=frozenset({"nodule"}),
        finding_segments={"cardiomegaly": ("heart",), "nodule": ("nodule",)},
    )
    segments = [
        SegmentView("ct", label, name, volume_ml, None, None, None)
        for label, name, volume_ml in ((HEART, "heart", 1.0), (NODULE, "nodule", nodule_ml))
    ]
    answer = SimpleNamespace(segments=segments)
    return cast("OpenCase", SimpleNamespace(model=model, answer=answer, masks=masks))


def _finding(name: str, *, is_present: bool) -> FindingView:
    return FindingView(
        name, 0.9 if is_present else 0.1, 0.5, is_present, True, None, None, None, None, None,
        {}, (), (),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "is_present", "peak", "expected"),
    [
        ("nodule", True, BESIDE, IN_NODULE),  # a lesion that is called is looked at
        ("cardiomegaly", True, IN_CORNER_OF_HEART, IN_CORNER_OF_HEART),
        ("cardiomegaly", True, BESIDE, IN_HEART),  # the map points beside the heart
        ("cardiomegaly", False, None, IN_HEART),
        ("anaemia", True, BESIDE, BESIDE),  # about no structure
        ("anaemia", True, None, None),
    ],
)
def test_place(
    name: str,
    is_present: bool,
    peak: tuple[float, float, float] | None,
    expected: tuple[float, float, float] | None,
) -> None:
    finding = _finding(name, is_present=is_present)
    assert point_of_finding(_case(), finding, "ct", peak) == expected


def test_without_any_of_its_segment_the_peak_remains() -> None:
    finding = _finding("nodule", is_present=True)
    assert point_of_finding(_case(nodule_ml=0.0), finding, "ct", BESIDE) == BESIDE


def test_without_a_readable_mask_the_peak_remains() -> None:
    finding = _finding("cardiomegaly", is_present=True)
    assert point_of_finding(_case(has_mask=False), finding, "ct", BESIDE) == BESIDE
