"""A network imported from a MONAI bundle that answers for studies, by MONAI's own steps."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from medmtl.core.errors import BundleError, InputRefusedError
from medmtl.core.resample import parallel_axes
from medmtl.inference.imported import ImportedModel
from medmtl.inference.masks_answer import masks_answer
from medmtl.inference.stage_clock import StageClock
from medmtl.inference.stages import Staged
from medmtl.postprocess.restore import label_dtype
from medmtl.transforms.monai_bridge import from_metatensor, to_metatensor
from medmtl.transforms.monai_plan import IMAGE, MonaiPreprocessing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry
    from medmtl.core.study import Study
    from medmtl.core.volume import Volume
    from medmtl.inference.stages import Stages
    from medmtl.networks.backbones import Backbone

__all__ = ["MonaiPredictor", "check_finite"]


class MonaiPredictor(Staged, ImportedModel):
    """One network in MONAI's window."""

    def load(self) -> list[str]:
        """See `ImportedModel`."""
        from monai.inferers.utils import sliding_window_inference  # loads most of MONAI

        self.in_window = sliding_window_inference
        preprocessing = self.bundle.settings.preprocessing
        if not isinstance(preprocessing, MonaiPreprocessing):
            raise BundleError(f"Bundle {self.bundle.folder.name}: not imported from MONAI.")
        self.window = preprocessing.window
        self.inverse = preprocessing.inverse
        self.transforms = preprocessing.build()
        self.net, name = self.speed.module(self.bundle.net, self.bundle.settings)
        return [name]

    def stages(self, study: Study, volumes: Sequence[Volume]) -> Stages:
        """Masks on the grid of the first volume that `select` named."""
        clock = StageClock()
        together = self.input.together(study, volumes)
        check_finite(together.volume.id, (together.volume.array, *together.further))
        prepared = self.transforms({IMAGE: to_metatensor(together.volume, together.further)})
        clock.stop("preprocess")
        yield
        clock.go_on()
        logits = self.logits(prepared[IMAGE].as_tensor())
        clock.stop("network")
        yield
        clock.go_on()
        if self.speed.is_exact:
            labels = self.label_map(logits, prepared[IMAGE])
        else:
            labels = self._restored(logits, prepared[IMAGE], together.volume.geometry)
        return masks_answer(self.bundle, study, together, labels, read=volumes, clock=clock)

    @torch.inference_mode()
    def logits(self, image: torch.Tensor, net: Backbone | None = None) -> torch.Tensor:
        """(C, ...) of an image (1, ...) on the network's grid, by its own network or `net`."""
        backbone = cast("Backbone", self.net) if net is None else net
        logits: Any = self.in_window(
            image[None].to(self.device),
            sw_batch_size=1,
            predictor=lambda patch: backbone.decode(backbone.encode(patch)),
            overlap=self.speed.overlap(self.window.overlap),
            **self.window.arguments,
        )
        return cast("torch.Tensor", logits[0])

    def _restored(self, logits: torch.Tensor, image: Any, source: Geometry) -> NDArray[Any]:
        """The largest class on the source grid, interpolated only where it can change."""
        values = [segment.label for segment in self.bundle.settings.segments]
        grid = from_metatensor(image[:1]).geometry
        try:
            parallel_axes(grid, source)
        except ValueError:  # `diagonal` turns an oblique image; only MONAI's own way leads back
            return self.label_map(logits, image)
        return self.speed.labels(logits.cpu().permute(0, 3, 2, 1), grid, source, values)

    def label_map(self, logits: torch.Tensor, image: Any) -> NDArray[Any]:
        """The largest class on the source grid, each class taken back by itself."""
        from monai.data.meta_tensor import MetaTensor
        from monai.transforms.utils import convert_applied_interp_mode

        probabilities = logits.float().softmax(dim=0).cpu()
        values = [0, *(segment.label for segment in self.bundle.settings.segments)]
        done = image.applied_operations
        if self.inverse == "nearest":
            done = convert_applied_interp_mode(done, mode="nearest", align_corners=None)
        best: NDArray[np.float32] | None = None
        labels = np.zeros(0)
        for one, value in zip(probabilities, values, strict=True):
            taken = MetaTensor(one[None], meta=image.meta, applied_operations=deepcopy(done))
            candidate = self.transforms.inverse({IMAGE: taken})[IMAGE].as_tensor()[0].numpy()
            if best is None:
                best, labels = candidate, np.zeros(candidate.shape, dtype=label_dtype(max(values)))
                continue
            labels[candidate > best] = value
            best = np.maximum(best, candidate)
        return labels


def check_finite(volume_id: str, arrays: Sequence[NDArray[Any]]) -> None:
    """Refuse what is no number.

    Raises:
        InputRefusedError: If a voxel is NaN or infinite.
    """
    if all(np.isfinite(array).all() for array in arrays):
        return
    raise InputRefusedError(
        f"volume {volume_id}",
        stage="preprocess",
        code="non-finite-values",
        found="voxels that are NaN or infinite",
        expected="finite intensities",
        advice="Repair or re-export the image.",
    )
