"""A network in int8 by calibrated post-training quantisation (NNCF), proven before it is kept.

Ranges of the activations come from calibration cases. The first and last convolutions, where an
error reaches the answer undamped, are left out: as few as keep the answers, found by trying. What
is not in int8 runs in bfloat16 where the processor has it and that holds, else in single precision,
in the proof as in use. The network is kept with its parity report, which is what lets it be used.
"""

from __future__ import annotations

import functools
import time
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from typing import TYPE_CHECKING, Any

from medmtl.core.errors import ConfigError, OutputError
from medmtl.inference.backend import map_levels
from medmtl.inference.bundle import load_bundle
from medmtl.inference.openvino_cache import ConvertedCache
from medmtl.inference.openvino_engine import (
    OpenVinoEngine,
    convert,
    openvino_quietly,
    own_floats,
    read_levels,
)
from medmtl.inference.parity import Pair, ParityReport, compare_scores
from medmtl.report.table import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from medmtl.data.cases import Case
    from medmtl.inference.evaluate import Evaluation
    from medmtl.inference.imported import ImportedModel
    from medmtl.inference.parity import Floats
    from medmtl.inference.predictor import Predictor
    from medmtl.metrics.scores import CaseScore
    from medmtl.networks.joint import Engine

__all__ = ["MAX_CALIBRATION", "middle", "quantise"]

MAX_CALIBRATION = 24
"""Network inputs whose activations set the ranges."""
MOST_VOXELS, MIDDLE = 2_000_000, 96
"""Of a larger input the middle sets the ranges: all activations of an input are alive at once."""
_TRIALS = ((1, 1, ("Add",)), (2, 4, ("Add",)), (2, 4, ()), (4, 8, ()))
"""Convolutions left out of int8 at the beginning and at the end, and kinds of other layers, in the
order of trial. A sum of maps in int8 saves nothing: its inputs are rounded in a pass of their own,
and what reads it computes in floats or rounds again."""
_CONVOLUTIONS = ("Convolution", "ConvolutionBackpropData", "GroupConvolution")


def quantise(
    predictor: Predictor | ImportedModel,
    evaluation: Evaluation,
    *,
    calibration: Sequence[Case],
    validation: Sequence[Case],
    split: str,
    cache: Path,
) -> Iterator[ParityReport]:
    """Yield a report for each trial; the last one is kept, and it holds or nothing did.

    Args:
        predictor: Of the bundle, of one network, on the CPU by OpenVINO in full precision.
        evaluation: Of that predictor.
        calibration: Cases that set the ranges.
        validation: Other cases, with truth, on which parity is measured.
        split: Name of the validation cases.
        cache: Folder of converted networks.

    Raises:
        ConfigError: If NNCF is not installed, or no case could be analysed.
        OutputError: If the network cannot be kept.
    """
    nncf = _nncf()
    net, settings = predictor.bundle.net, predictor.bundle.settings
    levels = read_levels(net, map_levels(settings))
    if net.engine is None:
        raise ConfigError("Quantisation starts from backend openvino.")
    weighed = load_bundle(predictor.bundle.folder).net  # an imported one may have let them go
    weighed.requires_grad_(requires_grad=False)
    watched = _Watched(net.engine)
    net.engine = watched
    inputs = _calibration_inputs(evaluation, calibration, watched)
    watched.seconds = 0.0
    full, answered = _scores(evaluation, validation)
    full_s, engine = watched.seconds, watched.inner
    net.engine = None
    model = convert(weighed, levels)
    kept = ConvertedCache(cache)
    place = kept.place(weighed, levels, precision="int8")

    @functools.cache  # in other floats it is the same network
    def small_without(names: tuple[str, ...], kinds: tuple[str, ...]) -> Any:
        return nncf.quantize(
            model,
            nncf.Dataset(inputs),
            subset_size=len(inputs),
            preset=nncf.QuantizationPreset.MIXED,
            target_device=nncf.TargetDevice.CPU,
            ignored_scope=nncf.IgnoredScope(names=list(names), types=list(kinds), validate=False),
        )

    try:
        for floats, (first, last, kinds) in trials(own_floats()):
            names = _sensitive(model, first, last)
            small = small_without(names, kinds)
            net.engine = None
            watched = _Watched(
                OpenVinoEngine(
                    net, maps=map_levels(settings), cache=None, model=small, floats=floats
                )
            )
            net.engine = watched
            scores, same = _scores(evaluation, answered)
            if len(same) != len(answered):
                raise ConfigError("A case failed in int8 that full precision answered.")
            identity = predictor.identity
            report = ParityReport(
                model=f"{identity.name} {identity.version} {identity.sha256}",
                cases=f"{evaluation.manifest.name}:{split}",
                n_calibration=len(inputs),
                floats=floats,
                kept_layers=names,
                network_s=Pair(full=full_s, int8=watched.seconds),
                measured=compare_scores(full, scores),
            )
            yield report
            if not report.problems():
                break
        if not kept.keep(small, place, save=openvino_quietly().save_model, report=report):
            raise OutputError(f"The quantised network cannot be written to {cache}.")
    finally:
        net.engine = engine


def trials(own: Floats) -> list[tuple[Floats, tuple[int, int, tuple[str, ...]]]]:
    """All of `_TRIALS` in what the processor prefers, then, if that is bfloat16, in float32."""
    orders: tuple[Floats, ...] = (own,) if own == "f32" else (own, "f32")
    return list(product(orders, _TRIALS))


class _Watched:
    """An engine whose inputs and seconds are noted."""

    def __init__(self, inner: Engine) -> None:
        self.inner = inner
        self.inputs: list[NDArray[np.float32]] = []
        self.seconds = 0.0

    def __call__(self, stem_bckji: Tensor, /) -> tuple[list[Tensor], Tensor]:
        if len(self.inputs) < MAX_CALIBRATION:
            self.inputs.append(middle(stem_bckji).numpy().copy())
        start = time.perf_counter()
        answer = self.inner(stem_bckji)
        self.seconds += time.perf_counter() - start
        return answer


def middle(stem_bckji: Tensor) -> Tensor:
    """The middle MIDDLE voxels along each axis of an input that is large; a small one as it is."""
    if stem_bckji[0, 0].numel() <= MOST_VOXELS:
        return stem_bckji
    starts = [max(0, (size - MIDDLE) // 2) for size in stem_bckji.shape[2:]]
    k, j, i = (slice(start, start + MIDDLE) for start in starts)
    return stem_bckji[:, :, k, j, i]


def _calibration_inputs(
    evaluation: Evaluation, cases: Sequence[Case], watched: _Watched
) -> list[NDArray[np.float32]]:
    """What the network was given for the first calibration cases."""
    for case in cases:
        if len(watched.inputs) >= MAX_CALIBRATION:
            break
        study = evaluation.study(case)
        volumes = [ref.read() for ref in evaluation.analyser.select(study)]
        evaluation.analyser.analyse(study, volumes)
    if not watched.inputs:
        raise ConfigError("No calibration case: the split is empty.")
    return list(watched.inputs)


def _scores(evaluation: Evaluation, cases: Sequence[Case]) -> tuple[list[CaseScore], list[Case]]:
    """Scores of the cases that could be analysed, and these cases."""
    results = list(evaluation.run(cases))
    pairs = [
        (r, case) for r, case in zip(results, cases, strict=True) if not isinstance(r, Failure)
    ]
    if not pairs:
        failed = [result for result in results if isinstance(result, Failure)]
        reason = f": {failed[0].reason}" if failed else ""
        raise ConfigError(f"No validation case could be analysed{reason}.")
    return [score for score, _ in pairs], [case for _, case in pairs]


def _sensitive(model: Any, first: int, last: int) -> tuple[str, ...]:
    """Names of the first and last convolutions in the order of computation."""
    names = [
        op.get_friendly_name()
        for op in model.get_ordered_ops()
        if op.get_type_name() in _CONVOLUTIONS
    ]
    return tuple(dict.fromkeys([*names[:first], *names[-last:]]))


def _nncf() -> Any:
    """NNCF without telemetry.

    Raises:
        ConfigError: If it is not installed.
    """
    if find_spec("nncf") is None:
        raise ConfigError("Quantisation needs NNCF. Run `pip install 'medmtl[int8]'`.")
    openvino_quietly()  # its telemetry is switched off before NNCF looks for it
    return import_module("nncf")
