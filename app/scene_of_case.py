"""What the volume viewer draws of a case: addresses, colours, windows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from streamlit.runtime.scriptrunner import get_script_run_ctx

from app.components.scene import (
    Scene,
    SceneVolume,
    Segment,
    WindowPreset,
    colour_of,
)
from app.findings_of_scene import findings_of_scene
from app.look import current_look
from app.resources import case_index
from app.services.images import case_image, noted_inputs
from app.services.words import plain, sentence
from app.serving.gateway import gateway
from app.serving.sources import NiftiSource
from app.shown_masks import keep_correction, shown_corrections, shown_labels
from medmtl.core.geometry import closest_axes, points_to_space
from medmtl.core.volume import NOT_HOUNSFIELD
from medmtl.data.volume_file import read_grid

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from app.components.scene import Layout
    from app.open_case import OpenCase
    from app.services.images import CaseImage
    from app.serving.sources import VolumeSource
    from medmtl.core.geometry import Geometry
    from medmtl.core.study import VolumeRef
    from medmtl.core.volume import Volume

__all__ = ["do_meet", "grey_values", "has_cine", "scene_of_case"]

_THICK = 3.0  # slices so many pixels apart show little in another plane
_PLANES: tuple[Layout, ...] = ("sagittal", "coronal", "axial")  # across x, y, z of the patient
_PRESETS: Mapping[str, tuple[WindowPreset, ...]] = {
    "CT": (
        WindowPreset("Soft tissue", -160, 240),
        WindowPreset("Lung", -1350, 150),
        WindowPreset("Bone", -500, 1300),
        WindowPreset("Brain", 0, 80),
        WindowPreset("Liver", -45, 105),
    ),
}
"""Low and high of the customary centres and widths, in HU."""


@dataclass(frozen=True)
class _Phase:
    """One phase of a cine that has no mask of its own; a source for `app.serving`."""

    beside: CaseImage
    ref: VolumeRef

    @property
    def key(self) -> str:
        return f"{self.beside.key[:24]}{self.ref.phase:08x}"

    def read(self) -> Volume:
        return self.ref.read()


def has_cine(case: OpenCase) -> bool:
    """Whether the phases of a case were chosen from a cine that can be played."""
    return any(one.source.startswith("cine") for one in case.answer.measurements)


def scene_of_case(
    case: OpenCase, *, is_cine: bool = False, beside: OpenCase | None = None
) -> Scene:
    """The scene; what must not be seen yet is not in it.

    Args:
        case: The case.
        is_cine: All phases instead of the analysed ones.
        beside: Another study of the patient, shown beside it.

    Raises:
        MedmtlError: If an image is not below the known folders, or the masks are missing.
    """
    look = current_look(case)
    images = {volume: _image(case, volume) for volume in case.answer.volumes}
    volumes = tuple(_volume(case, volume, image) for volume, image in images.items())
    if is_cine:
        volumes = tuple(_phases(case, images, volumes)) or volumes
    grids = [image.geometry for image in images.values()]
    others = () if beside is None else tuple(_beside(case, beside))
    volumes += tuple(volume for volume, _ in others)
    return Scene(
        # Another name: the viewer then puts the crosshair of all volumes to one point.
        case_id=case.key if beside is None else f"{case.key} {beside.key}",
        volumes=volumes,
        volume=look.volume if look.volume in {volume.id for volume in volumes} else "",
        segments=() if case.is_hidden else _segments(case),
        findings=findings_of_scene(case, _session()),
        finding=look.finding or "",
        layout=_layout(look.layout, grids[0], count=len(volumes)),
        crosshair_lps=look.point,
        window=look.window,
        is_linked=all(do_meet(grids[0], grid) for _, grid in others),
        is_cine_playing=is_cine,
        page_keys=_page_keys(case),
    )


def _page_keys(case: OpenCase) -> tuple[tuple[str, str], ...]:
    if not case.can_review:
        return ()
    answers = "present, absent, unsure" if case.is_hidden else "agree, disagree, unsure"
    return (
        ("Y X U", f"{answers}: the chosen finding"),
        ("G Q", "accept the mask, call for a correction"),
        ("Shift S", "sign, open the next case"),
    )


def do_meet(one: Geometry, other: Geometry) -> bool:
    """Whether two grids have a place of the patient's space in common."""
    (low, high), (other_low, other_high) = _box(one), _box(other)
    return bool(np.all(low <= other_high) and np.all(other_low <= high))


def _box(grid: Geometry) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    ends = [(-0.5, size - 0.5) for size in grid.shape]
    corners = points_to_space(grid.affine_lps, np.array(list(product(*ends))))
    return corners.min(axis=0), corners.max(axis=0)


def _layout(wanted: Layout | None, grid: Geometry, *, count: int) -> Layout:
    if wanted == "side_by_side" and count < 2:  # the study beside is gone
        wanted = None
    return wanted or _first_layout(grid)


def _beside(case: OpenCase, other: OpenCase) -> Iterator[tuple[SceneVolume, Geometry]]:
    """The volumes of another study, to look at; its masks where they mean the same.

    They stay away as long as those of the case itself do: they are the same model's answer.
    """
    is_same = other.row.model_sha256 == case.row.model_sha256
    has_masks = is_same and not case.is_hidden and not other.is_hidden
    for name in other.answer.volumes:
        image = _image(other, name)
        labels = shown_labels(other, name) if has_masks else None
        session = _session()
        yield (
            SceneVolume(
                id=f"beside-{name}",
                title=_title_beside(other, name, has_masks=has_masks),
                image_url=gateway().register_volume(session, image),
                labels_url=gateway().register_labels(session, labels) if labels else None,
                slices_url=gateway().register_slices(session, image, labels=labels),
                **grey_values(other),
            ),
            image.geometry,
        )


def _title_beside(other: OpenCase, name: str, *, has_masks: bool) -> str:
    kept = shown_corrections(other).get(name) if has_masks else None
    whose = f", mask by {kept.reviewer}" if kept else ""
    return f"{name.upper()} of {other.row.case_id[:6]}{whose}"


def _first_layout(geometry: Geometry) -> Layout:
    """Thick slices in the plane they were taken in; else three planes."""
    slice_axis, spacing = geometry.slice_axis, geometry.spacing_mm
    in_plane = max(mm for axis, mm in enumerate(spacing) if axis != slice_axis)
    if spacing[slice_axis] < _THICK * in_plane:
        return "mpr"
    axes, _ = closest_axes(geometry.affine_lps)
    return _PLANES[axes[slice_axis]]


def _image(case: OpenCase, volume: str) -> CaseImage:
    settings = case.view.settings
    run_folder = case_index(settings).snapshot().folders[case.row.run]
    roots = (*noted_inputs(run_folder), *settings.images, settings.folder)
    grid = read_grid(case.folder, f"{volume}/segmentation.nii.gz")
    return case_image(case.result.record, volume, geometry=grid, roots=roots)


def _session() -> str:
    context = get_script_run_ctx()
    return context.session_id if context else ""


def _volume(case: OpenCase, volume: str, image: CaseImage) -> SceneVolume:
    session = _session()
    labels = None if case.is_hidden else shown_labels(case, volume)
    maps = {} if case.is_hidden else _maps(case, volume)
    return SceneVolume(
        id=volume,
        title=volume.upper(),
        image_url=gateway().register_volume(session, image),
        labels_url=gateway().register_labels(session, labels) if labels else None,
        save_url=_save_url(case, volume, image),
        slices_url=gateway().register_slices(session, image, labels=labels, maps=maps),
        **grey_values(case),
    )


def grey_values(case: OpenCase) -> dict[str, Any]:
    """How values are called and windowed: in HU where a CT has them, else by what they are."""
    modality = _modality(case)
    is_hounsfield = NOT_HOUNSFIELD.isdisjoint(flag.code for flag in case.answer.flags)
    presets = _PRESETS.get(modality, ()) if is_hounsfield else ()
    return {
        "modality": modality,
        "unit": "HU" if modality == "CT" and is_hounsfield else "",
        "presets": presets,
        "window": (presets[0].low, presets[0].high) if presets else None,
    }


def _modality(case: OpenCase) -> str:
    return case.row.modality or (case.model.modality if case.model else "")


def _maps(case: OpenCase, volume: str) -> dict[str, NiftiSource]:
    return {
        sentence(finding.name): NiftiSource(case.folder, finding.maps[volume])
        for finding in case.answer.findings
        if volume in finding.maps
    }


def _segments(case: OpenCase) -> tuple[Segment, ...]:
    return tuple(
        Segment(
            segment.label,
            plain(segment.name),
            colour_of(segment.label),
            is_outline=not segment.is_lesion,  # a filled organ would hide the map of a finding
        )
        for segment in case.result.schema.segments
    )


def _phases(
    case: OpenCase, images: Mapping[str, CaseImage], analysed: tuple[SceneVolume, ...]
) -> Iterator[SceneVolume]:
    """Every phase in time order; the analysed ones keep their masks."""
    first = next(iter(images.values()))
    by_id = {volume.id: volume for volume in analysed}
    files = {image.path.rsplit("/", 1)[-1]: name for name, image in images.items()}
    for ref in first.phases():
        name = next((files[file] for file in ref.source_files if file in files), None)
        place = ref.phase or 0
        if name is not None:
            yield replace(by_id[name], time_index=place)
        else:
            yield SceneVolume(
                id=f"phase-{place:02d}",
                title=f"Phase {place + 1}",
                image_url=gateway().register_volume(_session(), _Phase(first, ref)),
                modality=_modality(case),
                time_index=place,
            )


def _save_url(case: OpenCase, volume: str, image: CaseImage) -> str | None:
    if case.is_hidden or not case.can_review:
        return None

    def save(label_map: NDArray[Any], geometry: Geometry, base: VolumeSource | None) -> None:
        """Runs in a thread of the server: nothing of Streamlit may be touched."""
        keep_correction(
            case, label_map, volume=volume, geometry=geometry, source="painted",
            base=None if base is None else base.read().array,
        )  # fmt: skip

    # What was painted on one answer is no correction of another: that has another address.
    name = f"{case.widgets}-{volume}"
    return gateway().register_mask_writer(_session(), image, save=save, name=name)
