"""A converted network compiled for any size, or for one large size, which takes less memory.

Where OpenVINO knows the size of every map it lays them out in one piece of memory, each in the
place of those that are finished; where it does not, each map grows by itself. Of tiles of
160 x 144 x 144 voxels that is 1.7 instead of 2.2 GiB (five-level nnU-Net network), in int8 1.7
instead of 2.7. Compiling takes a part of a second, which small inputs of ever new sizes do not pay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["SizedNetwork"]

LARGE_VOXELS = 1_000_000
"""Inputs of at least so many voxels get a network compiled for their size."""


class SizedNetwork:
    """Compiles when it is asked, and keeps the network of free size and that of the last large one.

    Args:
        core: OpenVINO's.
        model: OpenVINO's, its grid free; it stays as it is.
        settings: Of the compilation.
    """

    def __init__(self, core: Any, model: Any, settings: Mapping[str, object]) -> None:
        self._core, self._settings = core, dict(settings)
        self._model = model
        self._of_any: Any = None
        self._of_one: tuple[tuple[int, ...], Any] | None = None

    def __call__(self, stem_bckji: NDArray[np.float32], *, lends: bool) -> Any:
        """Outputs by their number.

        Args:
            stem_bckji: Contiguous; read while the network runs.
            lends: Whether the outputs are the network's own memory, which the next call writes.
        """
        compiled = self._compiled(stem_bckji.shape)
        return compiled([stem_bckji], share_inputs=True, share_outputs=lends)

    def let_go(self) -> None:
        """Give the memory of maps back; the next input takes it anew."""
        for compiled in (self._of_any, None if self._of_one is None else self._of_one[1]):
            if compiled is not None:
                compiled.release_memory()

    def _compiled(self, shape: tuple[int, ...]) -> Any:
        voxels = shape[2] * shape[3] * shape[4]
        if voxels < LARGE_VOXELS:
            if self._of_any is None:
                self._of_any = self._compile(self._model)
            return self._of_any
        if self._of_any is not None:
            self._of_any.release_memory()
        if self._of_one is None or self._of_one[0] != shape:
            self._of_one = None  # its memory goes before the next one's comes
            fixed = self._model.clone()
            fixed.reshape(list(shape))
            self._of_one = (shape, self._compile(fixed))
        return self._of_one[1]

    def _compile(self, model: Any) -> Any:
        return self._core.compile_model(model, "CPU", self._settings)
