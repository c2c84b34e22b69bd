"""Feature maps of a grid, put together of those of its tiles.

A feature map is coarser than the grid by whole numbers, and tiles start where its cells do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

__all__ = ["TileMaps", "repeat_block"]


def repeat_block(block: Tensor, whole: Tensor) -> None:
    """Fill (1, C, K, J, I) with a block (1, C, k, j, i) again and again."""
    k, j, i = block.shape[2:]
    _, channels, depth, rows, columns = whole.shape
    blocks = whole.view(1, channels, depth // k, k, rows // j, j, columns // i, i)
    blocks.copy_(block[:, :, None, :, None, :, None].expand_as(blocks))


class TileMaps:
    """The maps that are wanted, on their own grids.

    Args:
        grid: (K, J, I) of the network's input.
        box: Where in it the tiles lie.
        keep: Places in `JointNet.encode` of the maps that are wanted.
        air: Of every map the block that repeats outside of the box; None without an outside.
        divisor: (k, j, i) of that block on the network's grid.
    """

    def __init__(
        self,
        grid: Sequence[int],
        box: Sequence[slice],
        keep: Collection[int],
        *,
        air: Sequence[Tensor] | None,
        divisor: Sequence[int],
    ) -> None:
        self.grid, self.box, self.keep = grid, box, keep
        self.maps: dict[int, Tensor] = {}
        for place in keep if air is not None else ():
            block = air[place]  # type: ignore[index]  # not None here
            whole = self._empty(block, divisor)
            repeat_block(block, whole)
            whole[_at(self.box, _steps(block, divisor))] = 0
            self.maps[place] = whole

    def add(self, where: Sequence[slice], levels: Sequence[Tensor], share: Tensor) -> None:
        """The maps of the tile at `where` in the box; `share` (K, J, I) adds up to 1 everywhere."""
        size = share.shape
        begin = [inner.start + outer.start for inner, outer in zip(where, self.box, strict=True)]
        here = [slice(start, start + n) for start, n in zip(begin, size, strict=True)]
        for place in self.keep:
            level = levels[place]
            whole = self.maps.get(place)
            if whole is None:
                whole = self.maps[place] = self._empty(level, size)
            k, j, i = level.shape[2:]
            weight = nn.functional.adaptive_avg_pool3d(share[None, None], (k, j, i))
            whole[_at(here, _steps(level, size))] += level * weight

    def places(self, count: int) -> list[Tensor]:
        """In the places of `JointNet.encode`; the others are empty."""
        empty = next(iter(self.maps.values())).new_empty(0) if self.maps else Tensor()
        return [self.maps.get(place, empty) for place in range(count)]

    def _empty(self, part: Tensor, size: Sequence[int]) -> Tensor:
        """Zeros on the grid of a map of which a part, `size` large on the input's, is known."""
        steps = _steps(part, size)
        shape = [whole // step for whole, step in zip(self.grid, steps, strict=True)]
        return part.new_zeros(1, part.shape[1], *shape)


def _steps(part: Tensor, size: Sequence[int]) -> list[int]:
    """How much coarser a map is, along (K, J, I)."""
    return [whole // own for whole, own in zip(size, part.shape[2:], strict=True)]


def _at(box: Sequence[slice], steps: Sequence[int]) -> tuple[slice, ...]:
    """A box of the input's grid in (1, C, K', J', I') of a map."""
    places = [slice(p.start // n, p.stop // n) for p, n in zip(box, steps, strict=True)]
    return (slice(None), slice(None), *places)
