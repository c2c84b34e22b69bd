"""Logits or probabilities of all classes, seen along the axes of the source grid."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ClassValues", "single"]


@dataclass(frozen=True, eq=False)
class ClassValues:
    """Values of C classes on the network grid.

    Attributes:
        ckji: (C, K, J, I), a view whose axes run along those of the source grid.
        rows: (C, N), the same memory, padding included, one row per class.
        steps: Distance in a row between neighbours along (K, J, I).
    """

    ckji: NDArray[Any]
    rows: NDArray[Any]
    steps: tuple[int, ...]

    @classmethod
    def along(
        cls, values: NDArray[Any], *, shape: tuple[int, int, int], order: tuple[int, int, int]
    ) -> ClassValues:
        """See `values` along another grid's axes.

        Args:
            values: (C, K, J, I) in the network's own order, with padding at the end of each axis.
            shape: Size (i, j, k) without padding.
            order: The network's axis along each axis (i, j, k) of the other grid.
        """
        values = np.ascontiguousarray(values)
        i, j, k = shape
        inner = values[:, :k, :j, :i].transpose(0, *(3 - axis for axis in reversed(order)))
        steps = tuple(stride // values.itemsize for stride in inner.strides[1:])
        return cls(inner, values.reshape(len(values), -1), steps)

    def corner_places(self, k: int, cells_ji: NDArray[np.intp]) -> NDArray[np.intp]:
        """Where in a row the corners of cells of one layer are.

        Args:
            k: Layer.
            cells_ji: (2, M), lower corner of each cell; beyond the end an axis stays at its end.

        Returns:
            (8, M); corner number is 4 k + 2 j + i.
        """
        depth, rows, columns = self.ckji.shape[1:]
        along_k, along_j, along_i = self.steps
        return np.stack([
            min(k + dk, depth - 1) * along_k
            + np.minimum(cells_ji[0] + dj, rows - 1) * along_j
            + np.minimum(cells_ji[1] + di, columns - 1) * along_i
            for dk, dj, di in product((0, 1), repeat=3)
        ])  # fmt: skip

    def at(self, places: NDArray[np.intp], classes: NDArray[np.intp]) -> NDArray[np.float32]:
        """Values (R, *places) of R classes at places in their rows."""
        found = np.empty((len(classes), *places.shape), self.rows.dtype)
        for row, c in zip(found, classes, strict=True):
            self.rows[c].take(places, out=row, mode="clip")  # all lie inside: "raise" is slower
        return single(found)

    def of_each(self, places: NDArray[np.intp], classes: NDArray[Any]) -> NDArray[np.float32]:
        """Values (8, M) at the places (8, M) of M cells, each of the cell's own class (M,)."""
        flat = self.rows.reshape(-1)
        found = flat.take(places + classes.astype(np.intp) * self.rows.shape[1], mode="clip")
        return single(found)


def single(values: NDArray[Any]) -> NDArray[np.float32]:
    """In float32; from half precision by torch: several times faster than NumPy."""
    if values.dtype == np.float16:
        converted: NDArray[np.float32] = torch.from_numpy(values.copy()).float().numpy()
        return converted
    return values.astype(np.float32, copy=False)
