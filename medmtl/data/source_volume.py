"""Which of the volumes that an input lists now is the one that a case was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medmtl.core.errors import MedmtlError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from medmtl.core.study import VolumeRef

__all__ = ["source_volume"]


def source_volume(
    record: Mapping[str, Any], volume_id: str, refs: Iterable[VolumeRef], *, path: str | None = None
) -> VolumeRef:
    """The volume of a case among those of its study.

    A volume that a model chose from a cine has a name of its own ("ed"), and is found by its series
    and first file; where one file holds several phases, also by its place in the cine, which the
    case keeps as the measurement `ed_phase`.

    Args:
        record: The content of case.json.
        volume_id: Of its volumes.
        refs: As listed now.
        path: First file of the volume as the listing names it; None for the name in case.json.

    Raises:
        MedmtlError: If there is none, or several that cannot be told apart.
    """
    (wanted,) = (one for one in record["source"]["volumes"] if one["id"] == volume_id)
    name = wanted["path"] if path is None else path
    mine = [ref for ref in refs if ref.series_uid == wanted.get("series_uid", "")]
    named = [ref for ref in mine if ref.id == volume_id]
    found = named or [ref for ref in mine if name in ref.source_files]
    if len(found) > 1:  # one file may hold a whole cine
        phase = _phase(record, volume_id)
        found = [ref for ref in found if ref.phase == phase and phase is not None]
    if len(found) != 1:
        message = (
            f"Volume {volume_id} was found {len(found)} times among the images, expected once. "
            "Have they changed since the analysis? Analyse the study again."
        )
        raise MedmtlError(message)
    return found[0]


def _phase(record: Mapping[str, Any], volume_id: str) -> int | None:
    """Rank in the cine, from 0; None for a volume that was not chosen from one."""
    for one in record["measurements"]:
        is_of_cine = one["name"] == f"{volume_id}_phase" and str(one["from"]).startswith("cine")
        if is_of_cine and one["value"] is not None:
            return int(one["value"])
    return None
