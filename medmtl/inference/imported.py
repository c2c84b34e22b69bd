"""What every imported network has in common, whoever trained it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from medmtl.inference.channel_rule import ChannelRule
from medmtl.inference.imported_speed import ImportedSpeed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import torch

    from medmtl.core.prediction import ModelIdentity
    from medmtl.core.study import Study, VolumeRef
    from medmtl.inference.bundle import Bundle

__all__ = ["ImportedModel"]


class ImportedModel(ABC):
    """One imported bundle, loaded once, used for many studies; it gives masks and their volumes.

    Args:
        bundle: The loaded bundle; its networks are moved to `device`.
        device: Where the networks run.
        channels: Series by name of channel, where the user says.
        speed: What may be done faster; None for the answer of its authors.

    Raises:
        BundleError: See `load`.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: torch.device,
        channels: Mapping[str, str] | None = None,
        speed: ImportedSpeed | None = None,
    ) -> None:
        self.bundle = bundle
        self.device = device
        self.input = ChannelRule(bundle.settings, channels or {})
        self.speed = speed or ImportedSpeed("best", "torch", device)
        self._runs: dict[str, Any] = {"backend": "+".join(sorted(set(self.load())))}
        if not self.speed.is_exact:  # an exact run says nothing more than before
            self._runs["speed"] = self.speed.speed

    @abstractmethod
    def load(self) -> Iterable[str]:
        """Take everything from the bundle; what runs each network, by name.

        Raises:
            BundleError: If the bundle is of another kind, or the weights of a network are altered.
        """

    @property
    def identity(self) -> ModelIdentity:
        """Which model answers."""
        return self.bundle.identity

    @property
    def settings(self) -> Mapping[str, Any]:
        """What makes one result differ from another."""
        return {"device": self.device.type, **self._runs, "cam": [], **self.input.said}

    def select(self, study: Study) -> Sequence[VolumeRef]:
        """The volumes to read, by `ChannelRule`."""
        return self.input.select(study)
