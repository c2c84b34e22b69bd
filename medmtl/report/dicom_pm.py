"""cam_<finding>.pm.dcm: an activation map as a DICOM Parametric Map (PS3.3 A.75).

Floating point on the map's own coarse grid, which is where its values were computed; a viewer
interpolates as it likes.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from highdicom import VOILUTTransformation
from highdicom.pm import ParametricMap, RealWorldValueMapping
from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from medmtl.core.geometry import Geometry
from medmtl.core.resample import parallel_axes
from medmtl.report.dicom_planes import planes_of, source_image_items
from medmtl.report.dicom_source import RESEARCH_ONLY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medmtl.core.volume import Volume
    from medmtl.report.dicom_source import DicomSource

__all__ = ["make_pm"]

_SERIES_NUMBER = 9102
_QUANTITY = Code("activation", "99MEDMTL", "Class activation, scaled to 0..1")


def make_pm(source: DicomSource, cam: Volume, *, finding: str, number: int) -> ParametricMap:
    """Build the parametric map of one finding in one volume.

    Args:
        source: Of the volume.
        cam: Map in 0..1 on its own grid.
        finding: Name of the finding.
        number: Instance number, from 1: its place among the findings.
    """
    values, geometry = _along_slices(cam, source.geometry)
    digest = hashlib.sha256(values.tobytes() + geometry.affine_lps.tobytes()).hexdigest()
    planes = planes_of(geometry, source.frames)
    positions, orientation, measures = planes.sequences()
    words = finding.replace("_", " ")
    pm = ParametricMap(
        source_images=[source.template(rows=values.shape[1], columns=values.shape[2])],
        pixel_array=values,
        series_instance_uid=source.uid("pm"),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=source.uid("pm", finding, digest),
        instance_number=number,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[_mapping(words)],
        voi_lut_transformations=[VOILUTTransformation(window_center=0.5, window_width=1.0)],
        plane_positions=positions,
        plane_orientation=orientation,
        pixel_measures=measures,
        content_label="ACTIVATION",
        content_description=f"{words[:12]}: {RESEARCH_ONLY}"[:64],
        **source.equipment(),
    )
    derivation = CodedConcept.from_code(codes.DCM.UnspecifiedMethodOfCalculation)
    sources = source_image_items(planes, source.frames, derivation=derivation)
    by_place = {_place(position): item for position, item in zip(positions, sources, strict=True)}
    shared = pm.SharedFunctionalGroupsSequence[0]
    for frame in pm.PerFrameFunctionalGroupsSequence:
        group = frame if "PlanePositionSequence" in frame else shared
        frame.DerivationImageSequence = by_place[_place(group.PlanePositionSequence)]
    pm.ReferencedSeriesSequence = source.referenced_series()
    source.finish(pm)
    pm.Laterality = None  # type 2C, and an organ of a map may be one of a pair
    pm.SeriesDescription = f"Activation maps, {source.description}"[:64]
    return pm


def _place(position: object) -> tuple[str, ...]:
    return tuple(str(value) for value in position[0].ImagePositionPatient)  # type: ignore[index]


def _along_slices(cam: Volume, source: Geometry) -> tuple[NDArray[np.float32], Geometry]:
    """The map as planes (K, J, I) along the source's slices, and its grid with the same axes."""
    axes = parallel_axes(cam.geometry, source)
    affine = cam.geometry.affine_lps.copy()
    affine[:3, :3] = affine[:3, list(axes)]
    shape = tuple(cam.geometry.shape[axis] for axis in axes)
    values = np.clip(np.asarray(cam.array, dtype=np.float32), 0.0, 1.0).transpose(axes)
    grid = Geometry(shape=(shape[0], shape[1], shape[2]), affine_lps=affine)
    return np.ascontiguousarray(values.transpose(2, 1, 0)), grid


def _mapping(words: str) -> RealWorldValueMapping:
    """Stored values are the real ones: 0 no activation, 1 the strongest response of every level."""
    return RealWorldValueMapping(
        lut_label="activation",
        lut_explanation=f"Activation for {words}"[:64],
        unit=codes.UCUM.NoUnits,
        value_range=(0.0, 1.0),
        slope=1.0,
        intercept=0.0,
        quantity_definition=_QUANTITY,
    )
