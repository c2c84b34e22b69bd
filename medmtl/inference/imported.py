"""What every imported network has in common, whoever trained it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medmtl.inference.channel_rule import ChannelRule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from medmtl.core.prediction import ModelIdentity
    from medmtl.core.study import Study, VolumeRef
    from medmtl.inference.bundle import Bundle
    from medmtl.inference.plans_speed import PlansSpeed

__all__ = ["ImportedModel"]


class ImportedModel:
    """One imported bundle, loaded once, used for many studies; it gives masks and their volumes.

    Args:
        bundle: The loaded bundle; its networks are moved to `device`.
        device: Where the networks run.
        channels: Series by name of channel, where the user says.
    """

    def __init__(
        self, bundle: Bundle, *, device: torch.device, channels: Mapping[str, str] | None = None
    ) -> None:
        self.bundle = bundle
        self.device = device
        self.input = ChannelRule(bundle.settings, channels or {})
        self._runs: dict[str, Any] = {"backend": "torch"}

    @property
    def identity(self) -> ModelIdentity:
        """Which model answers."""
        return self.bundle.identity

    @property
    def settings(self) -> Mapping[str, Any]:
        """What makes one result differ from another."""
        return {"device": self.device.type, **self._runs, "cam": [], **self.input.said}

    def note_speed(self, speed: PlansSpeed, made: Sequence[tuple[Any, str]]) -> None:
        """Say in `settings` what runs the networks; an exact run says nothing more than before."""
        self._runs["backend"] = "+".join(sorted({name for _, name in made}))
        if not speed.is_exact:
            self._runs["speed"] = speed.speed

    def select(self, study: Study) -> Sequence[VolumeRef]:
        """The volumes to read, by `ChannelRule`."""
        return self.input.select(study)
