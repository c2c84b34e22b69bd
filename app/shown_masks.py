"""Corrected masks of the case on the page: which count, which are shown, and how one is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from app.services.corrections import changed_segments
from app.services.drafts import with_correction

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from app.open_case import OpenCase
    from app.services.corrections import KeptCorrection
    from medmtl.core.geometry import Geometry

__all__ = [
    "keep_correction",
    "newest_corrections",
    "outdated_corrections",
    "own_masks_key",
    "shown_corrections",
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
) -> None:
    """Store a corrected mask and what it says of the model's. Safe in any thread.

    Args:
        case: The case.
        label_map: Shape (i, j, k), on the grid of the volume.
        volume: Id of the volume.
        geometry: The grid.
        source: As `CorrectionStore.keep`.
        segments: Names of those that it describes; None for those that differ from the model's.

    Raises:
        MedmtlError: As `CorrectionStore.keep`.
    """
    before, schema = case.masks(volume).label_map, case.result.schema
    described = changed_segments(before, label_map, schema) if segments is None else segments
    is_whole = described == schema.segment_names
    kept = case.corrections.keep(
        label_map,
        case.ref,
        before=before,
        geometry=geometry,
        schema=schema,
        volume=volume,
        reviewer=case.view.reader.name,
        source=source,
        segments=None if is_whole else described,
        answer=case.ref.answer,
    )
    case.save(lambda said: with_correction(said, volume, kept.segments))
