"""From a trained network to its bundle: measured as a user would, calibrated, written."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.core.durable import replace_file
from medmtl.core.labels import LabelSchema, SegmentSpec
from medmtl.inference.bundle import write_bundle
from medmtl.inference.evaluate import Evaluation
from medmtl.inference.evaluation_report import cases_table
from medmtl.inference.predictor import load_predictor
from medmtl.metrics.scores import CaseScore
from medmtl.metrics.summary import summarise
from medmtl.postprocess.decide import decide
from medmtl.training.answers import Answers
from medmtl.training.calibrate_bundle import calibrate_bundle
from medmtl.training.card import as_json, card_text
from medmtl.training.stoppable import followed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from medmtl.data.sources import DataSource
    from medmtl.inference.bundle_settings import BundleSettings
    from medmtl.networks.joint import NetworkConfig
    from medmtl.training.calibrate_config import CalibrationConfig

__all__ = [
    "Delivery", "answers_of", "are_exclusive", "bundle_weights", "deliver", "merged_schema",
    "score_cases",
]  # fmt: skip

logger = logging.getLogger(__name__)

_FEW_CASES = 50


@dataclass(frozen=True, eq=False)
class Delivery:
    """What a run ends with.

    Attributes:
        bundle: Folder of the bundle.
        metrics: Content of its metrics.json.
        scores: One per validation case that could be measured, calibrated.
        cases: Table of the same, cases.csv.
    """

    bundle: Path
    metrics: dict[str, Any]
    scores: tuple[CaseScore, ...]
    cases: Path


def merged_schema(sources: Sequence[DataSource], network: NetworkConfig) -> LabelSchema:
    """Segments and findings of the network, as the first manifest that has them describes them.

    Labels are places in `network.segments`: those of several manifests may contradict each other.
    """
    schemas = [source.manifest.schema for source in sources]
    segments = {spec.name: spec for schema in reversed(schemas) for spec in schema.segments}
    for name in network.segments:  # an encoder from elsewhere knows more than the manifests
        segments.setdefault(name, SegmentSpec(1, name))
    findings = {spec.name: spec for schema in reversed(schemas) for spec in schema.findings}
    segment_specs = tuple(
        replace(segments[name], label=label) for label, name in enumerate(network.segments, start=1)
    )
    present = set(network.segments)
    finding_specs = tuple(
        replace(
            findings[name],
            segments=tuple(one for one in findings[name].segments if one in present),
            requires_segment=findings[name].requires_segment
            if findings[name].requires_segment in present
            else None,
        )
        for name in network.findings
    )
    is_exclusive = are_exclusive(schemas, network.findings)
    return LabelSchema(segment_specs, finding_specs, findings_exclusive=is_exclusive)


def are_exclusive(schemas: Sequence[LabelSchema], findings: Sequence[str]) -> bool:
    """Whether at most one of the findings can be present.

    So it is where every manifest that has any of them has all of them and says so; two sets that
    are exclusive each may well occur together.
    """
    known = set(findings)
    answering = [schema for schema in schemas if known.intersection(schema.finding_names)]
    return bool(answering) and all(
        schema.findings_exclusive and set(schema.finding_names) == known for schema in answering
    )


def bundle_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights without the outputs of deep supervision, which only training needs."""
    return {name: value for name, value in weights.items() if not name.startswith("deep_heads.")}


def deliver(
    weights: Mapping[str, Tensor],
    settings: BundleSettings,
    *,
    validation: Sequence[DataSource],
    calibration: CalibrationConfig,
    training: str,
    out: Path,
    records: Path,
    device: str,
    folds: Mapping[str, Mapping[str, Tensor]] | None = None,
    is_half: bool = True,
    facts: Mapping[str, Any] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Delivery:
    """Measure the network on the validation cases, calibrate it on them and write the bundle.

    Args:
        weights: Of the trained network.
        settings: Of the bundle, uncalibrated.
        validation: Validation cases; without any, nothing is measured and nothing calibrated.
        calibration: What is fitted.
        training: Paragraph of the card.
        out: Gets `bundle/`, `cases.csv`, `scores.json` and, for what is measured, `uncalibrated/`.
        records: Keeps scores and pictures of the validation cases, one folder per manifest.
        device: Where it is measured.
        folds: Further weights whose logits are averaged, of an imported network.
        is_half: Whether large weights are stored in half precision.
        facts: What else metrics.json shall hold.
        should_stop: Asked after every validation case.

    Raises:
        TrainingStoppedError: If asked to stop; cases that were measured are known the next time.
    """
    weights = bundle_weights(weights)
    raw = out / "uncalibrated"
    write = partial(write_bundle, weights=weights, folds=folds, is_half=is_half)
    write(raw, settings, card="Not calibrated.\n", metrics_json="{}\n")
    scores = score_cases(raw, validation, records=records, device=device, should_stop=should_stop)
    names = [finding.name for finding in settings.findings]
    report: dict[str, Any] = {}
    if scores and names:
        answers = answers_of(scores, names, is_exclusive=settings.findings_exclusive)
        calibrated = calibrate_bundle(settings, answers, calibration)
        settings, report = calibrated.settings, calibrated.report
        scores = [_calibrated(score, settings) for score in scores]
    wanted = sum(len(source.cases) for source in validation)
    metrics: dict[str, Any] = {
        "split": "validation",
        "n_cases": len(scores),
        "n_failed": wanted - len(scores),
    }
    metrics |= summarise(scores, findings=names, is_exclusive=settings.findings_exclusive)
    metrics["calibration"] = report or None
    metrics |= facts or {}
    bundle = out / "bundle"
    card = card_text(settings, training=training, evaluation=_evaluation(scores), metrics=metrics)
    write(bundle, settings, card=card, metrics_json=as_json(metrics))
    table = out / "cases.csv"
    replace_file(table, cases_table(scores))
    replace_file(out / "scores.json", json.dumps([asdict(score) for score in scores]).encode())
    return Delivery(bundle, metrics, tuple(scores), table)


def score_cases(
    bundle: Path,
    sources: Sequence[DataSource],
    *,
    records: Path,
    device: str,
    should_stop: Callable[[], bool],
) -> list[CaseScore]:
    """Answers of a bundle through the user's predictor, beside the truth.

    A case that cannot be measured is said and left out: the training behind it is worth more. Cases
    of several manifests get the manifest's name before their own and their patient's, which are
    unique in a manifest only.
    """
    total = sum(len(source.cases) for source in sources)
    if not total:
        return []
    analyser = load_predictor(bundle, device=device, cam="none")
    scores: list[CaseScore] = []
    is_mixed = len({source.manifest.name for source in sources if source.cases}) > 1
    results = (
        (source.manifest.name, result)
        for source in sources
        for result in Evaluation(
            analyser=analyser,
            manifest=source.manifest,
            data_root=source.data_root,
            records=records / source.manifest.name,
        ).run(source.cases)
    )
    for manifest, result in followed(
        results, what="validation cases measured", total=total, should_stop=should_stop
    ):
        if isinstance(result, CaseScore):
            scores.append(_of_manifest(result, manifest) if is_mixed else result)
        else:
            logger.warning("validation case %s left out: %s", result.case_id, result.reason)
    return scores


def _of_manifest(score: CaseScore, name: str) -> CaseScore:
    return replace(
        score, case_id=f"{name}.{score.case_id}", patient_id=f"{name}.{score.patient_id}"
    )


def answers_of(scores: Sequence[CaseScore], names: Sequence[str], *, is_exclusive: bool) -> Answers:
    """Raw logits and truth, from the scores of an uncalibrated bundle."""
    rows = [{finding.name: finding for finding in score.findings} for score in scores]
    probabilities = np.array(
        [[row[name].probability if name in row else 0.5 for name in names] for row in rows]
    ).reshape(len(rows), len(names))
    targets = np.array(
        [[_target(row[name].truth) if name in row else np.nan for name in names] for row in rows]
    ).reshape(len(rows), len(names))
    p = probabilities.clip(1e-9, 1 - 1e-9)
    return Answers(
        names=tuple(names),
        logits_nf=np.log(p / (1 - p)),
        targets_nf=targets,
        patients=tuple(score.patient_id for score in scores),
        is_exclusive=is_exclusive,
    )


def _target(truth: bool | None) -> float:
    return np.nan if truth is None else float(truth)


def _calibrated(score: CaseScore, settings: BundleSettings) -> CaseScore:
    """The score as the calibrated bundle would have it, of the findings its manifest knows."""
    specs = {finding.name: finding for finding in settings.findings}
    probabilities = {}
    for finding in score.findings:
        p = float(np.clip(finding.probability, 1e-9, 1 - 1e-9))
        logit = np.array([np.log(p / (1 - p))])
        probabilities[finding.name] = float(specs[finding.name].calibration().apply(logit)[0])
    thresholds = {name: specs[name].threshold for name in probabilities}
    schema = settings.label_schema()
    known = tuple(finding for finding in schema.findings if finding.name in probabilities)
    decisions = decide(replace(schema, findings=known), probabilities, thresholds)
    findings = tuple(
        replace(
            f,
            probability=probabilities[f.name],
            threshold=thresholds[f.name],
            decision=decisions[f.name],
        )
        for f in score.findings
    )
    return replace(score, findings=findings)


def _evaluation(scores: Sequence[CaseScore]) -> str:
    if not scores:
        return "Not evaluated: the run had no validation cases. The findings are not calibrated."
    few = " Fewer than 50: the figures are uncertain." if len(scores) < _FEW_CASES else ""
    return (
        f"{len(scores)} validation cases that the network did not learn from.{few} They also chose "
        "the weights to keep, the calibration and the thresholds, so the figures are somewhat "
        "better than on new patients; `medmtl evaluate` on a split of its own says how much."
    )
