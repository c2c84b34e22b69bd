"""Neighbouring slices as channels: a 3D stem for networks that are planar at full resolution.

Followed by a (1, 3, 3) convolution this is exactly a 3x3x3 convolution with zero padding, so a
network trained on single slices with their neighbours is the 3D network, weight for weight.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["SliceContext"]


class SliceContext(nn.Module):
    """Stack each slice with its `reach` neighbours on both sides along the channel axis.

    Outside of the volume the neighbour is `outside`, the value of background after preprocessing
    being unknown here, so the minimum of the volume is used.
    """

    def __init__(self, reach: int) -> None:
        super().__init__()
        self.reach = reach

    def forward(self, image_bckji: Tensor) -> Tensor:
        """(B, C, K, J, I) to (B, C * (2 reach + 1), K, J, I), offsets -reach..reach."""
        if self.reach == 0:
            return image_bckji
        lowest = image_bckji.amin(dim=(1, 2, 3, 4), keepdim=True)
        slices = image_bckji.shape[2]
        shifted_up = nn.functional.pad(image_bckji - lowest, (0, 0, 0, 0, self.reach, self.reach))
        windows = [shifted_up[:, :, i : i + slices] for i in range(2 * self.reach + 1)]
        return torch.cat(windows, dim=1) + lowest
