"""Several model folders of nnU-Net that share one grid as one bundle, such as TotalSegmentator's.

TotalSegmentator's model of 117 structures is five networks. All read the same image on the same
grid; their masks are painted one after the other, in the order of the parts, with the labels of its
class map. Here the image is read once, and brought to the grid once for all parts that normalise
alike.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from medmtl.core.errors import BundleError
from medmtl.data.builders.totalsegmentator_classes import TOTAL_SEGMENTS
from medmtl.imports.nnunet import LIMITS, NOTICE, NnunetChoices, nnunet_settings
from medmtl.imports.nnunet_folder import read_nnunet_folder
from medmtl.imports.writing import check_free, fitting_weights, input_text, write_imported
from medmtl.inference.bundle_settings import BundleSettings, PartSettings, SegmentSettings
from medmtl.transforms.plans import PlansPreprocessing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

__all__ = ["import_nnunet_parts"]

_WEIGHTS = "weights.safetensors"
_LABELS = {segment.name: segment.label for segment in TOTAL_SEGMENTS}


def import_nnunet_parts(
    folders: Sequence[Path], out: Path, *, choices: NnunetChoices | None = None
) -> BundleSettings:
    """Write one bundle of several model folders.

    Args:
        folders: In the order in which their masks are painted.
        out: Folder of the bundle; there must be none.
        choices: What the folders do not say, the same for all.

    Raises:
        BundleError: If one cannot be imported, or they do not belong together; no bundle is left.
        OutputError: If the bundle exists or cannot be written.
    """
    chosen = choices or NnunetChoices()
    check_free(out)
    all_settings: list[BundleSettings] = []
    weights: dict[str, dict[str, Tensor]] = {}
    parts: list[PartSettings] = []
    for number, folder in enumerate(folders, start=1):
        source = read_nnunet_folder(folder, folds=chosen.folds, checkpoint=chosen.checkpoint)
        own = nnunet_settings(source, replace(chosen, name=None))
        files: dict[str, dict[str, Tensor]] = {}
        for fold in source.folds:
            where = f"{folder.name}, fold {fold.name}"
            is_first = not weights and not files
            file = _WEIGHTS if is_first else f"weights_part{number}_fold{fold.name}.safetensors"
            files[file] = fitting_weights(
                fold.weights, own.network, prefix="backbone.", where=where
            )
        _check_alike(all_settings, own, folder.name)
        parts.append(_part(own, tuple(files)))
        all_settings.append(own)
        weights |= files
    settings = _joined(all_settings, parts, name=chosen.name)
    first = weights.pop(_WEIGHTS)
    return write_imported(out, settings, first, card=_card(settings, folders), parts=weights)


def _part(settings: BundleSettings, files: tuple[str, ...]) -> PartSettings:
    return PartSettings.model_validate(
        {
            "weights": files,
            "network": settings.network,
            "intensities": _grid(settings).channels,
            "sliding_window": settings.sliding_window,
            "source": settings.source,
        }
    )


def _grid(settings: BundleSettings) -> PlansPreprocessing:
    if not isinstance(settings.preprocessing, PlansPreprocessing):
        raise TypeError(type(settings.preprocessing).__name__)
    return settings.preprocessing


def _check_alike(before: Sequence[BundleSettings], own: BundleSettings, name: str) -> None:
    """One grid, one input, no region, no name twice.

    Raises:
        BundleError: Naming the folder and what differs.
    """
    if own.regions:
        raise BundleError(
            f"Model folder {name}: found regions, expected labels: regions of several parts cannot "
            "be painted over each other. Import it by itself."
        )
    if not before:
        return
    first = before[0]
    for what in ("orientation", "transpose", "spacing_mm", "data", "logits"):
        found, wanted = (getattr(_grid(one), what) for one in (own, first))
        if found != wanted:
            raise BundleError(
                f"Model folder {name}: found {what} {found}, expected {wanted} as in the first "
                "folder: parts share one grid. Import it by itself."
            )
    if own.input != first.input:
        raise BundleError(
            f"Model folder {name}: found input {input_text(own.input)}, expected "
            f"{input_text(first.input)} as in the first folder. Import it by itself."
        )
    known = {segment.name for one in before for segment in one.segments}
    twice = sorted(known & {segment.name for segment in own.segments})
    if twice:
        raise BundleError(
            f"Model folder {name}: found {', '.join(twice[:3])} in an earlier folder too, expected "
            "other segments in each. Give every part once."
        )


def _joined(
    all_settings: Sequence[BundleSettings], parts: Sequence[PartSettings], *, name: str | None
) -> BundleSettings:
    """Labels of the class map where it knows every name, else 1, 2, ... in the order given."""
    segments = [segment for one in all_settings for segment in one.segments]
    labels = _labels([segment.name for segment in segments])
    ordered = sorted(
        (segment.model_copy(update={"label": labels[segment.name]}) for segment in segments),
        key=lambda segment: segment.label,
    )
    first = all_settings[0]
    # Made by validation, not by a copy, so that what does not fit together is found here.
    return BundleSettings.model_validate(
        {
            "name": name or first.name,
            "version": first.version,
            "licence": first.licence,
            "intended_use": first.intended_use,
            "limits": LIMITS,
            "notice": NOTICE,
            "input": first.input,
            "preprocessing": first.preprocessing,
            "network": first.network,
            "segments": tuple(SegmentSettings.model_validate(one.model_dump()) for one in ordered),
            "sliding_window": first.sliding_window,
            "parts": tuple(parts),
        }
    )


def _labels(names: Sequence[str]) -> Mapping[str, int]:
    if set(names) <= set(_LABELS):
        return _LABELS
    return {name: label for label, name in enumerate(names, start=1)}


def _card(settings: BundleSettings, folders: Sequence[Path]) -> str:
    parts = [
        f"- Part {number}: `{folder.name}`, {len(part.network.segments)} segments, "
        f"{len(part.weights)} folds."
        for number, (folder, part) in enumerate(zip(folders, settings.parts, strict=True), start=1)
    ]
    return "\n".join(
        [
            f"# {settings.name}",
            "",
            f"Imported from {len(folders)} model folders of nnU-Net v2 that share one grid.",
            "",
            *parts,
            f"- Input: {input_text(settings.input)}.",
            f"- Segments: {', '.join(segment.name for segment in settings.segments)}.",
            f"- Licence of the weights: {settings.licence}.",
            f"- Limits: {LIMITS}",
            "",
            NOTICE,
            "",
        ]
    )
