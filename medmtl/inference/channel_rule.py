"""What an imported network reads of a study: one volume, or one for each of its channels."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from medmtl.inference.channels import channel_sources, match_channels
from medmtl.inference.select_input import select_volumes
from medmtl.nifti.channels import channel_cases
from medmtl.transforms.common_grid import on_first_grid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from medmtl.core.flags import Flag
    from medmtl.core.prediction import ChannelSource
    from medmtl.core.study import Listing, Study, VolumeRef
    from medmtl.core.volume import Volume
    from medmtl.inference.bundle_settings import BundleSettings

__all__ = ["ChannelRule", "TogetherInput"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TogetherInput:
    """All channels of one case on the grid of the first.

    Attributes:
        volume: The first channel, or the only one; masks are made on its grid.
        further: Values of the other channels, (i, j, k) on that grid.
        flags: Of reading and of bringing them together.
        sources: Which series each is; empty for a network of one channel.
    """

    volume: Volume
    further: tuple[NDArray[Any], ...] = ()
    flags: tuple[Flag, ...] = ()
    sources: tuple[ChannelSource, ...] = ()


@dataclass(frozen=True, eq=False)
class ChannelRule:
    """How the input of an imported network is found.

    Attributes:
        settings: Of the bundle.
        chosen: Series by name of channel, as the user says.
    """

    settings: BundleSettings
    chosen: Mapping[str, str] = field(default_factory=dict)

    @property
    def said(self) -> dict[str, Any]:
        """What the user chose, for the settings of a run: a hash, as a series may be called so."""
        if not self.chosen:
            return {}
        text = json.dumps(dict(sorted(self.chosen.items())))
        return {"channels": hashlib.sha256(text.encode()).hexdigest()[:16]}

    def arrange(self, listing: Listing) -> Listing:
        """NIfTI files of one case, one per channel, as one study; everything else as it is."""
        names = [channel.name for channel in self.settings.input.channels]
        return channel_cases(listing, names, also=self.chosen.values()) if names else listing

    def select(self, study: Study) -> tuple[VolumeRef, ...]:
        """The volumes to read, one per channel.

        Raises:
            InputRefusedError: If nothing fits, or it is not clear which.
        """
        channels = self.settings.input.channels
        if not channels:
            return select_volumes(study, self.settings)
        return tuple(one.ref for one in match_channels(study, channels, chosen=self.chosen))

    def together(self, study: Study, volumes: Sequence[Volume]) -> TogetherInput:
        """The volumes that `select` named, on one grid; the log says which is which.

        Raises:
            InputRefusedError: If they cannot be brought to one grid safely.
        """
        own_id = self.settings.network.volumes[0]
        volume = replace(volumes[0], id=own_id)
        channels = self.settings.input.channels
        if not channels:
            return TogetherInput(volume)
        matches = match_channels(study, channels, chosen=self.chosen)
        for match in matches:
            logger.info(
                "case %s: channel %s is volume %s, by %s",
                study.case_id, match.channel.name, match.ref.id, match.matched_by,
            )  # fmt: skip
        arrays, flags = on_first_grid(volumes, [channel.name for channel in channels])
        resampled = [
            array is not volume.array for array, volume in zip(arrays, volumes, strict=True)
        ]
        return TogetherInput(
            volume,
            tuple(arrays[1:]),
            (*(flag for one in volumes[1:] for flag in one.flags), *flags),
            channel_sources(matches, volumes, resampled=resampled),
        )
