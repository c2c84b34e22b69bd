"""Corrected masks of the case on the page: which count, which are shown, and how one is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from app.services.corrections import changed_segments, with_segments
from app.services.drafts import with_correction, without_correction
from app.serving.sources import NiftiSource

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

    from app.open_case import OpenCase
    from app.services.corrections import KeptCorrection
    from medmtl.core.geometry import Geometry
    from medmtl.core.labels import LabelSchema
    from medmtl.core.review import Review

__all__ = [
    "keep_correction",
    "newest_corrections",
    "outdated_corrections",
    "own_masks_key",
    "shown_corrections",
    "shown_labels",
]


def newest_corrections(case: OpenCase) -> dict[str, KeptCorrection]:
    """By volume, the correction that counts."""
    found = case.corrections.of_case(case.ref, answer=case.ref.answer)
    return {kept.volume: kept for kept in found if kept.volume in case.answer.volumes}


def shown_corrections(case: OpenCase) -> dict[str, KeptCorrection]:
    """Those that are shown in the place of the model's masks."""
    newest = newest_corrections(case)
    wants_own = bool(st.session_state.get(own_masks_key(case, newest)))
    return {} if case.is_hidden or wants_own else newest


def shown_labels(case: OpenCase, volume: str) -> NiftiSource:
    """The correction that is shown, else the model's mask."""
    kept = shown_corrections(case).get(volume)
    if kept is not None:
        return _source(case, kept)
    return NiftiSource(case.folder, f"{volume}/segmentation.nii.gz")


def _source(case: OpenCase, kept: KeptCorrection) -> NiftiSource:
    return NiftiSource(case.corrections.folder(case.ref), kept.file)


def own_masks_key(case: OpenCase, newest: Mapping[str, KeptCorrection]) -> str:
    """The name of the switch that shows the model's own masks; a new correction sets it back."""
    latest = max((kept.saved_at for kept in newest.values()), default="")
    return f"own_masks:{case.key}:{latest}"


def outdated_corrections(case: OpenCase) -> int:
    """How many correct what the same model answered before the case was analysed again."""
    every = case.corrections.of_case(case.ref)
    return sum(not kept.is_of(case.ref, case.ref.answer) for kept in every)


def keep_correction(
    case: OpenCase,
    label_map: NDArray[Any],
    *,
    volume: str,
    geometry: Geometry,
    source: str,
    segments: tuple[str, ...] | None = None,
    base: NDArray[Any] | None = None,
) -> None:
    """Store a corrected mask and what it says of the model's. Safe in any thread.

    Segments that it does not describe stay as in the correction that counted until now.

    Args:
        case: The case.
        label_map: Shape (i, j, k), on the grid of the volume.
        volume: Id of the volume.
        geometry: The grid.
        source: As `CorrectionStore.keep`.
        segments: Names of those that it describes; None for those that differ from `base`.
        base: What was painted on, same shape; None for the model's mask.

    Raises:
        MedmtlError: As `CorrectionStore.keep`, or if the correction until now cannot be read.
    """
    model, schema = case.masks(volume).label_map, case.result.schema
    former = newest_corrections(case).get(volume)
    counted = model if former is None else _source(case, former).read().array
    painted = changed_segments(model if base is None else base, label_map, schema)
    drawn = painted if segments is None else segments
    whole = with_segments(counted, label_map, schema, drawn)
    differing = changed_segments(model, whole, schema)
    # Painted back: again the model's, and nobody's correction.
    back = {name for name in painted if name not in differing} if segments is None else set()
    own = tuple(name for name in drawn if name not in back)
    described = {*own, *_described(former, schema) - set(drawn)}
    case.corrections.keep(
        whole,
        case.ref,
        before=model,
        geometry=geometry,
        schema=schema,
        volume=volume,
        reviewer=case.view.reader.name,
        source=source,
        segments=_unless_all(described, schema),
        answer=case.ref.answer,
    )

    def corrected(said: Review) -> Review:
        said = without_correction(said, volume, back)
        return with_correction(said, volume, _unless_all(own, schema))

    case.save(corrected)


def _described(kept: KeptCorrection | None, schema: LabelSchema) -> set[str]:
    if kept is None:
        return set()
    return set(schema.segment_names if kept.segments is None else kept.segments)


def _unless_all(names: Collection[str], schema: LabelSchema) -> tuple[str, ...] | None:
    """In the order of the schema; None for all of it."""
    ordered = tuple(name for name in schema.segment_names if name in names)
    return None if ordered == schema.segment_names else ordered
