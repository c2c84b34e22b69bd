"""Is joint better? The runs of a comparison, and what their held-out cases say.

All arms learn from the same cases for the same number of steps. None of them may choose anything
by the cases that it is judged on: the weights of the last step count, uncalibrated, at 0.5.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medmtl.build.parts import read_sources
from medmtl.config import load_config
from medmtl.core.errors import ConfigError
from medmtl.data.manifest import find_manifest, read_manifest
from medmtl.inference.evaluate import Evaluation
from medmtl.inference.predictor import load_predictor
from medmtl.inference.score_record import score_of
from medmtl.metrics.paired import compare_scores
from medmtl.metrics.summary import summarise
from medmtl.training.deliver import are_exclusive

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from medmtl.config import TrainConfig
    from medmtl.metrics.scores import CaseScore

__all__ = ["ArmRun", "comparison_record", "plan_runs", "seconds_per_case"]

NEUTRAL = (
    'trainer.deliver="last"',
    'calibration.method="none"',
    'calibration.threshold={name="fixed", value=0.5}',
)
_BUDGET = ("max_epochs", "max_steps", "steps_per_epoch")
_TIMED_CASES = 3


@dataclass(frozen=True)
class ArmRun:
    """One training run of a comparison.

    Attributes:
        arm: Name of the arm.
        fraction: Share of the training cases.
        fold: Held out; None where the validation cases of the file are.
        overrides: All `--set` that make this run of the file.
        config: The same, resolved.
    """

    arm: str
    fraction: float
    fold: int | None
    overrides: tuple[str, ...]
    config: TrainConfig

    @property
    def folder(self) -> str:
        """Relative folder of the run."""
        fold = "" if self.fold is None else f"/fold-{self.fold}"
        return f"{self.arm}/labels-{self.fraction:.0%}".replace("%", "") + fold


def plan_runs(path: Path, overrides: Sequence[str] = ()) -> list[ArmRun]:
    """Every run of a comparison, whole arms at the full share first.

    Raises:
        ConfigError: If the file is wrong, an arm is, or there is nothing to judge by.
    """
    base = load_config(path, overrides)
    plan = base.compare
    runs = []
    for fraction in sorted(plan.label_fractions, reverse=True):
        for fold in plan.folds or (None,):
            held_out = () if fold is None else _held_out(base, fold)
            share = (f"data.label_fraction={fraction}",)
            for arm in plan.arms:
                if arm.label_fractions and fraction not in arm.label_fractions:
                    continue
                changes = (*overrides, *held_out, *share, *arm.set, *NEUTRAL)
                config = load_config(path, changes)
                runs.append(ArmRun(arm.name, fraction, fold, changes, config))
    _check_fair(runs)
    return runs


def _check_fair(runs: Sequence[ArmRun]) -> None:
    """Refuse arms that learn from other cases, or for longer, than the subject does.

    Raises:
        ConfigError: Naming arm and setting.
    """
    plan, trainer = runs[0].config.compare, runs[0].config.trainer
    if len(set(plan.label_fractions)) > 1 and trainer.max_epochs and not trainer.steps_per_epoch:
        raise ConfigError(
            "compare.label_fractions: found trainer.max_epochs without steps_per_epoch, with which "
            "fewer cases are also fewer steps. Set trainer.steps_per_epoch, or max_steps alone."
        )
    kept = {(r.fraction, r.fold): r.config for r in runs if r.arm == r.config.compare.subject}
    for run in runs:
        mine, theirs = run.config, kept[run.fraction, run.fold]
        differing = [
            key for key in _BUDGET if getattr(mine.trainer, key) != getattr(theirs.trainer, key)
        ]
        names = [f"trainer.{key}" for key in differing]
        names += ["data"] if mine.data != theirs.data else []
        names += (
            ["seed"] if run.fraction < 1 and mine.seed != theirs.seed else []
        )  # draws the share
        if names:
            raise ConfigError(
                f"compare arm {run.arm}: found its own {', '.join(names)}, expected those of "
                f"{mine.compare.subject}: a difference would say nothing of the arm. Set them for "
                "the whole file."
            )


def _held_out(base: TrainConfig, fold: int) -> tuple[str, ...]:
    places = range(len(base.data.manifests))
    return tuple(
        f"data.manifests.{place}.{setting}"
        for place in places
        for setting in (f"val_fold={fold}", "val_splits=[]")
    )


def seconds_per_case(run: ArmRun, bundle: Path, data_root: Path) -> float | None:
    """Median time from a decoded study to its answer, over a few held-out cases.

    The first case warms up and does not count.
    """
    _, sources = read_sources(run.config, data_root)
    analyser = load_predictor(bundle, cam="none")
    seconds = []
    for source in sources:
        evaluation = Evaluation(analyser, source.manifest, source.data_root)
        for case in source.cases[: _TIMED_CASES + 1]:
            study = evaluation.study(case)
            chosen = [ref.read() for ref in analyser.select(study)]
            began = time.perf_counter()
            analyser.analyse(study, chosen)
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:]) if len(seconds) > 1 else None


def comparison_record(runs: Sequence[ArmRun], folder: Path) -> dict[str, Any]:
    """The content of compare.json, from the folders of finished runs.

    Args:
        runs: Of `plan_runs`.
        folder: Holds the folder of every run, with `run.json` and `scores.json`.

    Raises:
        ConfigError: If a run is not finished or held out no cases, or a manifest cannot be read.
    """
    plan = runs[0].config.compare
    groups: dict[tuple[str, float], list[ArmRun]] = {}
    for run in runs:
        groups.setdefault((run.arm, run.fraction), []).append(run)
    scores = {key: [score for run in group for score in _scores(run, folder)]
              for key, group in groups.items()}  # fmt: skip
    arms = [
        _arm_record(key, group, scores[key], [_run_record(run, folder) for run in group])
        for key, group in groups.items()
    ]
    return {
        "schema_version": 1,
        "name": runs[0].config.name,
        "subject": plan.subject,
        "folds": list(plan.folds),
        "arms": arms,
        "comparisons": list(_comparisons(plan.subject, groups, scores)),
    }


def _comparisons(
    subject: str,
    groups: Mapping[tuple[str, float], Sequence[ArmRun]],
    scores: Mapping[tuple[str, float], Sequence[CaseScore]],
) -> Iterator[dict[str, Any]]:
    for (arm, fraction), group in groups.items():
        if arm == subject:
            continue
        mine = groups[subject, fraction][0].config
        shared = [name for name in mine.network.findings if _diagnoses(group[0])]
        rows = compare_scores(
            scores[arm, fraction],
            scores[subject, fraction],
            findings=shared,
            is_exclusive=_is_exclusive(mine),
        )
        yield {
            "against": arm,
            "label_fraction": fraction,
            "rows": [row.as_json() for row in rows],
        }


def _arm_record(
    key: tuple[str, float],
    group: Sequence[ArmRun],
    scores: Sequence[CaseScore],
    records: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    config = group[0].config
    findings = list(config.network.findings) if _diagnoses(group[0]) else []
    summary = summarise(scores, findings=findings, is_exclusive=_is_exclusive(config))
    figures = {
        name: _median([record.get(name) for record in records])
        for name in ("parameters", "steps", "seconds_per_step", "seconds_per_case")
    }
    memory = [record["peak_memory_mib"] for record in records if record.get("peak_memory_mib")]
    return {
        "arm": key[0],
        "label_fraction": key[1],
        "tasks": list(config.tasks),
        "balancer": config.balancer.name,
        "n_cases": len(scores),
        "train_cases": [record.get("train_cases") for record in records],
        **figures,
        "peak_memory_mib": max(memory, default=None),
        "mean_dice": summary["segmentation"]["mean_dice"],
        "macro_auroc": summary["diagnosis"]["macro_auroc"],
        "accuracy": summary["diagnosis"].get("accuracy"),
        "per_segment": {
            name: part["dice"] for name, part in summary["segmentation"]["per_segment"].items()
        },
        "per_finding": {
            name: part["auroc"] for name, part in summary["diagnosis"]["per_finding"].items()
        },
    }


def _diagnoses(run: ArmRun) -> bool:
    return "diagnosis" in run.config.tasks


def _is_exclusive(config: TrainConfig) -> bool:
    """As the manifests say, which makes an accuracy over classes meaningful."""
    folders = [find_manifest(one.folder) for one in config.data.manifests]
    schemas = [read_manifest(folder).schema for folder in folders]
    return are_exclusive(schemas, config.network.findings)


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _run_record(run: ArmRun, folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(_text(run, folder, "run.json"))
    timing = folder / run.folder / "seconds_per_case.json"
    seconds = json.loads(timing.read_text(encoding="utf-8")) if timing.exists() else None
    return {**record, "seconds_per_case": seconds}


def _scores(run: ArmRun, folder: Path) -> list[CaseScore]:
    scores = [score_of(row) for row in json.loads(_text(run, folder, "scores.json"))]
    if not scores:
        raise ConfigError(
            f"{run.folder}: the run held out no cases, expected some to judge by. Give "
            "compare.folds, or val_fold or val_splits of the manifests."
        )
    return scores


def _text(run: ArmRun, folder: Path, name: str) -> str:
    path = folder / run.folder / name
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        message = f"{run.folder}: found no {name}, expected a finished run. Start compare again."
        raise ConfigError(message) from error
