"""What every imported network has in common, whoever trained it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medmtl.inference.select_input import select_volumes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from medmtl.core.prediction import ModelIdentity
    from medmtl.core.study import Study, VolumeRef
    from medmtl.inference.bundle import Bundle

__all__ = ["ImportedModel"]


class ImportedModel:
    """One imported bundle, loaded once, used for many studies; it gives masks and their volumes.

    Args:
        bundle: The loaded bundle; its networks are moved to `device`.
        device: Where the networks run.
    """

    def __init__(self, bundle: Bundle, *, device: torch.device) -> None:
        self.bundle = bundle
        self.device = device

    @property
    def identity(self) -> ModelIdentity:
        """Which model answers."""
        return self.bundle.identity

    @property
    def settings(self) -> Mapping[str, Any]:
        """What makes one result differ from another."""
        return {"device": self.device.type, "backend": "torch", "cam": []}

    def select(self, study: Study) -> Sequence[VolumeRef]:
        """The volume to read, by the rule of `select_input`."""
        return select_volumes(study, self.bundle.settings)
