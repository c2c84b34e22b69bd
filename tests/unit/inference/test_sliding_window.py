"""Tiles change the memory, not the answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from medmtl.inference.sliding_window import predict_tiles, tile_slices


def network(kernel: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv3d(1, 3, kernel, padding=kernel // 2).eval().requires_grad_(False)


def image(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(1, 1, *shape))).float()


def test_tiles_cover_everything_and_never_leave_the_volume() -> None:
    for shape in [(5, 9, 33), (16, 16, 16), (17, 40, 16)]:
        covered = np.zeros(shape, dtype=int)
        for tile in tile_slices(shape, patch_size_kji=(16, 16, 16), overlap=0.5):
            covered[tile] += 1
            assert all(
                0 <= part.start < part.stop <= n for part, n in zip(tile, shape, strict=True)
            )
        assert covered.min() >= 1


def test_a_volume_that_fits_is_one_pass() -> None:
    calls = []
    net = network()

    def counting(x: torch.Tensor) -> torch.Tensor:
        calls.append(x.shape)
        return net(x)  # type: ignore[no-any-return]

    x = image(8, 16, 16)
    logits = predict_tiles(counting, x, patch_size_kji=(8, 16, 20))
    assert calls == [x.shape]
    torch.testing.assert_close(logits, net(x))


def test_a_network_without_neighbourhood_gives_the_same_in_tiles() -> None:
    x = image(10, 40, 36)
    tiled = predict_tiles(network(1), x, patch_size_kji=(16, 16, 16), overlap=0.25)
    torch.testing.assert_close(tiled, network(1)(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("tiles_per_batch", [1, 2, 5, 100])
def test_batch_size_does_not_matter(tiles_per_batch: int) -> None:
    x = image(12, 30, 30)
    one = predict_tiles(network(), x, patch_size_kji=(8, 16, 16))
    many = predict_tiles(network(), x, patch_size_kji=(8, 16, 16), tiles_per_batch=tiles_per_batch)
    torch.testing.assert_close(many, one, atol=1e-4, rtol=0)


def test_order_of_tiles_does_not_matter(rng: np.random.Generator) -> None:
    x = image(12, 30, 30)
    tiles = tile_slices((12, 30, 30), patch_size_kji=(8, 16, 16), overlap=0.5)
    shuffled = [tiles[n] for n in rng.permutation(len(tiles))]
    one = predict_tiles(network(), x, patch_size_kji=(8, 16, 16))
    other = predict_tiles(network(), x, patch_size_kji=(8, 16, 16), tiles=shuffled)
    torch.testing.assert_close(other, one, atol=1e-4, rtol=0)


def test_the_middle_of_a_tile_counts_more_than_its_edge() -> None:
    """Each tile answers with its own number: near its centre that number wins."""
    numbers = iter(range(100))
    logits = predict_tiles(
        lambda x: torch.full((1, 1, *x.shape[2:]), float(next(numbers))),
        image(1, 1, 24),
        patch_size_kji=(1, 1, 16),
        overlap=0.5,
    )[0, 0, 0, 0]
    assert logits[:8].eq(0).all()
    assert logits[16:].eq(1).all()
    assert logits[8:16].diff().gt(0).all()
    assert logits[11] == pytest.approx(1 - float(logits[12]), abs=1e-5)


def test_low_precision_networks_are_summed_in_float32() -> None:
    net = network().bfloat16()
    logits = predict_tiles(
        lambda x: net(x.bfloat16()), image(4, 20, 20), patch_size_kji=(4, 16, 16)
    )
    assert logits.dtype == torch.float32


def test_more_than_one_volume_or_a_wrong_overlap_is_refused() -> None:
    with pytest.raises(ValueError, match="one volume"):
        predict_tiles(network(), torch.zeros(2, 1, 4, 4, 4), patch_size_kji=(4, 4, 4))
    with pytest.raises(ValueError, match="Overlap"):
        predict_tiles(network(), image(4, 4, 4), patch_size_kji=(4, 4, 4), overlap=1.0)
