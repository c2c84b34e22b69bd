"""One bundle at one speed over a manifest: `MODEL SPEED MANIFEST CACHE`; prints a line of JSON."""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

from medmtl.data.manifest import read_manifest
from medmtl.inference.evaluate import Evaluation
from medmtl.inference.parity import compare_scores
from medmtl.inference.predictor import Predictor, load_predictor
from medmtl.metrics.scores import CaseScore


def main() -> None:
    """Mean Dice, macro AUROC, and the median seconds of the cases after the first."""
    model, speed, folder, cache = sys.argv[1:]
    predictor = load_predictor(
        model, device="cpu", backend="auto", cam="none", cache=Path(cache), speed=speed
    )
    if not isinstance(predictor, Predictor):
        raise SystemExit("a trained model is wanted")
    manifest = read_manifest(Path(folder))
    evaluation = Evaluation(analyser=predictor, manifest=manifest, data_root=Path(folder))
    seconds, scores = [], []
    for case in manifest.cases:
        study = evaluation.study(case)
        volumes = [ref.read() for ref in predictor.select(study)]
        start = time.perf_counter()
        predictor.analyse(study, volumes)
        seconds.append(time.perf_counter() - start)
        if any(row.segmentation for row in case.volumes):
            (score,) = evaluation.run([case])
            if not isinstance(score, CaseScore):
                raise SystemExit(f"{case.case_id}: {score.reason}")
            scores.append(score)
    measured = compare_scores(scores, scores) if scores else None
    found = {
        "backend": predictor.backend,
        "cases": len(seconds),
        "seconds": statistics.median(seconds[1:] or seconds),
        "dice": measured and measured.mean_dice.full,
        "auroc": measured and measured.macro_auroc.full,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
