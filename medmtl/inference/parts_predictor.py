"""Several imported networks on one grid, each for its own segments, as one model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from medmtl.core.errors import BundleError
from medmtl.inference.bundle import load_parts
from medmtl.inference.imported import ImportedModel
from medmtl.inference.masks_answer import masks_answer
from medmtl.inference.plans_predictor import class_labels, orientation_flags
from medmtl.inference.plans_window import window_logits
from medmtl.inference.stage_clock import StageClock
from medmtl.postprocess.restore import label_dtype
from medmtl.transforms.plans import PlansPreprocessing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.core.prediction import Prediction
    from medmtl.core.study import Study
    from medmtl.core.volume import Volume
    from medmtl.transforms.plans import ChannelIntensity, PlansInput

__all__ = ["PartsPredictor"]


class PartsPredictor(ImportedModel):
    """All parts stay loaded; the logits of one are in memory at a time.

    Images are prepared once for all parts that normalise alike, whatever their order.
    """

    def load(self) -> list[str]:
        """See `ImportedModel`."""
        settings = self.bundle.settings
        preprocessing = settings.preprocessing
        if not isinstance(preprocessing, PlansPreprocessing) or not settings.parts:
            raise BundleError(f"Bundle {self.bundle.folder.name}: found no parts.")
        self.preprocessing = preprocessing
        made = [
            (part, [self.speed.module(net, settings) for net in nets])
            for part, nets in load_parts(self.bundle)
        ]
        self.parts = [(part, [net for net, _ in nets]) for part, nets in made]
        return [name for _, nets in made for _, name in nets]

    def analyse(self, study: Study, volumes: Sequence[Volume]) -> Prediction:
        """Masks of all parts, a later one painted over an earlier one."""
        clock = StageClock()
        together = self.input.together(study, volumes)
        by_name = {segment.name: segment.label for segment in self.bundle.settings.segments}
        merged = np.zeros(together.volume.array.shape, dtype=label_dtype(max(by_name.values())))
        inputs: dict[tuple[ChannelIntensity, ...], PlansInput] = {}
        kinds = [part.intensities for part, _ in self.parts]
        for number, (part, nets) in enumerate(self.parts):
            wanted = self.preprocessing.model_copy(update={"channels": part.intensities})
            if part.intensities not in inputs:
                inputs[part.intensities] = wanted.apply(
                    together.volume, together.further, is_linear=self.speed.speed == "fast"
                )
                clock.stop("preprocess")
            prepared = inputs[part.intensities]
            if part.intensities not in kinds[number + 1 :]:
                del inputs[part.intensities]
            logits = window_logits(
                nets,
                torch.from_numpy(prepared.array_cabc),
                self.speed.window(part.sliding_window),
                classes=len(part.network.segments) + 1,
                device=self.device,
                air=wanted.air if self.speed.skips_air else None,
                is_widened=self.speed.widens_windows,
            )
            clock.stop("network")
            values = [by_name[name] for name in part.network.segments]
            if self.speed.is_exact:
                labels = prepared.whole_labels(class_labels(logits.numpy(), prepared, values))
            else:
                labels = self.speed.labels(
                    logits, prepared.geometry, together.volume.geometry, values
                )
            np.copyto(merged, labels, where=labels > 0, casting="same_kind")
            clock.stop("postprocess")
        return masks_answer(
            self.bundle,
            study,
            together,
            merged,
            read=volumes,
            flags=orientation_flags(study, self.preprocessing),
            clock=clock,
        )
