"""One bundle at one speed over a manifest: `MODEL SPEED MANIFEST DATA COUNT CACHE`.

Prints a line of JSON.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medmtl.data.manifest import read_manifest
from medmtl.inference.evaluate import Evaluation
from medmtl.inference.parity import compare_scores
from medmtl.inference.predictor import Predictor, load_predictor
from medmtl.metrics.scores import CaseScore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medmtl.core.prediction import ModelIdentity, Prediction
    from medmtl.core.study import Study, VolumeRef
    from medmtl.core.volume import Volume


@dataclass(frozen=True)
class Timed:
    """A predictor that notes how long each answer took."""

    inner: Predictor
    seconds: list[float] = field(default_factory=list)

    @property
    def identity(self) -> ModelIdentity:
        """Of the predictor."""
        return self.inner.identity

    @property
    def settings(self) -> Mapping[str, Any]:
        """Of the predictor."""
        return self.inner.settings

    def select(self, study: Study) -> Sequence[VolumeRef]:
        """As the predictor."""
        return self.inner.select(study)

    def analyse(self, study: Study, volumes: Sequence[Volume]) -> Prediction:
        """The answer of the predictor."""
        start = time.perf_counter()
        prediction = self.inner.analyse(study, volumes)
        self.seconds.append(time.perf_counter() - start)
        return prediction


def main() -> None:
    """Mean Dice, macro AUROC, and the median seconds of the cases after the first."""
    model, speed, folder, data, count, cache = sys.argv[1:]
    predictor = load_predictor(
        model, device="cpu", backend="auto", cam="none", cache=Path(cache), speed=speed
    )
    if not isinstance(predictor, Predictor):
        raise SystemExit("a trained model is wanted")
    timed = Timed(predictor)
    manifest = read_manifest(Path(folder))
    evaluation = Evaluation(analyser=timed, manifest=manifest, data_root=Path(data))
    cases = manifest.cases[:: max(1, len(manifest.cases) // int(count))][: int(count)]
    scores = []
    for score in evaluation.run(cases):
        if not isinstance(score, CaseScore):
            raise SystemExit(f"{score.what}: {score.reason}")
        scores.append(score)
    has_truth = any(row.segmentation for case in cases for row in case.volumes)
    measured = compare_scores(scores, scores) if has_truth else None
    found = {
        "backend": predictor.backend,
        "cases": len(cases),
        "seconds": statistics.median(timed.seconds[1:] or timed.seconds),
        "dice": measured and measured.mean_dice.full,
        "auroc": measured and measured.macro_auroc.full,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
