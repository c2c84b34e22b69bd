"""Studies of 8 x 12 x 12 voxels on the network grid, and a network for them."""

from __future__ import annotations

import torch

from medmtl.data.samples import Sample
from medmtl.networks.backbones import DynUNetConfig
from medmtl.networks.diagnosis_head import HeadConfig
from medmtl.networks.joint import COVARIATES, JointNet, NetworkConfig

NETWORK = NetworkConfig(
    backbone=DynUNetConfig(
        filters=(4, 4, 4),
        kernels=((3, 3, 3),) * 3,
        strides=((1, 1, 1), (2, 2, 2), (2, 2, 2)),
        norm="instance",
    ),
    segments=("liver", "spleen"),
    findings=("big", "old"),
    head=HeadConfig(embedding=4, hidden=4),
)


def sample(seed: int, net: JointNet | None = None) -> Sample:
    """A study; with a network, its masks are what the network answers."""
    image = torch.randn(8, 12, 12, generator=torch.Generator().manual_seed(seed))
    labels = torch.zeros(8, 12, 12, dtype=torch.uint8)
    if net is not None:
        labels = net.decode(net.encode(image[None, None])).argmax(dim=1)[0].byte()
    return Sample(
        case_id=str(seed),
        dataset="made",
        images=(image,),
        labels=(labels,),
        is_annotated=torch.ones(1, 2, dtype=torch.bool),
        findings=torch.tensor([float(seed % 2), torch.nan]),
        covariates={name: torch.tensor([torch.nan]) for name in COVARIATES},
        spacing_mm=torch.full((1, 3), 2.0),
    )
