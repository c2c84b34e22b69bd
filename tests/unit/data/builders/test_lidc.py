"""LIDC-IDRI: the readers' XML, their consensus, and the DICOM layout."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmtl.core.errors import ConfigError, InputRefusedError
from medmtl.core.geometry import Geometry
from medmtl.data.builders.copy import DataCopy
from medmtl.data.builders.lidc import build_lidc_manifest
from medmtl.data.builders.lidc_consensus import consensus
from medmtl.data.builders.lidc_xml import Contour, Nodule, Reading, read_lidc_xml
from medmtl.data.builders.table import build_checked
from medmtl.data.volume_file import read_grid, read_volume_file
from tests.dicom_factory import make_series, uid_of

GRID = Geometry.from_parts(
    shape=(24, 20, 6), spacing_mm=(1.0, 1.0, 2.5), origin_lps=(-10.0, -20.0, 30.0)
)


def ring(left: int, top: int, right: int, bottom: int) -> tuple[tuple[int, int], ...]:
    """The pixels of a rectangle's border, in order, as readers' outlines are stored."""
    return (
        *((x, top) for x in range(left, right)),
        *((right, y) for y in range(top, bottom)),
        *((x, bottom) for x in range(right, left, -1)),
        *((left, y) for y in range(bottom, top - 1, -1)),
    )


def square(
    left: int, size: int, *, k: int = 2, malignancy: int | None = None, top: int = 5
) -> Nodule:
    """A nodule of size x size pixels on one slice; its outline is one pixel outside of it."""
    points = ring(left - 1, top - 1, left + size, top + size)
    return Nodule((Contour(30.0 + 2.5 * k, points, is_inclusion=True),), malignancy)


def reading(*readers: tuple[Nodule, ...]) -> Reading:
    return Reading("1.2", readers)


def test_an_outline_is_the_first_pixel_outside() -> None:
    agreed = consensus(reading((square(5, 4),)), GRID)
    expected = np.zeros(GRID.shape, dtype=np.uint8)
    expected[5:9, 5:9, 2] = 1
    assert np.array_equal(agreed.mask, expected)


def test_a_voxel_needs_half_of_the_readers() -> None:
    agreed = consensus(reading((square(5, 4),), (square(7, 4),), (), ()), GRID)
    inside = np.flatnonzero(agreed.mask[:, 5, 2])
    assert inside.tolist() == [7, 8]
    assert agreed.nodule_present is True


def test_three_readers_need_two() -> None:
    assert consensus(reading((square(5, 4),), (), ()), GRID).mask.sum() == 0
    assert consensus(reading((square(5, 4),), (square(5, 4),), ()), GRID).mask.sum() == 16


def test_a_nodule_that_few_saw_is_unknown_and_one_that_none_saw_is_absent() -> None:
    few = consensus(reading((square(5, 4),), (), (), ()), GRID)
    none = consensus(reading((), (), (), ()), GRID)
    assert (few.nodule_present, none.nodule_present) == (None, False)
    assert few.mask.sum() == none.mask.sum() == 0
    assert (few.malignancy, none.malignancy) == (None, None)


def test_nodules_below_3_mm_alone_are_unknown_and_change_nothing_beside_larger_ones() -> None:
    small = consensus(Reading("1.2", ((), ()), has_small=True), GRID)
    both = consensus(Reading("1.2", ((square(5, 4),), ()), has_small=True), GRID)
    assert (small.nodule_present, both.nodule_present) == (None, True)


def test_many_nodules_need_no_mask_of_the_grid_each() -> None:
    grid = Geometry.from_parts(shape=(128, 128, 60), spacing_mm=(1.0, 1.0, 1.0))
    nodule = Nodule((Contour(30.0, ring(4, 4, 9, 9), is_inclusion=True),), 3)
    tracemalloc.start()
    consensus(reading(*((nodule,) * 10,) * 4), grid)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * np.prod(grid.shape)  # bytes; 40 masks of the grid would be twice as many


@pytest.mark.parametrize(
    ("ratings", "expected"),
    [
        ((5, 4), True), ((1, 2), False), ((3, 3), None), ((2, 4), None), ((3, 4), True),
        ((3, 2), False), ((None, None), None), ((5, None), True),
    ],
)  # fmt: skip
def test_malignancy_is_the_median_of_the_ratings(
    ratings: tuple[int | None, ...], expected: bool | None
) -> None:
    readers = [(square(5, 4, malignancy=rating),) for rating in ratings]
    assert consensus(reading(*readers), GRID).malignancy is expected


def test_one_suspicious_nodule_decides() -> None:
    two = (square(3, 4, malignancy=1), square(15, 4, malignancy=5))
    assert consensus(reading(two, two), GRID).malignancy is True
    benign = (square(3, 4, malignancy=1), square(15, 4, malignancy=3))
    assert consensus(reading(benign, benign), GRID).malignancy is None


def test_a_hole_is_cut_out() -> None:
    outer = square(5, 8).contours[0]
    hole = Contour(35.0, ring(7, 7, 10, 10), is_inclusion=False)
    mask = consensus(reading((Nodule((outer, hole), None),)), GRID).mask
    assert mask.sum() == 8 * 8 - 2 * 2
    assert mask[8, 8, 2] == 0


def test_slices_from_head_to_foot_are_found_too() -> None:
    down = Geometry(GRID.shape, GRID.affine_lps @ np.diag([1.0, 1.0, -1.0, 1.0]))
    nodule = Nodule((Contour(25.0, ring(4, 4, 9, 9), is_inclusion=True),), None)
    assert np.flatnonzero(consensus(reading((nodule,)), down).mask.any(axis=(0, 1))) == [2]


@pytest.mark.parametrize("z_mm", [29.0, 31.2, 100.0, float("nan")])
def test_a_contour_on_no_slice_is_refused(z_mm: float) -> None:
    nodule = Nodule((Contour(z_mm, ring(4, 4, 9, 9), is_inclusion=True),), None)
    with pytest.raises(InputRefusedError, match="contour-off-slice"):
        consensus(reading((nodule,)), GRID)


def test_slices_that_are_not_axial_are_refused() -> None:
    coronal = Geometry.from_parts(
        shape=(4, 4, 4), spacing_mm=(1, 1, 1), direction=[[1, 0, 0], [0, 0, 1], [0, -1, 0]]
    )
    with pytest.raises(InputRefusedError, match="not-axial"):
        consensus(reading(()), coronal)


def roi(z_mm: float, points: tuple[tuple[int, int], ...], *, inclusion: str = "TRUE") -> str:
    edges = "".join(
        f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in points
    )
    return (
        f"<roi><imageZposition>{z_mm}</imageZposition><imageSOP_UID>1.2.3</imageSOP_UID>"
        f"<inclusion>{inclusion}</inclusion>{edges}</roi>"
    )


def xml(series_uid: str, *sessions: str) -> str:
    body = "".join(f"<readingSession>{session}</readingSession>" for session in sessions)
    return (
        '<?xml version="1.0" encoding="UTF-8"?><LidcReadMessage uid="1.3" xmlns="http://www.nih.gov">'
        f"<ResponseHeader><SeriesInstanceUid>{series_uid}</SeriesInstanceUid></ResponseHeader>"
        f"{body}</LidcReadMessage>"
    )


def drawn(malignancy: int) -> str:
    return (
        "<unblindedReadNodule><noduleID>N1</noduleID><characteristics><subtlety>5</subtlety>"
        f"<malignancy>{malignancy}</malignancy></characteristics>"
        f"{roi(32.5, ring(4, 4, 9, 9))}{roi(35.0, ring(4, 4, 9, 9))}</unblindedReadNodule>"
    )


SMALL = f"<unblindedReadNodule><noduleID>N2</noduleID>{roi(32.5, ((3, 3),))}</unblindedReadNodule>"
OTHER = "<nonNodule><nonNoduleID>X</nonNoduleID></nonNodule>"


def test_a_reading_is_parsed_without_small_nodules_and_marks_of_other_things(
    tmp_path: Path,
) -> None:
    path = tmp_path / "069.xml"
    path.write_text(xml("1.2.840", drawn(4) + SMALL + OTHER, SMALL, ""))
    read = read_lidc_xml(path)
    assert read is not None
    assert read.series_uid == "1.2.840"
    assert [len(nodules) for nodules in read.readers] == [1, 0, 0]
    assert read.has_small
    nodule = read.readers[0][0]
    assert nodule.malignancy == 4
    assert [contour.z_mm for contour in nodule.contours] == [32.5, 35.0]
    assert nodule.contours[0].points == ring(4, 4, 9, 9)


def test_a_radiograph_is_no_reading_and_damage_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text("<IdriReadMessage xmlns='http://www.nih.gov'/>")
    assert read_lidc_xml(path) is None
    path.write_text("<LidcReadMessage>")
    with pytest.raises(ConfigError, match="cannot be read as a LIDC reading"):
        read_lidc_xml(path)
    path.write_text('<!DOCTYPE a [<!ENTITY b "c">]><LidcReadMessage>&b;</LidcReadMessage>')
    with pytest.raises(ConfigError, match="entities"):
        read_lidc_xml(path)


@given(
    content=st.one_of(
        st.binary(max_size=300),
        st.text(max_size=60).map(lambda text: xml("1", text).encode()),
        st.text(alphabet="-.0123456789x", max_size=6).map(
            lambda text: xml("1", drawn(4).replace("<xCoord>4<", f"<xCoord>{text}<")).encode()
        ),
        st.sampled_from(["utf-16", "no-such", "idna"]).map(
            lambda name: f'<?xml version="1.0" encoding="{name}"?><LidcReadMessage/>'.encode()
        ),
    )
)
@settings(max_examples=80, deadline=None)
def test_no_content_crashes_the_parser(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("xml") / "a.xml"
    path.write_bytes(content)
    try:
        read = read_lidc_xml(path)
    except ConfigError:
        return
    assert read is None or all(isinstance(nodules, tuple) for nodules in read.readers)


def patient(root: Path, number: int, *sessions: str) -> Path:
    """A patient folder as the archive gives it out: CT slices with the XML beside them."""
    name = f"LIDC-IDRI-{number:04d}"
    folder = root / name / "01-01-2000-NA" / "3000566.000000-NA"
    values = np.random.default_rng(number).integers(-1000, 400, GRID.shape).astype(np.int16)
    make_series(
        folder, array=values, geometry=GRID, name="ct", study=name, PatientID=name,
        Manufacturer="SIEMENS", PatientAge="061Y",
    )  # fmt: skip
    (folder / "069.xml").write_text(xml(uid_of(name, "ct"), *sessions))
    return folder


@pytest.mark.slow
def test_the_layout_of_the_archive(tmp_path: Path) -> None:
    root, made = tmp_path / "copy", tmp_path / "made"
    patient(root / "LIDC-IDRI", 1, drawn(5), drawn(4), SMALL, "")
    patient(root / "LIDC-IDRI", 2, SMALL, "", "", "")
    patient(root / "LIDC-IDRI", 3, drawn(2), "", "", "")
    folder = patient(root / "LIDC-IDRI", 4, drawn(1))
    (folder / "069.xml").write_text(xml("9.9.9", drawn(1)))
    patient(root / "LIDC-IDRI", 5, "", "", OTHER, "")
    built = build_checked("lidc", DataCopy.at(root, made))
    assert built.problems == ()
    assert built.layout == (
        "LIDC-IDRI-0004: no-such-series: found no CT series with the UID of the reading, "
        "expected the CT slices beside the XML; left out",
        "LIDC-IDRI-0004: no CT series with a usable reading; left out",
    )
    assert [dict(case.findings) for case in built.manifest.cases] == [
        {"nodule_present": True, "malignancy": True},
        {"nodule_present": None, "malignancy": None},
        {"nodule_present": None, "malignancy": None},
        {"nodule_present": False, "malignancy": None},
    ]
    rows = [case.volumes[0] for case in built.manifest.cases]
    assert [row.segmentation is not None for row in rows] == [True, False, False, True]
    assert [row.annotated_segments for row in rows[:2]] == [("lung_nodule",), ()]
    first = built.manifest.cases[0]
    row = first.volumes[0]
    mask = read_volume_file(made, row.segmentation or "")
    expected = np.zeros(GRID.shape)
    expected[5:9, 5:9, 1:3] = 1
    assert read_grid(made, row.image).is_close(GRID)
    assert np.array_equal(mask.array, expected)
    assert first.covariates.age_years == 61
    assert first.attributes["vendor"] == "siemens"


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No usable LIDC-IDRI series"):
        build_lidc_manifest(DataCopy.at(tmp_path))
