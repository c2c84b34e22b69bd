"""Feature maps to vectors, as sums that add up over tiles.

Every pooling is a pair (numerator, denominator) that is additive over disjoint or weighted tiles,
so the pooled vector of a volume does not depend on how, or in which order, it was tiled.
Tensors: B batch, C channel, K J I voxel axes, S segment.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["MIN_MASK_VOXELS", "PooledSums", "Pooling"]

MIN_MASK_VOXELS = 0.5
"""Below this many (soft) feature voxels a predicted organ counts as empty."""


@dataclass(frozen=True)
class PooledSums:
    """Numerators (B, P, C) and denominators (B, P) of P poolings of one feature map."""

    numerator: Tensor
    denominator: Tensor

    def __add__(self, other: PooledSums) -> PooledSums:
        """Join two tiles of one volume."""
        return PooledSums(self.numerator + other.numerator, self.denominator + other.denominator)


class Pooling(nn.Module):
    """Global, attention and mask-guided pooling of one feature map.

    Args:
        channels: C of the feature map.
        segments: S, number of segments (without background).
        kinds: Any of "global", "attention", "mask".
    """

    def __init__(self, *, channels: int, segments: int, kinds: tuple[str, ...]) -> None:
        super().__init__()
        self.kinds = kinds
        self.segments = segments
        self.score = nn.Conv3d(channels, 1, kernel_size=1) if "attention" in kinds else None

    @property
    def count(self) -> int:
        """P, the number of pooled vectors."""
        return sum(self.segments if kind == "mask" else 1 for kind in self.kinds)

    def sums(self, feature: Tensor, probabilities: Tensor, weight: Tensor | None) -> PooledSums:
        """Numerators and denominators over one tile.

        Args:
            feature: (B, C, K', J', I').
            probabilities: (B, S + 1, K, J, I) segment probabilities, background first.
            weight: (K', J', I') importance of the tile's voxels, or (B, 1, K', J', I') of each
                study's; None is one everywhere.
        """
        batch, channels = feature.shape[:2]
        flat = feature.reshape(batch, channels, -1)
        maps = torch.cat([self._map(kind, feature, probabilities) for kind in self.kinds], dim=1)
        if weight is not None:
            maps = maps * weight.to(maps)
        maps = maps.reshape(batch, maps.shape[1], -1)
        return PooledSums(torch.einsum("bpn,bcn->bpc", maps, flat), maps.sum(dim=-1))

    def _map(self, kind: str, feature: Tensor, probabilities: Tensor) -> Tensor:
        if kind == "global":
            return torch.ones_like(feature[:, :1])
        if kind == "mask":
            return nn.functional.adaptive_avg_pool3d(probabilities[:, 1:], _size(feature))
        if self.score is None:
            raise ValueError(f"Pooling kind must be one of {self.kinds}. Found {kind!r}.")
        # A bounded score needs no running maximum, so tiles add up exactly.
        return torch.exp(4.0 * torch.tanh(self.score(feature)))

    def finish(self, sums: PooledSums) -> tuple[Tensor, Tensor]:
        """Pooled vectors (B, P * C) and which predicted organs were empty (B, S), bool.

        The vector of an empty organ falls back to the global one.
        """
        denominator = sums.denominator.unsqueeze(-1)
        pooled = sums.numerator / denominator.clamp_min(1e-6)
        if "mask" not in self.kinds:
            empty = torch.zeros(pooled.shape[0], 0, dtype=torch.bool, device=pooled.device)
            return pooled.flatten(1), empty
        start = sum(1 for kind in self.kinds[: self.kinds.index("mask")])
        stop = start + self.segments
        empty = sums.denominator[:, start:stop] < MIN_MASK_VOXELS
        fallback = pooled[:, :1]
        organs = torch.where(empty.unsqueeze(-1), fallback, pooled[:, start:stop])
        pooled = torch.cat([pooled[:, :start], organs, pooled[:, stop:]], dim=1)
        return pooled.flatten(1), empty


def _size(feature: Tensor) -> tuple[int, int, int]:
    k, j, i = feature.shape[2:]
    return k, j, i
