"""A diagnosis head on nnU-Net, on ACDC: frozen and fine-tuned, against learning both from nothing.

    python -m benchmarks.encoder_acdc [--folds 0 1 ...] [--joint DIR] [--work DIR]

See `encoder_arms.py`. Each fold holds out a fifth of the training patients; the record is over all
folds that are there, those of earlier calls too. `--joint` is the folder of the arm `joint` of
`medmtl compare acdc_compare` (`joint/labels-100`); a fold that it lacks is trained here. All that
is missing, unattended, and to be called again after any interruption:

    setsid nohup python -m benchmarks.encoder_acdc --folds 0 1 2 3 4 --minutes 300 &
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.encoder_arms import Split, arguments, measure
from benchmarks.record import ROOT
from medmtl.config import load_config
from medmtl.data.manifest import read_manifest

if TYPE_CHECKING:
    from medmtl.data.cases import Manifest

_DATA = ROOT.parent / "shared" / "data" / "acdc"
FOLDS = range(5)
JOINT_STEPS = 420
"""About as many minutes of a core as nnU-Net learns: a fold takes some twenty of one core."""
TUNING: dict[str, dict[str, Any]] = {
    "trainer": {
        "max_steps": 60, "steps_per_epoch": 60, "lr": 5e-5, "warmup_steps": 10,
        "precision": "float32", "deep_supervision": 0,
    },
    "augmentation": {"name": "volume_mr"},
    "head_refit": {"steps": 500, "views": 1},
}  # fmt: skip


def main() -> None:
    """Every fold, one after the other."""
    parser = arguments(__doc__, name="encoder_acdc", minutes=7)
    parser.add_argument("--data", type=Path, default=_DATA)
    parser.add_argument("--folds", type=int, nargs="*", choices=FOLDS, default=[0])
    parser.add_argument("--joint", type=Path, help="folder of the joint arm, with fold-0 in it")
    options = parser.parse_args()
    manifest = read_manifest(ROOT / "data_manifests" / "acdc")
    splits = {
        fold: Split(
            work=options.work / f"fold-{fold}",
            asked=_asked(manifest, options.data, fold),
            data_root=options.data,
            joint=joint(fold),
            tuning=TUNING,
            is_exclusive=True,
            joint_scores=options.joint / f"fold-{fold}" / "scores.json" if options.joint else None,
        )
        for fold in FOLDS
    }
    wanted = [splits[fold] for fold in options.folds]
    measure("encoder_acdc", wanted, list(splits.values()), options)


def _asked(manifest: Manifest, data: Path, fold: int) -> dict[str, Any]:
    """The other training patients, in both phases."""
    learned = [case for case in manifest.cases if case.split == "train" and case.fold != fold]
    return {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0} | {one.name: one.label for one in manifest.schema.segments},
        "cases": {
            f"{case.case_id}_{row.volume_id}": [
                str(data / row.image),
                str(data / str(row.segmentation)),
            ]
            for case in learned
            for row in case.volumes
        },
    }


def joint(fold: int) -> dict[str, Any]:
    """The configuration of the comparison, with another fold held out."""
    path = ROOT / "pipelines" / "configs" / "acdc_compare.toml"
    values = load_config(path).model_dump(exclude_unset=True)
    values.pop("compare")
    values["data"]["manifests"][0]["val_fold"] = fold
    values["trainer"] |= {"max_steps": JOINT_STEPS, "steps_per_epoch": JOINT_STEPS}
    return values


if __name__ == "__main__":
    main()
