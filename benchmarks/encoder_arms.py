"""Learning findings on a trained nnU-Net, frozen and fine-tuned, against both tasks from nothing.

`encoder_acdc.py` and `encoder_torso.py` say on which images. `nnunet_short_peer.py` trains a small
2d nnU-Net on the training cases; it is imported, and every arm learns the findings from the same
cases. Every step that is done is not done again; an arm that was not begun within `--minutes` is
left out. All arms give uncalibrated probabilities decided at 0.5; differences come with a bootstrap
that draws the held-out patients once for both.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.peers.__main__ import PEERS
from benchmarks.record import RESULTS, WORK, Row, finish, write_result
from medmtl.build import train_run
from medmtl.config import TrainConfig
from medmtl.imports.nnunet import NnunetChoices, import_nnunet
from medmtl.inference.score_record import score_of
from medmtl.metrics.paired import MEAN, compare_scores
from medmtl.metrics.summary_diagnosis import brief_diagnosis
from medmtl.metrics.summary_segmentation import brief_segmentation
from medmtl.training.config_file import settings_of
from medmtl.training.mask_change import MasksLostError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medmtl.metrics.scores import CaseScore

__all__ = ["ARMS", "JOINT", "Split", "arguments", "arm_config", "measure", "rows_of"]

JOINT = "joint"
ARMS: dict[str, dict[str, Any]] = {
    "frozen": {},
    "measured": {"embedding": 0},
    "tuned": {"training": "full"},
}
"""Frozen encoder with features and measurements; the measurements of its masks alone; all of it."""
MAX_LOSS = 0.02
_PEER = Path(__file__).with_name("nnunet_short_peer.py")
_OF_ENCODER = {
    "network": ("backbone", "segments", "slice_context"),
    "bundle": ("components",),
}
_REFUSED = "refused.txt"
_CALIBRATION = {"method": "none", "threshold": {"name": "fixed", "value": 0.5}}


@dataclass(frozen=True)
class Split:
    """Cases that are learned from and cases that are held out.

    Attributes:
        work: Folder of all that is made.
        asked: What nnU-Net learns, see its peer; without the minutes.
        data_root: Of the manifest.
        joint: The configuration that learns both tasks from nothing.
        tuning: What the arms on the encoder have otherwise, by section.
        is_exclusive: Whether at most one finding is present.
        joint_scores: Scores of a joint network that was trained before.
    """

    work: Path
    asked: Mapping[str, Any]
    data_root: Path
    joint: Mapping[str, Any]
    tuning: Mapping[str, Mapping[str, Any]]
    is_exclusive: bool = False
    joint_scores: Path | None = None

    def scores_file(self, arm: str) -> Path:
        """What an arm said of the held-out cases."""
        known = self.joint_scores
        if arm == JOINT and known is not None and known.exists():
            return known
        return self.work / "arms" / arm / "scores.json"


def arguments(text: str | None, *, name: str, minutes: float) -> argparse.ArgumentParser:
    """What every such benchmark takes."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--python", type=Path, default=PEERS / "nnunet" / "bin" / "python")
    parser.add_argument("--work", type=Path, default=WORK / name)
    parser.add_argument("--training-minutes", type=float, default=minutes, help="of nnU-Net")
    parser.add_argument("--minutes", type=float, default=120, help="no arm is begun after these")
    parser.add_argument("--arms", nargs="*", choices=[JOINT, *ARMS], default=[JOINT, *ARMS])
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.set_defaults(quick=False)
    return parser


def measure(
    name: str, wanted: Sequence[Split], splits: Sequence[Split], options: argparse.Namespace
) -> None:
    """Train what is missing of the wanted splits, compare what is there of all of them."""
    until = time.monotonic() + 60 * options.minutes
    torch.set_num_threads(1)
    for split in wanted:
        missing = [arm for arm in options.arms if not split.scores_file(arm).exists()]
        if not missing or time.monotonic() > until:
            continue
        bundle = _encoder(split, options)
        for arm in missing:
            if time.monotonic() < until:
                config = arm_config(split, arm, bundle)
                folder = split.work / "arms" / arm
                _learn(config, folder, data_root=split.data_root)
        write_result(name, rows_of(splits), out=options.out)  # a later split may be cut off
    finish(name, rows_of(splits), options)


def _learn(config: TrainConfig, folder: Path, *, data_root: Path) -> None:
    """One arm; that its masks lost too much is a result as well."""
    refused, is_begun = folder / _REFUSED, (folder / "config.json").exists()
    if refused.exists():
        return
    try:
        train_run(config, folder, data_root=data_root, resume=is_begun)
    except MasksLostError as error:
        refused.write_text(str(error), encoding="utf-8")


def _encoder(split: Split, options: argparse.Namespace) -> Path:
    bundle, model = split.work / "imported", split.work / "models" / "2d"
    if not (model / "fold_all" / "checkpoint_final.pth").exists():
        _train_nnunet(split, options)
    if not bundle.exists():
        import_nnunet(model, bundle, choices=NnunetChoices(has_mirroring=False))
    return bundle


def _train_nnunet(split: Split, options: argparse.Namespace) -> None:
    """nnU-Net's two steps, on one core; augmentation in a process of its own."""
    work: Path = split.work
    work.mkdir(parents=True, exist_ok=True)
    asked = {**split.asked, "minutes": options.training_minutes}
    (work / "data.json").write_text(json.dumps(asked), encoding="utf-8")
    is_planned = (work / "planned").exists()
    for step in ("train",) if is_planned else ("plan", "train"):
        variables = [
            *(f"nnUNet_{name}={work / name}" for name in ("raw", "preprocessed", "results")),
            "nnUNet_compile=f",
            "nnUNet_def_n_proc=1",
            "OMP_NUM_THREADS=1",
            "nnUNet_n_proc_DA=1",
        ]
        command = ["/usr/bin/env", *variables, str(options.python), str(_PEER), step, str(work)]
        subprocess.run(command, check=True)


def arm_config(split: Split, arm: str, bundle: Path) -> TrainConfig:
    """What an arm learns; all but the joint one learn on the encoder of a bundle."""
    if arm == JOINT:
        return settings_of(TrainConfig, _values(split), source=arm)
    return _on_encoder(split, bundle, **ARMS[arm])


def _values(split: Split) -> dict[str, Any]:
    """As `medmtl compare` trains its arms."""
    values: dict[str, Any] = deepcopy(dict(split.joint))
    values["calibration"], values["tracking"] = _CALIBRATION, {"enabled": False}
    values["trainer"]["deliver"] = "last"
    return values


def _on_encoder(
    split: Split, bundle: Path, *, training: str = "frozen", **head: Any
) -> TrainConfig:
    """That of the joint arm, with the encoder in place of its network."""
    values = _values(split)
    for section, names in _OF_ENCODER.items():
        for name in names:
            values[section].pop(name, None)
    values.pop("preprocessing")
    values["network"]["head"] |= {"pooling": ("global", "mask")} | head
    values["encoder"] = {"from": str(bundle), "training": training, "max_dice_loss": MAX_LOSS}
    values["data"]["cache_dir"] = str(split.work / "cache")
    for section, changes in split.tuning.items():
        before = {} if "name" in changes else values.get(section, {})  # of another kind
        values[section] = {**before, **changes}
    return settings_of(TrainConfig, values, source="encoder")


def rows_of(splits: Sequence[Split]) -> list[Row]:
    """Every arm over the splits that have it, every difference over those that have both."""
    done = {arm: [s for s in splits if s.scores_file(arm).exists()] for arm in (JOINT, *ARMS)}
    rows = []
    for arm, own in done.items():
        notes = [split.work / "arms" / arm / _REFUSED for split in splits]
        rows += [Row(f"{arm}: refused", one.read_text("utf-8")) for one in notes if one.exists()]
        if not own:
            continue
        runs = [json.loads(_run_file(split.scores_file(arm))) for split in own]
        rows += [] if arm == JOINT else _mask_rows(arm, runs)
        rows += [*_part_rows(arm, _scores(own, arm)), _effort_row(arm, runs)]
    for number, other in enumerate(done):
        for reference in list(done)[:number]:
            if both := [split for split in done[reference] if split in done[other]]:
                rows += _differences(reference, other, both)
    return rows


def _scores(splits: Sequence[Split], arm: str) -> list[CaseScore]:
    """What an arm said of the held-out cases of all splits."""
    files = [split.scores_file(arm) for split in splits]
    return [score_of(row) for path in files for row in json.loads(path.read_text("utf-8"))]


def _run_file(scores: Path) -> str:
    return scores.with_name("run.json").read_text(encoding="utf-8")


def _mask_rows(arm: str, runs: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Of one split or several; their parts are as large."""
    said = [run["encoder"] for run in runs]
    before, after = (
        sum(one[when]["mean"] for one in said) / len(said) for when in ("dice_before", "dice_after")
    )
    cases, loss = sum(run["val_cases"] for run in runs), max(one["loss"] for one in said)
    equal = sum(one["equal_voxels"] for one in said) / len(said)
    return [
        Row(f"{arm}: {cases} held-out patients, mean Dice before, after",
            f"{before:.4f}, {after:.4f}"),
        Row(f"{arm}: largest loss of a segment", f"{loss:.4f}", f"<= {MAX_LOSS}", loss <= MAX_LOSS),
        Row(f"{arm}: share of voxels that stayed", f"{equal:.6f}"),
    ]  # fmt: skip


def _part_rows(arm: str, scores: Sequence[CaseScore]) -> list[Row]:
    """Every segment and every finding, with the patients that have it."""
    segments = brief_segmentation(scores)["per_segment"]
    names = [finding.name for finding in scores[0].findings]
    findings = brief_diagnosis(scores, names=names)["per_finding"]
    dice = {name: one["dice"]["value"] for name, one in segments.items()}
    auroc = {
        f"{name} ({one['n_present']})": one["auroc"]["value"] for name, one in findings.items()
    }
    return [
        Row(f"{arm}: Dice of each segment", _listed(dice)),
        Row(f"{arm}: AUROC of each finding (patients who have it)", _listed(auroc)),
    ]


def _listed(values: Mapping[str, float | None]) -> str:
    return ", ".join(
        f"{name} {'unknown' if value is None else format(value, '.3f')}"
        for name, value in values.items()
    )


def _effort_row(arm: str, runs: Sequence[Mapping[str, Any]]) -> Row:
    steps, seconds = (sum(run[what] for run in runs) for what in ("steps", "seconds"))
    return Row(
        f"{arm}: training, {steps} steps of the network, under load, since its last start",
        f"{seconds:.0f} s",
    )


def _differences(reference: str, other: str, splits: Sequence[Split]) -> list[Row]:
    """The bootstrap draws the patients of all splits together, each once for both arms."""
    ours, theirs = _scores(splits, other), _scores(splits, reference)
    findings = [finding.name for finding in ours[0].findings]
    rows = []
    for one in compare_scores(theirs, ours, findings=findings, is_exclusive=splits[0].is_exclusive):
        if one.part != MEAN or one.metric not in ("dice", "auroc", "accuracy"):
            continue
        interval = one.difference.ci95
        shown = "" if interval is None else f" ({interval[0]:+.3f} to {interval[1]:+.3f})"
        rows.append(
            Row(
                f"{one.metric}: {other} {one.other:.3f}, {reference} {one.reference:.3f}, "
                f"{len(ours)} patients",
                f"{one.difference.value:+.3f}{shown}: {one.verdict}",
            )
        )
    return rows
