"""dataset.json of nnU-Net: segments with their codes, or regions in the order they are painted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from medmtl.core.errors import BundleError
from medmtl.data.builders.totalsegmentator_tasks import KNOWN_CODES, KNOWN_LESIONS
from medmtl.inference.bundle_settings import (
    ChannelSettings,
    CodeSettings,
    RegionSettings,
    SegmentSettings,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["MODALITIES", "NnunetLabels", "channels_of", "labels_of", "named_channels"]

MODALITIES = ("CT", "MR", "PT")
_CHANNELS: Mapping[str, str] = {
    "ct": "CT",
    **dict.fromkeys(("mr", "mri", "t1", "t1w", "t2", "t2w", "flair", "t1ce", "t1c", "adc"), "MR"),
    **dict.fromkeys(("pt", "pet"), "PT"),
}
_NAME = re.compile(r"[^a-z0-9]+")
_IGNORE, _BACKGROUND = "ignore", "background"
_NO_NUMBER = (TypeError, ValueError, OverflowError)


@dataclass(frozen=True)
class NnunetLabels:
    """What the outputs mean.

    Attributes:
        segments: Ascending by label.
        regions: In the order of the outputs; empty where each output is a label.
    """

    segments: tuple[SegmentSettings, ...]
    regions: tuple[RegionSettings, ...] = ()


def labels_of(dataset: Mapping[str, Any]) -> NnunetLabels:
    """Segments and regions; the ignore label is no output.

    Raises:
        BundleError: If labels are missing, have gaps, or regions have no order.
    """
    stated = dataset.get("labels")
    if not isinstance(stated, dict) or not _is_zero(stated.get(_BACKGROUND)):
        raise BundleError(
            "dataset.json: found no 'labels' with background = 0, expected names with numbers. "
            "Copy the file again."
        )
    values = {
        _name(key): value for key, value in stated.items() if key not in (_IGNORE, _BACKGROUND)
    }
    if len(values) < len(stated) - (_IGNORE in stated) - 1:
        raise BundleError(
            "dataset.json: found two labels of one name, expected different names. Rename one."
        )
    if any(isinstance(value, list) and len(value) > 1 for value in values.values()):
        return _regions(values, dataset.get("regions_class_order"))
    try:
        numbers = {name: _whole(_single(value)) for name, value in values.items()}
    except _NO_NUMBER as error:
        raise BundleError(
            "dataset.json: found a label that is no number, expected whole numbers. Correct it."
        ) from error
    found = sorted(numbers.values())
    if found != list(range(1, len(found) + 1)):
        raise BundleError(
            f"dataset.json: found labels 0, {', '.join(map(str, found))}, expected 0 to "
            f"{len(found)} without gap: output n of the network is label n. Copy the "
            "dataset.json that it was trained with."
        )
    ordered = sorted(numbers.items(), key=lambda item: item[1])
    return NnunetLabels(tuple(_segment(label, name) for name, label in ordered))


def _regions(values: Mapping[str, Any], order: Any) -> NnunetLabels:
    """A region that is painted over by later ones keeps what is left of it as its segment."""
    members = [(name, _members(value)) for name, value in values.items()]
    try:
        paints = [_whole(label) for label in order or []]
    except _NO_NUMBER:
        paints = []
    if len(paints) != len(members) or len(set(paints)) != len(paints):
        raise BundleError(
            f"dataset.json: found regions_class_order = {order}, expected one label for each of "
            f"{', '.join(name for name, _ in members)}. Copy the dataset.json of the training."
        )
    try:
        regions = tuple(
            RegionSettings(name=name, paints=label, labels=labels)
            for (name, labels), label in zip(members, paints, strict=True)
        )
    except ValidationError as error:
        raise BundleError(
            "dataset.json: found a region with a label outside 1 to 65535, expected labels of the "
            "training. Copy the dataset.json of the training."
        ) from error
    segments = []
    for at, region in enumerate(regions):
        later = {label for other in regions[at + 1 :] for label in other.labels}
        is_whole = later.isdisjoint(region.labels)
        segments.append(
            _segment(region.paints, region.name if is_whole else f"{region.name}_remainder")
        )
    return NnunetLabels(tuple(sorted(segments, key=lambda segment: segment.label)), regions)


def _members(value: Any) -> tuple[int, ...]:
    try:
        stated = value if isinstance(value, list) else [value]
        return tuple(sorted({_whole(one) for one in stated}))
    except _NO_NUMBER as error:
        raise BundleError(
            "dataset.json: found a region that is no list, expected whole numbers. Correct it."
        ) from error


def _whole(value: Any) -> int:
    """A label; nnU-Net takes "1" and 1.0 as well, and cuts off what follows the point."""
    number = int(value)
    if isinstance(value, bool) or (isinstance(value, float) and number != value):
        raise ValueError(value)
    return number


def _is_zero(value: Any) -> bool:
    try:
        return _whole(value) == 0
    except _NO_NUMBER:
        return False


def _single(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


def _segment(label: int, name: str) -> SegmentSettings:
    """With the SNOMED CT code of TotalSegmentator's structure of that name, if there is one."""
    code = CodeSettings.of(KNOWN_CODES.get(name))
    return SegmentSettings(label=label, name=name, code=code, is_lesion=name in KNOWN_LESIONS)


def _name(text: str) -> str:
    name = _NAME.sub("_", str(text).casefold()).strip("_")
    if not name:
        raise BundleError(
            f"dataset.json: found the label name {text!r}, expected letters. Rename it."
        )
    return name if name[0].isalpha() else f"label_{name}"


def channels_of(
    dataset: Mapping[str, Any], *, modality: str | None, names: Sequence[str] = ()
) -> tuple[ChannelSettings, ...]:
    """Name and DICOM modality of every input channel.

    Args:
        dataset: Its `channel_names`, or `modality` as nnU-Net v1 called it.
        modality: Of all channels, where the user says.
        names: Other names, where the user says.

    Raises:
        BundleError: If there is no channel, or names do not say the modality or are not different.
    """
    channels = dataset.get("channel_names", dataset.get("modality"))
    wanted = [str(number) for number in range(len(channels))] if isinstance(channels, dict) else []
    if not wanted or not isinstance(channels, dict) or {*map(str, channels)} != {*wanted}:
        raise BundleError(
            f"dataset.json: found channel_names = {str(channels)[:80]}, expected a name for each "
            "of 0, 1, ... Copy the file again."
        )
    stated = {str(number): str(name) for number, name in channels.items()}
    return named_channels(
        names or [stated[number] for number in wanted],
        count=len(wanted),
        modality=modality,
        where="dataset.json",
    )


def named_channels(
    names: Sequence[str], *, count: int, modality: str | None, where: str
) -> tuple[ChannelSettings, ...]:
    """Channels with the modality that their names say.

    Args:
        names: In the order of the network.
        count: How many the network has.
        modality: Of all channels, where the user says.
        where: The file, for errors.

    Raises:
        BundleError: If there are more or fewer, two of one name, or one whose modality is unknown.
    """
    if len(names) != count or len({name.casefold() for name in names}) != count:
        stated = ", ".join(names) or "without names"
        raise BundleError(
            f"{where}: found channels {stated}, expected {count} different names. Say them with "
            "--channels."
        )
    found = []
    for name in names:
        own = modality or _CHANNELS.get(name.casefold())
        if own not in MODALITIES:
            raise BundleError(
                f"{where}: found channel {name!r}, expected a name that says the modality, such as "
                f"CT or T1. Say it with --modality {' or '.join(MODALITIES)}."
            )
        found.append(ChannelSettings(name=name, modality=own))
    return tuple(found)
