"""The answer of a network that gives masks and no findings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medmtl.core.prediction import Prediction, VolumePrediction
from medmtl.evidence.masks import check_masks
from medmtl.inference.select_input import other_series_flags
from medmtl.postprocess.components import clean_components
from medmtl.postprocess.measure import measure_segments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medmtl.core.flags import Flag
    from medmtl.core.prediction import Measurement
    from medmtl.core.study import Study
    from medmtl.core.volume import Volume
    from medmtl.inference.bundle import Bundle
    from medmtl.inference.channel_rule import TogetherInput
    from medmtl.inference.stage_clock import StageClock

__all__ = ["masks_answer"]


def masks_answer(
    bundle: Bundle,
    study: Study,
    together: TogetherInput,
    labels: NDArray[Any],
    *,
    read: Sequence[Volume],
    clock: StageClock,
    flags: Sequence[Flag] = (),
    measurements: Sequence[Measurement] = (),
) -> Prediction:
    """Clean, measure and check the label map of one volume.

    Args:
        bundle: The model.
        study: What the volume is of.
        together: What the network saw, under its own name for the volume.
        labels: On the grid of the volume. Given up.
        read: The volumes of the study that were read.
        clock: Stopped after this, as "postprocess".
        flags: What the model itself has to say.
        measurements: Besides the volumes of the segments.
    """
    volume = together.volume
    settings, schema = bundle.settings, bundle.settings.label_schema()
    labels, runs = clean_components(labels, volume.geometry, schema, rules=settings.components)
    segments = measure_segments(volume, labels, schema, runs=runs)
    said = [
        *volume.flags,
        *together.flags,
        *other_series_flags(study, read),
        *flags,
        *check_masks(schema, labels, segments=segments, rules=settings.mask_rules, runs=runs),
    ]
    clock.stop("postprocess")
    return Prediction(
        model=bundle.identity,
        volumes=(VolumePrediction(volume, labels, runs),),
        segments=tuple(segments),
        measurements=tuple(measurements),
        findings=(),
        flags=tuple(dict.fromkeys(said)),
        timings_s=clock.seconds,
        notice=settings.notice,
        schema=schema,
        channels=together.sources,
    )
