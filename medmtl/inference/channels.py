"""Which series or file of a study is which input channel of an imported network.

In this order: what `--channel NAME=SERIES` says, nnU-Net's number in a file name, the channel's
name in that of a file or series, the only series of a modality. Nothing is guessed: where two fit
or none does, the case is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medmtl.core.errors import ConfigError, InputRefusedError
from medmtl.core.prediction import ChannelSource

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medmtl.core.study import Study, VolumeRef
    from medmtl.core.volume import Volume
    from medmtl.inference.bundle_settings import ChannelSettings

__all__ = ["ChannelMatch", "channel_sources", "match_channels", "parse_channels"]

_MODALITY_NAMES = frozenset({"ct", "mr", "mri", "pt", "pet"})
"""Names that say the modality and nothing else: "CT" in a description singles out no series."""
_CONTRAST = "contrast"
_CONTRAST_WORDS = frozenset({"ce", "c", "gd", "gad", "gado", "km", "post", "contrast", "enhanced"})
_WORDS: Mapping[str, tuple[str, ...]] = {
    "t1w": ("t1",),
    "t2w": ("t2",),
    "t2flair": ("t2", "flair"),
    **dict.fromkeys(("t1ce", "t1c", "t1gd", "t1km", "t1post"), ("t1", _CONTRAST)),
    **dict.fromkeys(_CONTRAST_WORDS, (_CONTRAST,)),
}
_SPLIT = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, eq=False)
class ChannelMatch:
    """One channel with its volume, and what said so."""

    channel: ChannelSettings
    ref: VolumeRef
    matched_by: str


def parse_channels(options: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """`NAME=SERIES` by name of the channel.

    Args:
        options: As they were given.
        known: Channels of the model; empty where it has one.

    Raises:
        ConfigError: If one is no such text, or names no channel of the model.
    """
    chosen: dict[str, str] = {}
    by_fold = {name.casefold(): name for name in known}
    for option in options:
        name, _, series = option.partition("=")
        own = by_fold.get(name.strip().casefold())
        if own is None or not series.strip() or own in chosen:
            has = ", ".join(known) if known else "one channel, which is the one volume of a study"
            message = f"--channel {option!r}: expected NAME=SERIES, each once; the model has {has}."
            raise ConfigError(message)
        chosen[own] = series.strip()
    return chosen


def match_channels(
    study: Study, channels: Sequence[ChannelSettings], *, chosen: Mapping[str, str]
) -> tuple[ChannelMatch, ...]:
    """The volume of every channel, in the order of the network.

    Args:
        study: DICOM, or NIfTI whose volume ids are the channels' numbers or names.
        channels: Of the model.
        chosen: Of `parse_channels`.

    Raises:
        InputRefusedError: If a channel has no volume or several, or two have the same.
    """
    still = [ref for ref in study.volumes if ref.phase is None] or list(study.volumes)
    found: list[ChannelMatch] = []
    for number, channel in enumerate(channels):
        how, refs = _fitting(
            still,
            channel,
            number,
            channels,
            is_file=study.kind == "nifti",
            chosen=chosen.get(channel.name),
        )
        if len(refs) != 1:
            raise _refusal(study, channel, refs, how)
        taken = next((one for one in found if one.ref is refs[0]), None)
        if taken is not None:
            raise _refusal(study, channel, refs, how, taken=taken.channel.name)
        found.append(ChannelMatch(channel, refs[0], how))
    return tuple(found)


def channel_sources(
    matches: Sequence[ChannelMatch], volumes: Sequence[Volume], *, resampled: Sequence[bool]
) -> tuple[ChannelSource, ...]:
    """What the output says of the channels."""
    return tuple(
        ChannelSource(
            match.channel.name, volume.series_uid, volume.path, match.matched_by, is_resampled
        )
        for match, volume, is_resampled in zip(matches, volumes, resampled, strict=True)
    )


def _fitting(
    refs: Sequence[VolumeRef],
    channel: ChannelSettings,
    number: int,
    channels: Sequence[ChannelSettings],
    *,
    is_file: bool,
    chosen: str | None,
) -> tuple[str, list[VolumeRef]]:
    """What was looked at, and the volumes that fit."""
    if chosen is not None:
        return "option", [ref for ref in refs if _is_called(ref, chosen)]
    if is_file and all(ref.id.isdigit() for ref in refs):
        return "number", [ref for ref in refs if int(ref.id) == number]
    fitting = [ref for ref in refs if ref.modality in ("", channel.modality)]
    if is_file:
        return "name", [ref for ref in fitting if _words(ref.id) == _words(channel.name)]
    is_modality = channel.name.casefold() in _MODALITY_NAMES
    named = [ref for ref in fitting if not is_modality and _is_described(ref, channel.name)]
    if named:
        return "name", named
    is_only = sum(one.modality == channel.modality for one in channels) == 1
    return ("modality", fitting) if is_only else ("name", [])


def _is_called(ref: VolumeRef, text: str) -> bool:
    folded = " ".join(text.casefold().split())
    names = (ref.series_uid, ref.id, *ref.described)
    return any(folded == " ".join(name.casefold().split()) for name in names if name)


def _is_described(ref: VolumeRef, channel: str) -> bool:
    """Whether one description of a series is that of the channel."""
    return any(_holds(_words(text), _words(channel)) for text in ref.described)


def _holds(text: frozenset[str], channel: frozenset[str]) -> bool:
    """All words of the channel; contrast agent in both or in neither."""
    return channel <= text and ((_CONTRAST in text) == (_CONTRAST in channel))


def _words(text: str) -> frozenset[str]:
    parts = [part for part in _SPLIT.split(text.casefold()) if part]
    return frozenset(word for part in parts for word in _WORDS.get(part, (part,)))


def _refusal(
    study: Study,
    channel: ChannelSettings,
    refs: Sequence[VolumeRef],
    how: str,
    *,
    taken: str | None = None,
) -> InputRefusedError:
    """Volumes are called by their ids; a description may name a person."""
    ids = ", ".join(ref.id for ref in refs)
    known = ", ".join(f"{ref.id} ({ref.modality or 'NIfTI'})" for ref in study.volumes)
    if taken is not None:
        code, found = "channel-ambiguous", f"volume {ids} for both {taken} and {channel.name}"
    elif refs:
        code, found = "channel-ambiguous", f"{len(refs)} volumes that fit by {how}: {ids}"
    else:
        code, found = "channel-missing", f"none by {how} among {known or 'no readable volume'}"
    return InputRefusedError(
        f"case {study.case_id}",
        stage="select",
        code=code,
        found=found,
        expected=f"one volume for channel {channel.name} ({channel.modality})",
        advice=f"Say it with --channel {channel.name}=SERIES: a series UID, its description, "
        "or a volume id of `medmtl scan`; for NIfTI the end of the file's name.",
    )
