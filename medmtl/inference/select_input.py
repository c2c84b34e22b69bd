"""Which volumes of a study a model reads, by a written rule.

single: of the volumes of the model's modality, the one with the most voxels (ties: an original
before a derived one, then the id).
phase_pair: volumes named `ed` and `es`; else all phases of the cine series with the most slices
(ties: most phases, then an original, then the id); else exactly two volumes of the modality on one
grid.
Phases that lie on several grids are refused: the masks of a phase with fewer slices are too small.
NIfTI says no modality and is taken to be the model's own.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING

from medmtl.core.errors import InputRefusedError
from medmtl.core.flags import Flag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.core.study import Study, VolumeRef
    from medmtl.core.volume import Volume
    from medmtl.inference.bundle_settings import BundleSettings

__all__ = ["other_series_flags", "select_volumes"]

_PHASE_SUFFIX = re.compile(r"-?t\d+\Z")
MIN_PHASES = 4
"""A series with fewer phases is no cine."""
SAME_GRID_VOXEL = 0.5
"""Phases of one slice can jitter; a missing slice moves a corner by a whole one."""


def select_volumes(study: Study, settings: BundleSettings) -> tuple[VolumeRef, ...]:
    """The volumes to read, in the order the model wants them; a cine gives all its phases.

    Raises:
        InputRefusedError: If nothing in the study fits, or its phases lie on several grids.
    """
    wanted = settings.input
    fitting = [
        ref
        for ref in study.volumes
        if ref.modality in ("", wanted.modality) and ref.geometry.shape[2] >= wanted.min_slices
    ]
    chosen = _single(fitting) if wanted.kind == "single" else _phase_pair(fitting)
    if not chosen:
        raise _refusal(study, settings)
    if wanted.kind == "phase_pair":
        _check_one_grid(study, chosen)
    return tuple(chosen)


def other_series_flags(study: Study, volumes: Sequence[Volume]) -> list[Flag]:
    """That the study holds volumes which the model did not read, in the same series and in others.

    Args:
        study: As it was listed.
        volumes: All that were read, under the ids of the study.
    """
    read = {volume.id for volume in volumes}
    series = {volume.series_uid for volume in volumes}
    unread = [ref.series_uid for ref in study.volumes if ref.id not in read]
    beside = sum(uid in series for uid in unread)
    others = len({*unread} - series)
    flags = []
    if beside:
        message = (
            f"{len(read)} of {len(read) + beside} volumes were analysed; the others of the same "
            "series (image types, echoes, phases or stacks) were not."
        )
        flags.append(Flag("one-of-several-volumes", "warning", message))
    if others:
        message = f"{others} other series of the study were not analysed: this model reads one."
        flags.append(Flag("other-series-not-analysed", "info", message))
    return flags


def _single(refs: Sequence[VolumeRef]) -> list[VolumeRef]:
    still = [ref for ref in refs if ref.phase is None] or list(refs)
    by_size = sorted(still, key=lambda r: (-math.prod(r.geometry.shape), _is_derived(r), r.id))
    return by_size[:1]


def _is_derived(ref: VolumeRef) -> bool:
    """Value 1 of Image Type (PS3.3 C.7.6.1.1.2)."""
    return str(ref.metadata.get("image_type", "")).startswith("DERIVED")


def _phase_pair(refs: Sequence[VolumeRef]) -> list[VolumeRef]:
    named = {ref.id.rsplit("_", 1)[-1].lower(): ref for ref in refs}
    if "ed" in named and "es" in named:
        return [named["ed"], named["es"]]
    in_series = sorted((ref for ref in refs if ref.phase is not None), key=_series)
    cines = [list(phases) for _, phases in groupby(in_series, key=_series)]
    cines = [phases for phases in cines if len(phases) >= MIN_PHASES]
    if cines:
        best = min(cines, key=_cine_rank)
        return sorted(best, key=lambda ref: ref.phase or 0)
    if len(refs) == 2 and refs[0].geometry.is_close(refs[1].geometry, tolerance_voxel=0.1):
        return list(refs)
    return []


def _cine_rank(phases: Sequence[VolumeRef]) -> tuple[int, int, bool, str]:
    first = phases[0]
    return -first.geometry.shape[2], -len(phases), _is_derived(first), first.series_key


def _series(ref: VolumeRef) -> tuple[str, str]:
    """Series and stack: one series may hold a short-axis and a long-axis cine, or two echoes."""
    return ref.series_key, _PHASE_SUFFIX.sub("", ref.id)


def _check_one_grid(study: Study, chosen: Sequence[VolumeRef]) -> None:
    """Refuse phases of different grids, also those with too few slices to be chosen."""
    stack = _series(chosen[0])
    beside = [
        ref
        for ref in study.volumes
        if ref.phase is not None and ref not in chosen and _series(ref) == stack
    ]
    grids = _by_grid([*chosen, *beside])
    if len(grids) > 1:
        raise InputRefusedError(
            f"case {study.case_id}",
            stage="select",
            code="phases-on-several-grids",
            found=", ".join(map(_described, grids)),
            expected="all phases on one grid",
            advice="Slices of a phase may be missing; export the whole series again.",
        )


def _by_grid(refs: Sequence[VolumeRef]) -> list[list[VolumeRef]]:
    """Groups of one grid, the largest first."""
    groups: list[list[VolumeRef]] = []
    for ref in refs:
        grid = ref.geometry
        for group in groups:
            if grid.is_close(group[0].geometry, tolerance_voxel=SAME_GRID_VOXEL):
                group.append(ref)
                break
        else:
            groups.append([ref])
    return sorted(groups, key=len, reverse=True)


def _described(group: Sequence[VolumeRef]) -> str:
    names = ", ".join(ref.id for ref in group[:3]) + (", ..." if len(group) > 3 else "")
    return f"{len(group)} x {group[0].geometry.shape[2]} slices ({names})"


def _refusal(study: Study, settings: BundleSettings) -> InputRefusedError:
    counts = Counter(
        f"{ref.modality or 'image'} of {ref.geometry.shape[2]} slices" for ref in study.volumes
    )
    found = ", ".join(f"{count} x {text}" for text, count in sorted(counts.items()))
    wanted = settings.input
    what = {
        "single": f"one {wanted.modality} volume",
        "phase_pair": f"a {wanted.modality} cine of at least {MIN_PHASES} phases, or volumes named "
        "ed and es",
    }[wanted.kind]
    return InputRefusedError(
        f"case {study.case_id}",
        stage="select",
        code="no-fitting-volume",
        found=found or "no readable volume",
        expected=f"{what} with at least {wanted.min_slices} slices for model {settings.name}",
        advice="Choose another model with --model, or export the fitting series.",
    )
