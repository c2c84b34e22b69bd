"""Bundles with random weights for timing: what a network costs does not depend on what it knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from medmtl.inference.bundle import find_bundle, load_bundle, write_bundle
from medmtl.networks.backbones import DynUNetConfig, SegResNetDSConfig
from medmtl.networks.joint import JointNet

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MODEL = "torso-ct-phantom"
SPACING_MM, QUICK_SPACING_MM = 3.0, 8.0

BACKBONES: Mapping[str, SegResNetDSConfig | DynUNetConfig] = {
    "SegResNet of 16 filters": SegResNetDSConfig(init_filters=16),
    "five-level nnU-Net network": DynUNetConfig(
        filters=(32, 64, 128, 256, 320),
        kernels=((3, 3, 3),) * 5,
        strides=((1, 1, 1), *((2, 2, 2),) * 4),
    ),
}


def write_random(folder: Path, network: str, *, spacing_mm: float = SPACING_MM) -> None:
    """The shipped CT model with another backbone, on a finer grid, as a bundle."""
    settings = load_bundle(find_bundle(MODEL)).settings
    torch.manual_seed(0)
    config = settings.network.model_copy(update={"backbone": BACKBONES[network]})
    net = JointNet(config).eval()
    divisor = tuple(reversed(net.divisor))
    preprocessing = settings.preprocessing.model_copy(
        update={"spacing_mm": (spacing_mm,) * 3, "divisor": divisor}
    )
    changed = settings.model_copy(
        update={"name": folder.name, "network": config, "preprocessing": preprocessing}
    )
    card = f"# {folder.name}\n\nRandom weights. Licence of the weights: {settings.licence}.\n"
    write_bundle(folder, changed, net.state_dict(), card=card, metrics_json="{}")
