"""Poolings are sums over tiles: cut and shuffled, a volume gives the same vector."""

import math

import pytest
import torch
from torch import Tensor

from medmtl.networks.pooling import PooledSums, Pooling

KINDS = ("global", "attention", "mask")
CHANNELS, SEGMENTS = 4, 2


def pooling(kinds: tuple[str, ...] = KINDS) -> Pooling:
    torch.manual_seed(0)
    return Pooling(channels=CHANNELS, segments=SEGMENTS, kinds=kinds)


def tile_inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    feature = torch.randn(2, CHANNELS, 4, 6, 4, generator=generator)
    probabilities = torch.rand(2, SEGMENTS + 1, 8, 12, 8, generator=generator).softmax(dim=1)
    return feature, probabilities


def add_up(parts: list[PooledSums]) -> PooledSums:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2)])
def test_tiles_in_any_order_give_the_vector_of_the_whole(order: tuple[int, ...]) -> None:
    module = pooling()
    feature, probabilities = tile_inputs()
    whole, _ = module.finish(module.sums(feature, probabilities, None))
    tiles = [
        module.sums(
            feature[:, :, 2 * k : 2 * k + 2, 3 * j : 3 * j + 3],
            probabilities[:, :, 4 * k : 4 * k + 4, 6 * j : 6 * j + 6],
            None,
        )
        for k in range(2)
        for j in range(2)
    ]
    tiled, _ = module.finish(add_up([tiles[n] for n in order]))
    torch.testing.assert_close(tiled, whole, rtol=1e-4, atol=1e-4)


def test_overlapping_tiles_whose_weights_add_to_one_give_the_vector_of_the_whole() -> None:
    module = pooling()
    feature, probabilities = tile_inputs()
    weight = torch.rand(4, 6, 4, generator=torch.Generator().manual_seed(2))
    parts = [module.sums(feature, probabilities, part) for part in (weight, 1 - weight)]
    whole, total = module.sums(feature, probabilities, None), add_up(parts)
    torch.testing.assert_close(total.numerator, whole.numerator, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(total.denominator, whole.denominator, rtol=1e-4, atol=1e-4)


def test_global_pooling_is_the_mean_and_mask_pooling_the_mean_inside() -> None:
    module = pooling(("global", "mask"))
    feature = torch.zeros(1, CHANNELS, 1, 2, 2)
    feature[0, :, 0, 0, 0] = torch.arange(1.0, 5.0)
    probabilities = torch.zeros(1, 3, 1, 2, 2)
    probabilities[0, 1, 0, 0] = 1.0  # the first organ holds two voxels, the second all four
    probabilities[0, 2] = 1.0
    vector, empty = module.finish(module.sums(feature, probabilities, None))
    mean = torch.arange(1.0, 5.0) / 4
    torch.testing.assert_close(vector[0], torch.cat([mean, 2 * mean, mean]))
    assert not empty.any()


def test_an_empty_organ_falls_back_to_the_global_vector_and_says_so() -> None:
    module = pooling()
    feature, probabilities = tile_inputs()
    probabilities[1, 2] = 0.0
    vector, empty = module.finish(module.sums(feature, probabilities, None))
    assert empty.tolist() == [[False, False], [False, True]]
    pools = vector.reshape(2, module.count, CHANNELS)
    torch.testing.assert_close(pools[1, 3], pools[1, 0])
    assert not torch.allclose(pools[0, 3], pools[0, 0])


def test_attention_cannot_overflow() -> None:
    module = pooling(("global", "attention"))
    feature, probabilities = tile_inputs()
    sums = module.sums(1e6 * feature, probabilities, None)
    assert sums.denominator.max() <= feature[0, 0].numel() * math.exp(4.0)
    assert torch.isfinite(module.finish(sums)[0]).all()


def test_the_order_of_kinds_is_the_order_of_vectors() -> None:
    feature, probabilities = tile_inputs()
    first, last = pooling(("global", "mask", "attention")), pooling(KINDS)
    last.load_state_dict(first.state_dict())
    a, empty_a = first.finish(first.sums(feature, probabilities, None))
    b, empty_b = last.finish(last.sums(feature, probabilities, None))
    order = [0, 2, 3, 1]
    torch.testing.assert_close(a.reshape(2, 4, CHANNELS), b.reshape(2, 4, CHANNELS)[:, order])
    assert torch.equal(empty_a, empty_b)
