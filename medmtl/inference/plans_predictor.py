"""A network imported from nnU-Net that answers for studies, by nnU-Net's own steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medmtl.core.errors import BundleError
from medmtl.core.flags import Flag
from medmtl.core.prediction import Measurement
from medmtl.inference.bundle import load_folds
from medmtl.inference.imported import ImportedModel
from medmtl.inference.masks_answer import masks_answer
from medmtl.inference.plans_window import window_logits
from medmtl.inference.stage_clock import StageClock
from medmtl.inference.stages import Staged
from medmtl.postprocess.restore import label_dtype
from medmtl.transforms.plans import PlansPreprocessing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medmtl.core.study import Study
    from medmtl.core.volume import Volume
    from medmtl.inference.bundle_settings import BundleSettings
    from medmtl.inference.stages import Stages
    from medmtl.transforms.plans import PlansInput

__all__ = ["PlansPredictor", "class_labels", "grid_labels", "orientation_flags", "region_volumes"]


class PlansPredictor(Staged, ImportedModel):
    """One network, or several folds whose logits are averaged."""

    def load(self) -> list[str]:
        """See `ImportedModel`."""
        settings = self.bundle.settings
        preprocessing, window = settings.preprocessing, settings.sliding_window
        if not isinstance(preprocessing, PlansPreprocessing) or window is None:
            raise BundleError(f"Bundle {self.bundle.folder.name}: not imported from nnU-Net.")
        self.preprocessing = preprocessing
        self.window = self.speed.window(window)
        made = [self.speed.module(net, settings) for net in load_folds(self.bundle)]
        self.nets = [net for net, _ in made]
        return [name for _, name in made]

    def stages(self, study: Study, volumes: Sequence[Volume]) -> Stages:
        """Masks on the grid of the first volume that `select` named."""
        clock = StageClock()
        settings = self.bundle.settings
        together = self.input.together(study, volumes)
        volume = together.volume
        prepared = self.preprocessing.apply(
            volume, together.further, is_linear=self.speed.speed == "fast"
        )
        clock.stop("preprocess")
        yield
        clock.go_on()
        logits = window_logits(
            self.nets,
            torch.from_numpy(prepared.array_cabc),
            self.window,
            classes=len(settings.segments) + int(settings.network.has_background),
            device=self.device,
            air=self.preprocessing.air if self.speed.skips_air else None,
            is_widened=self.speed.widens_windows,
            has_background=settings.network.has_background,
        )
        clock.stop("network")
        yield
        clock.go_on()
        if self.speed.is_exact or settings.regions:
            labels = prepared.whole_labels(grid_labels(logits.numpy(), prepared, settings))
        else:
            values = [segment.label for segment in settings.segments]
            labels = self.speed.labels(logits, prepared.geometry, volume.geometry, values)
        return masks_answer(
            self.bundle,
            study,
            together,
            labels,
            read=volumes,
            flags=orientation_flags(study, self.preprocessing),
            measurements=region_volumes(labels, volume, settings),
            clock=clock,
        )


def orientation_flags(study: Study, preprocessing: PlansPreprocessing) -> list[Flag]:
    """nnU-Net stores nowhere how its training images lay; a DICOM volume lies as LPS."""
    if study.kind != "dicom" or preprocessing.orientation != "source":
        return []
    message = (
        "The imported model does not say how its training images were oriented; if not like "
        "DICOM, left and right or front and back are mixed up."
    )
    return [Flag("orientation-not-stated", "warning", message)]


def grid_labels(
    logits_cabc: NDArray[np.float16], prepared: PlansInput, settings: BundleSettings
) -> NDArray[Any]:
    """Labels on the cropped source grid, one class at a time to bound the memory."""
    values = [segment.label for segment in settings.segments]
    if not settings.regions:
        return class_labels(logits_cabc, prepared, values)
    regions = (prepared.on_source(logits) for logits in logits_cabc)
    shape = tuple(part.stop - part.start for part in prepared.box)
    painted = np.zeros(shape, dtype=label_dtype(max(values, default=0)))
    for logits, region in zip(regions, settings.regions, strict=True):
        probability = torch.from_numpy(np.ascontiguousarray(logits)).float().sigmoid()
        painted[(probability > 0.5).numpy()] = region.paints
    return painted


def class_labels(
    logits_cabc: NDArray[np.float16], prepared: PlansInput, values: Sequence[int]
) -> NDArray[Any]:
    """The label of the largest class on the cropped source grid; the first class is background."""
    best = prepared.on_source(logits_cabc[0])
    labels = np.zeros(best.shape, dtype=label_dtype(max(values, default=0)))
    for logits, label in zip(logits_cabc[1:], values, strict=True):
        candidate = prepared.on_source(logits)
        labels[candidate > best] = label
        best = np.maximum(best, candidate)
    return labels


def region_volumes(
    labels: NDArray[Any], volume: Volume, settings: BundleSettings
) -> list[Measurement]:
    """Volumes of overlapping regions, which a label map cannot hold as they are."""
    return [
        Measurement(
            f"{region.name}_whole",
            int(np.isin(labels, region.labels).sum()) * volume.geometry.voxel_mm3 / 1000,
            "mL",
            "segmentation",
        )
        for region in settings.regions
    ]
