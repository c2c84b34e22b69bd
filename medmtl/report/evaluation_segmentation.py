"""Masks in an evaluation report: overlap, distances, volumes, lesions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medmtl.report.html_figure import inline_figure
from medmtl.report.html_markup import join, tag
from medmtl.report.html_page import Section, interval_cell, paragraph, table
from medmtl.report.plots import agreement_figure, strip_figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medmtl.report.html_markup import Html
    from medmtl.report.plots import Points

__all__ = ["lesions_section", "segmentation_section"]

_COLUMNS = (
    ("Dice", "dice", 3),
    ("Jaccard", "jaccard", 3),
    ("HD95, mm", "hd95_mm", 1),
    ("ASSD, mm", "assd_mm", 2),
    ("NSD", "nsd", 3),
)
_VOLUME_COLUMNS = (
    ("error, mL", "volume_error_ml", 1),
    ("error, %", "volume_error_percent", 1),
)
_LIMITS = (
    ("bias, mL", "bias_ml", 1),
    ("lower limit, mL", "lower_ml", 1),
    ("upper limit, mL", "upper_ml", 1),
)
_LESIONS = (
    ("F1", "f1", 3),
    ("sensitivity", "sensitivity", 3),
    ("precision", "precision", 3),
    ("panoptic quality", "panoptic_quality", 3),
    ("false per volume", "false_positives_per_volume", 2),
)


def segmentation_section(
    record: Mapping[str, Any],
    *,
    dice: Mapping[str, Sequence[float]],
    volumes_ml: Mapping[str, Points],
) -> Section | None:
    """Tables and plots of the masks; None where no mask was measured."""
    part = record["segmentation"]
    if not part["per_segment"]:
        return None
    parts: list[object] = [_overlap(part["per_segment"], caption="All volumes")]
    if len(part["per_volume_id"]) > 1:
        parts += [
            _overlap(by["per_segment"], caption=f"Volume {name}")
            for name, by in part["per_volume_id"].items()
        ]
    parts.append(
        inline_figure(
            strip_figure(dice, label="Dice"),
            name="dice",
            alt="Dice of every case by segment",
            caption="Every dot is one volume of one case; line: quartiles, bar: median.",
        )
    )
    parts += [tag("h3", "Volumes"), _volumes(part["per_segment"]), _agreement(part, volumes_ml)]
    return Section("segmentation", "Segmentation", join(parts))


def _overlap(per_segment: Mapping[str, Any], *, caption: str) -> Html:
    rows = []
    for name, numbers in per_segment.items():
        cells = [interval_cell(numbers.get(key), digits=digits) for _, key, digits in _COLUMNS]
        rows.append((_words(name), str(numbers["dice"]["n"]), *cells,
                     str(numbers["hd95_mm"]["missed"])))  # fmt: skip
    return table(
        ["segment", "n", *(head for head, _, _ in _COLUMNS), "missed"], rows, caption=caption
    )


def _volumes(per_segment: Mapping[str, Any]) -> Html:
    rows = []
    for name, numbers in per_segment.items():
        cells = [interval_cell(numbers[key], digits=d) for _, key, d in _VOLUME_COLUMNS]
        limits = [interval_cell(numbers["bland_altman"][key], digits=d) for _, key, d in _LIMITS]
        rows.append((_words(name), str(numbers["volume_error_ml"]["n"]), *cells, *limits))
    heads = [head for head, _, _ in (*_VOLUME_COLUMNS, *_LIMITS)]
    return table(["segment", "n", *heads], rows, caption="Predicted minus true volume")


def _agreement(part: Mapping[str, Any], volumes_ml: Mapping[str, Points]) -> Html | None:
    known = {name: points for name, points in volumes_ml.items() if len(points[0])}
    if not known:
        return None
    limits = {
        name: {
            key: number["value"]
            for key, number in part["per_segment"][name]["bland_altman"].items()
        }
        for name in known
    }
    return inline_figure(
        agreement_figure(known, limits),
        name="agreement",
        alt="Bland-Altman plots of the volumes by segment",
        caption="Bland-Altman: solid bias, dashed limits of agreement (bias ± 1.96 standard "
        "deviations). Volumes of one patient are not independent; the intervals heed that.",
    )


def lesions_section(record: Mapping[str, Any]) -> Section | None:
    """Lesions found one by one; None where no segment is a lesion."""
    known = {
        name: numbers["lesions"]
        for name, numbers in record["segmentation"]["per_segment"].items()
        if "lesions" in numbers
    }
    if not known:
        return None
    rows = []
    for name, numbers in known.items():
        cells = [interval_cell(numbers[key], digits=digits) for _, key, digits in _LESIONS]
        counts = (str(numbers[key]) for key in ("n_truth", "n_predicted", "n_matched"))
        rows.append((_words(name), *counts, *cells))
    heads = ["segment", "true", "predicted", "matched", *(head for head, _, _ in _LESIONS)]
    min_iou = next(iter(known.values()))["min_iou"]
    note = (
        "A lesion is a piece of the mask (26 neighbours). True and predicted pieces are matched "
        f"one to one for the largest sum of IoU; a pair counts where its IoU exceeds {min_iou:g}."
    )
    content = join([table(heads, rows), paragraph(note, soft=True), _by_diameter(known)])
    return Section("lesions", "Lesions one by one", content)


def _by_diameter(known: Mapping[str, Any]) -> Html | None:
    """Sensitivity of each segment by the size of the lesion."""
    by_segment = {
        name: {(band["from_mm"], band["to_mm"]): band["sensitivity"] for band in bands}
        for name, numbers in known.items()
        if (bands := numbers["sensitivity_by_diameter"])
    }
    bands = sorted({band for own in by_segment.values() for band in own})
    if not bands:
        return None
    heads = [
        f"{low:g} mm and more" if high is None else f"{low:g} to {high:g} mm" for low, high in bands
    ]
    rows = [
        (_words(name), *(_share_of(own.get(band)) for band in bands))
        for name, own in by_segment.items()
    ]
    note = (
        "Sensitivity by diameter, that of the sphere of the lesion's volume; in brackets n lesions."
    )
    return join([table(["segment", *heads], rows), paragraph(note, soft=True)])


def _share_of(sensitivity: Mapping[str, Any] | None) -> object:
    if sensitivity is None:
        return "-"
    return join([interval_cell(sensitivity, digits=2), f" (n {sensitivity['n']})"])


def _words(name: str) -> str:
    return name.replace("_", " ")
