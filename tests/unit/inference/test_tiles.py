"""Tiles cover the grid, and their shares add up to one everywhere."""

import itertools

import pytest
import torch

from medmtl.inference.tiles import plan_tiles

CASES = [
    ((16, 32, 24), (1, 4, 4), 1000),
    ((16, 32, 24), (2, 4, 4), 500),
    ((5, 48, 48), (1, 16, 16), 2000),
    ((24, 24, 24), (8, 8, 8), 1),
    ((40, 40, 40), (1, 1, 1), 4000),
    ((33, 7, 50), (1, 1, 1), 700),
    ((8, 64, 8), (4, 16, 8), 3000),
    ((16, 16, 16), (4, 4, 4), 10**9),
]
Grid = tuple[int, int, int]


@pytest.mark.parametrize(("shape", "divisor", "max_voxels"), CASES)
def test_shares_add_up_to_one_everywhere(shape: Grid, divisor: Grid, max_voxels: int) -> None:
    tiles, coverage = plan_tiles(shape, divisor, max_voxels)
    total = torch.zeros(shape)
    for tile in reversed(tiles):  # the order does not matter
        total[tile.where[2:]] += tile.weight / coverage[tile.where[2:]]
    assert (coverage > 0).all()
    torch.testing.assert_close(total, torch.ones(shape))


@pytest.mark.parametrize(("shape", "divisor", "max_voxels"), CASES)
def test_sizes_and_starts_are_multiples_of_the_divisor(
    shape: Grid, divisor: Grid, max_voxels: int
) -> None:
    tiles, _ = plan_tiles(shape, divisor, max_voxels)
    for tile in tiles:
        for part, whole, step in zip(tile.where[2:], shape, divisor, strict=True):
            assert part.start % step == 0
            assert (part.stop - part.start) % step == 0
            assert 0 <= part.start < part.stop <= whole
        assert tile.weight.shape == tuple(part.stop - part.start for part in tile.where[2:])
        assert tile.weight.min() > 0


@pytest.mark.parametrize(("shape", "divisor", "max_voxels"), CASES)
def test_no_tile_is_larger_than_allowed_or_there_twice(
    shape: Grid, divisor: Grid, max_voxels: int
) -> None:
    tiles, _ = plan_tiles(shape, divisor, max_voxels)
    smallest = divisor[0] * divisor[1] * divisor[2]
    assert all(tile.weight.numel() <= max(max_voxels, smallest) for tile in tiles)
    where = [str(tile.where) for tile in tiles]
    assert len(set(where)) == len(where)


def test_a_grid_that_fits_is_one_tile() -> None:
    tiles, _ = plan_tiles((16, 16, 16), (4, 4, 4), 16**3)
    assert len(tiles) == 1


def test_neighbours_overlap_by_a_quarter() -> None:
    tiles, _ = plan_tiles((8, 8, 100), (1, 1, 1), 8 * 8 * 25)
    starts = sorted({tile.where[4].start for tile in tiles})
    length = tiles[0].weight.shape[2]
    assert starts[-1] + length == 100
    assert all(b - a <= 0.75 * length + 1 for a, b in itertools.pairwise(starts))


def test_the_middle_of_a_tile_counts_most() -> None:
    weight = plan_tiles((9, 9, 27), (1, 1, 1), 9 * 9 * 9)[0][0].weight
    k, j, i = (size // 2 for size in weight.shape)
    assert weight[k, j, i] == weight.max()
    assert torch.equal(weight, weight.flip(0, 1, 2))


def test_a_grid_off_the_divisor_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of"):
        plan_tiles((16, 15, 16), (4, 4, 4), 100)
