"""A stem that sees its neighbouring slices is a 3D convolution, weight for weight."""

import torch
from torch import nn

from medmtl.networks.slice_context import SliceContext


def test_followed_by_a_planar_convolution_it_is_a_3d_convolution() -> None:
    torch.manual_seed(0)
    image = torch.randn(2, 1, 5, 6, 7)
    image -= image.amin(dim=(1, 2, 3, 4), keepdim=True)  # zero padding is padding with background
    weight = torch.randn(4, 1, 3, 3, 3)
    planar = weight.transpose(1, 2).reshape(4, 3, 1, 3, 3)
    found = nn.functional.conv3d(SliceContext(1)(image), planar, padding=(0, 1, 1))
    expected = nn.functional.conv3d(image, weight, padding=1)
    torch.testing.assert_close(found, expected)


def test_outside_of_the_volume_lies_its_minimum() -> None:
    image = torch.arange(-3.0, 3.0).reshape(1, 1, 6, 1, 1)
    context = SliceContext(2)(image)
    assert context.shape == (1, 5, 6, 1, 1)
    assert context[0, :, 0].flatten().tolist() == [-3.0, -3.0, -3.0, -2.0, -1.0]
    assert context[0, :, 5].flatten().tolist() == [0.0, 1.0, 2.0, -3.0, -3.0]


def test_every_study_of_a_batch_has_its_own_minimum() -> None:
    images = torch.randn(3, 1, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    together = SliceContext(1)(images)
    alone = torch.cat([SliceContext(1)(image[None]) for image in images])
    torch.testing.assert_close(together, alone)


def test_without_reach_nothing_changes() -> None:
    image = torch.randn(1, 1, 3, 4, 5)
    assert SliceContext(0)(image) is image
