"""Which weights of a network that was trained before learn on, and how fast.

Levels are found, not named: a weight belongs to the first feature map that depends on it. So it
works for any encoder, from nnU-Net or of our own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medmtl.networks.joint import JointNet

__all__ = ["encoder_levels", "learning_scales", "take_backbone"]

_BACKBONE = ("backbone.", "partner.")


def take_backbone(net: JointNet, source: JointNet) -> None:
    """Give a network the encoder and decoder of another one with the same backbone.

    Raises:
        RuntimeError: If they do not fit.
    """
    own = {name for name in net.state_dict() if name.startswith(_BACKBONE)}
    weights = {n: w for n, w in source.state_dict().items() if n.startswith(_BACKBONE)}
    if own != weights.keys():
        raise RuntimeError("the backbones have other weights")
    net.load_state_dict(weights, strict=False)


def encoder_levels(net: JointNet) -> dict[str, int]:
    """The level, 0 the finest, of every weight of the encoder; those of the decoder have none."""
    was_training = net.training
    net.eval()
    k, j, i = (2 * step for step in net.divisor)  # two voxels at the coarsest: a norm needs some
    device = next(net.parameters()).device
    named = [(name, w) for name, w in net.named_parameters() if name.startswith(_BACKBONE)]
    needed = [weight.requires_grad for _, weight in named]
    for _, weight in named:
        weight.requires_grad_()
    levels: dict[str, int] = {}
    with torch.enable_grad():
        features = net.encode(torch.zeros(1, 1, k, j, i, device=device))
        for number, feature in enumerate(net.diagnosis_features(features)):
            weights = [weight for _, weight in named]
            found = torch.autograd.grad(
                feature.sum(), weights, retain_graph=True, allow_unused=True
            )
            for (name, _), gradient in zip(named, found, strict=True):
                if gradient is not None:
                    levels.setdefault(name, number)
    for (_, weight), need in zip(named, needed, strict=True):
        weight.requires_grad_(need)
    net.train(was_training)
    return levels


def learning_scales(net: JointNet, *, unfreeze: int | None, decay: float) -> Mapping[str, float]:
    """Freeze what is not to learn, and the factor of the learning rate of what is.

    Args:
        net: Changed in place: what stays as it is needs no gradient any more.
        unfreeze: Encoder levels that learn, counted from the coarsest; None for all.
        decay: Factor from each level to the next finer one; the decoder has that of the coarsest.
    """
    levels = encoder_levels(net)
    coarsest = max(levels.values(), default=0)
    scales = {}
    for name, weight in net.named_parameters():
        if not name.startswith(_BACKBONE):
            continue
        depth = coarsest - levels[name] if name in levels else 0
        weight.requires_grad_(unfreeze is None or depth < unfreeze or name not in levels)
        scales[name] = decay ** (depth + 1)
    return scales
