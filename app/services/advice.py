"""What a reader can do about a quality flag."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["advice_for"]

_ADVICE: Mapping[str, str] = {
    "activation-empty": "There is no map to look at; judge the finding by the image alone.",
    "activation-not-computed": "There is no map to look at; judge the finding by the image alone.",
    "activation-outside-organ": "Look where the map points: the answer may rest on something else.",
    "contrast-missing": "The image holds nothing to see. Choose another series.",
    "contrast-outside-training": "Compare the masks with the image before using any number.",
    "dicom-results-not-written": "Send nothing to the archive from this case.",
    "field-of-view-large": "Check that the masks keep to the organ.",
    "field-of-view-small": "An organ that leaves the image has a volume that is too small.",
    "finding-abstains": "The model leaves this open; your reading decides.",
    "finding-against-measurement": "Check the mask first: one of the two is wrong.",
    "finding-without-lesion": "Search for the lesion yourself; the mask shows none.",
    "gantry-tilt-resampled": "Fine detail is a little smoother than in the source.",
    "intensity-outside-training": "Compare the masks with the image before using any number.",
    "lesion-without-finding": "Look at the lesion mask: it may be wrong, or the finding missed.",
    "modality-unexpected": "Do not use this answer; run a model for this modality.",
    "one-of-several-volumes": "Check that the volume analysed is the one that you mean.",
    "orientation-unknown": "This file does not say left and right. Check them on the image.",
    "pet-not-suv": "A model of uptake values cannot be trusted here; convert the series to SUV.",
    "segment-cut-off": "The volume counts only what lies inside the image.",
    "segment-empty": "The organ was not found. Volumes and findings that need it mean nothing.",
    "segment-fragmented": "Check for a second, wrong piece of this mask, and correct it.",
    "slices-few": "Numbers along the slices are coarse. Compare with the image.",
    "spacing-outside-training": "Compare the masks with the image before using any number.",
    "uneven-spacing-resampled": "Slices were interpolated; small lesions may be blurred.",
    "volume-implausible": "Check this mask before its volume is used.",
}
_BY_SEVERITY: Mapping[str, str] = {
    "error": "Do not rely on this answer.",
    "warning": "Look at the image before this answer is used.",
    "info": "Nothing to do; it says how the images were read.",
}


def advice_for(code: str, severity: str) -> str:
    """One sentence; a code that is not known gets that of its severity."""
    return _ADVICE.get(code) or _BY_SEVERITY.get(severity, _BY_SEVERITY["warning"])
