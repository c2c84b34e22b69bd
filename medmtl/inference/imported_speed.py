"""What an imported network may do faster, and what that changes.

best: the steps of nnU-Net or MONAI themselves, the same labels to the voxel.
balanced: the network by the chosen backend; labels copied where no class can win, by linear
interpolation of logits along every axis.
fast: besides, windows that overlap by a quarter at most; of nnU-Net no mirrored views, images
interpolated linearly instead of by cubic splines, no windows in the air around the body, where the
networks call that background, and wider windows where fewer voxels are computed so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import torch
from torch import Tensor, nn

from medmtl.core.errors import ConfigError
from medmtl.inference.backend import give_engine
from medmtl.inference.openvino_engine import OpenVinoEngine
from medmtl.inference.operating_point import SPEEDS
from medmtl.postprocess.restore import restore_labels

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry
    from medmtl.inference.bundle_settings import BundleSettings
    from medmtl.inference.plans_window import SlidingWindow
    from medmtl.networks.backbones import Backbone
    from medmtl.networks.joint import JointNet

__all__ = ["ImportedSpeed", "Speed", "check_speed"]

_FAST_OVERLAP = 0.25

Speed: TypeAlias = Literal["fast", "balanced", "best"]


def check_speed(name: str) -> Speed:
    """The operating point of a name.

    Raises:
        ConfigError: If there is no such one.
    """
    if name in SPEEDS:
        return cast("Speed", name)
    raise ConfigError(f"--speed: found {name!r}, expected one of {', '.join(SPEEDS)}.")


@dataclass(frozen=True)
class ImportedSpeed:
    """How the networks of one bundle run.

    Attributes:
        speed: The operating point.
        backend: Of `BACKENDS`; "best" is torch.
        device: Where the networks are.
        cache: Folder of converted networks.
    """

    speed: Speed
    backend: str
    device: torch.device
    cache: Path | None = None

    @property
    def is_exact(self) -> bool:
        """Whether the steps are those of its authors."""
        return self.speed == "best"

    @property
    def skips_air(self) -> bool:
        """Whether the air around the body is left out."""
        return self.speed == "fast"

    @property
    def widens_windows(self) -> bool:
        """Whether windows are as large as makes them few."""
        return self.speed == "fast"

    def module(self, net: JointNet, settings: BundleSettings) -> tuple[nn.Module, str]:
        """What answers for a patch, and the name of what runs it."""
        net.requires_grad_(requires_grad=False).to(self.device)
        if self.is_exact:
            return net.backbone, "torch"
        name = give_engine(
            net, settings, backend=self.backend, device=self.device, cache=self.cache
        )
        return (net.backbone if net.engine is None else _Converted(net)), name

    def window(self, window: SlidingWindow) -> SlidingWindow:
        """Without mirrored views and with less overlap, where that is left out."""
        if self.speed != "fast":
            return window
        step = max(window.step, 1 - _FAST_OVERLAP)
        return window.model_copy(update={"mirror_axes": (), "step": step})

    def overlap(self, stated: float) -> float:
        """Of the windows of a network of MONAI."""
        return min(stated, _FAST_OVERLAP) if self.speed == "fast" else stated

    def labels(
        self, logits_ckji: Tensor, grid: Geometry, source: Geometry, values: Sequence[int]
    ) -> NDArray[Any]:
        """Labels on the whole source grid; only where steps are not those of its authors.

        nnU-Net keeps logits in half precision before and after it interpolates them.
        """
        is_half = logits_ckji.dtype == torch.half
        return restore_labels(logits_ckji, grid, source, labels=[0, *values], is_rounded=is_half)


class _Converted(nn.Module):
    """An engine in the place of a backbone: nothing reads the features.

    OpenVINO has weights of its own, so torch lets go of the network's.
    """

    def __init__(self, net: JointNet) -> None:
        super().__init__()
        self.net = net.to("meta") if isinstance(net.engine, OpenVinoEngine) else net

    @property
    def engine(self) -> object:
        """What lends its outputs, if it can (`lent_outputs`)."""
        return self.net.engine

    @property
    def divisor(self) -> tuple[int, int, int]:
        """Of the backbone."""
        return cast("Backbone", self.net.backbone).divisor

    @property
    def channels(self) -> tuple[int, ...]:
        """Of the backbone."""
        return cast("Backbone", self.net.backbone).channels

    def encode(self, image: Tensor) -> list[Tensor]:
        """The image itself."""
        return [image]

    def decode(self, features: list[Tensor]) -> Tensor:
        """Logits."""
        return self.net.encode_and_decode(features[0])[1]
