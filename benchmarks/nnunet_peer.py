"""Runs in the environment of nnU-Net, never in that of medmtl: real model folders and answers.

    python nnunet_peer.py plan WORK MODEL HIPPOCAMPUS ACDC CT  data set, plans, preprocessed images
    python nnunet_peer.py train WORK MODEL                     checkpoints
    python nnunet_peer.py predict WORK MODEL                   nnUNetPredictor's label maps

`parity_nnunet.py` runs all three with the environment variables that nnU-Net needs. What a step
has finished it does not do again; a step that was cut off leaves nothing that looks finished.

The folders are those of nnU-Net's own planner and trainer. `train` is a few iterations of its own
loop; the others hold random weights, whose answers are all edges and so the harder comparison.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

CASES = 6
CROP = 96
"""Rows and columns of the cardiac images around their centre: a core is enough for these."""

MODELS: dict[str, dict[str, Any]] = {
    "hippocampus_3d_trained": {
        "data": 501, "configuration": "3d_fullres", "folds": [0, 1], "iterations": 3,
    },
    "hippocampus_3d_resenc": {
        "data": 501, "configuration": "3d_fullres", "folds": [0], "plans": "nnUNetResEncUNetMPlans",
    },
    "hippocampus_2d": {"data": 501, "configuration": "2d", "folds": [0]},
    "hippocampus_two_channels": {"data": 506, "configuration": "3d_fullres", "folds": [0]},
    "acdc_3d_anisotropic": {"data": 502, "configuration": "3d_fullres", "folds": [0]},
    "acdc_2d": {"data": 502, "configuration": "2d", "folds": [0, 1]},
    "acdc_regions_no_mirroring": {
        "data": 503, "configuration": "3d_fullres", "folds": [0],
        "is_mirrored": False,
    },
    "body_ct_transposed_ras": {"data": 504, "configuration": "3d_fullres", "folds": [0]},
}  # fmt: skip


def main() -> None:
    """One of the three steps for one model."""
    action, work, name, *sources = sys.argv[1:]
    model = MODELS[name]
    if action == "plan":
        _plan(Path(work), model, *map(Path, sources))
    elif action == "train":
        for fold in model["folds"]:
            _checkpoint(Path(work), name, model, fold)
    else:
        _predict(Path(work), name, model)


def _plan(work: Path, model: dict[str, Any], hippocampus: Path, acdc: Path, ct: Path) -> None:
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess,
    )

    number, raw = model["data"], work / "raw"
    makers = {
        501: lambda: _hippocampus(raw / "Dataset501_Hippocampus", hippocampus),
        502: lambda: _acdc(raw / "Dataset502_Acdc", acdc, regions=False),
        503: lambda: _acdc(raw / "Dataset503_AcdcRegions", acdc, regions=True),
        504: lambda: _ct(raw / "Dataset504_BodyCt", ct),
        506: lambda: _two_channels(raw / "Dataset506_TwoChannels", hippocampus),
    }

    def plan() -> None:
        makers[number]()
        extract_fingerprints([number], num_processes=1, check_dataset_integrity=False)
        plan_experiments([number])

    def plan_residual() -> None:
        plan_experiments([number], experiment_planner_class_name="nnUNetPlannerResEncM")

    def prepare() -> None:  # the trainer wants the folder, also where it does not train
        configuration = model["configuration"]
        preprocess([number], configurations=(configuration,), num_processes=(1,))

    _once(work / f"{number}-planned", plan)
    if "plans" in model:
        _once(work / f"{number}-planned-residual", plan_residual)
    _once(work / f"{number}-{model['configuration']}-preprocessed", prepare)


def _once(mark: Path, step: Callable[[], None]) -> None:
    if not mark.exists():
        step()
        mark.touch()


def _hippocampus(folder: Path, source: Path) -> None:
    pairs = [
        (image, source / "labels" / image.name)
        for image in sorted((source / "images").glob("hippocampus_*.nii.gz"))
        if (source / "labels" / image.name).is_file()
    ]
    labels = {"background": 0, "anterior": 1, "posterior": 2}
    _write_dataset(folder, pairs[10 : 10 + CASES], labels)


def _two_channels(folder: Path, source: Path) -> None:
    """The image and its gradient; each is zero in other outer slices, both in some."""
    import SimpleITK as sitk

    _hippocampus(folder, source)
    header = json.loads((folder / "dataset.json").read_text())
    header["channel_names"] = {"0": "T1", "1": "T2"}
    (folder / "dataset.json").write_text(json.dumps(header))
    for path in sorted(folder.glob("images*/*_0000.nii.gz")):
        image = sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkFloat32)
        second = sitk.GradientMagnitude(image)
        for one, empty, name in ((image, 3, "_0000"), (second, 5, "_0001")):
            one[:, :, :empty] = 0
            sitk.WriteImage(one, str(path).replace("_0000", name))


def _acdc(folder: Path, source: Path, *, regions: bool) -> None:
    pairs = []
    for patient in sorted(source.glob("patient*"))[:CASES]:
        mask = min(patient.glob("*_gt.nii.gz"))
        pairs.append((mask.with_name(mask.name.replace("_gt", "")), mask))
    labels: dict[str, Any] = {"background": 0, "rv": 1, "myocardium": 2, "lv": 3}
    more: dict[str, Any] = {}
    if regions:
        labels = {"background": 0, "heart": [1, 2, 3], "left": [2, 3], "lv": [3]}
        more = {"regions_class_order": [1, 2, 3]}
    _write_dataset(folder, pairs, labels, **more)


def _ct(folder: Path, source: Path) -> None:
    """A coarse first axis makes the planner transpose; the reader turns everything to RAS."""
    import SimpleITK as sitk

    made = folder / "made"
    made.mkdir(parents=True, exist_ok=True)
    image = sitk.ReadImage(str(source / "example_ct_sm.nii.gz"))
    mask = sitk.ReadImage(str(source / "example_seg_fast.nii.gz"))
    mask = sitk.Cast(mask > 0, sitk.sitkUInt8)
    pairs = []
    for number in range(CASES):
        pair = (made / f"image{number}.nii.gz", made / f"mask{number}.nii.gz")
        for whole, path in zip((image, mask), pair, strict=True):
            sitk.WriteImage(whole[number::5, :, :], str(path))
        pairs.append(pair)
    _write_dataset(
        folder, pairs, {"background": 0, "organ": 1}, channel_names={"0": "CT"},
        overwrite_image_reader_writer="NibabelIOWithReorient",
    )  # fmt: skip


def _write_dataset(
    folder: Path, pairs: list[tuple[Path, Path]], labels: dict[str, Any], **more: Any
) -> None:
    for part in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number, (image, mask) in enumerate(pairs):
        _crop(image, folder / "imagesTr" / f"case{number}_0000.nii.gz")
        _crop(mask, folder / "labelsTr" / f"case{number}.nii.gz")
    test = folder / "imagesTr" / "case0_0000.nii.gz"
    shutil.copy(test, folder / "imagesTs" / test.name)
    header = {
        "channel_names": {"0": "MRI"}, "labels": labels, "numTraining": len(pairs),
        "file_ending": ".nii.gz", **more,
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(header))


def _crop(source: Path, target: Path) -> None:
    import SimpleITK as sitk

    image = sitk.ReadImage(str(source))
    starts = [max(0, size - CROP) // 2 for size in image.GetSize()[:2]]
    i, j = (slice(start, start + CROP) for start in starts)
    sitk.WriteImage(image[i, j, :], str(target))


def _checkpoint(work: Path, name: str, model: dict[str, Any], fold: int) -> None:
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    folder = work / "models" / name
    path = folder / f"fold_{fold}" / "checkpoint_final.pth"
    if path.exists():
        return
    random.seed(fold)
    torch.manual_seed(fold)
    dataset = next((work / "preprocessed").glob(f"Dataset{model['data']}_*"))
    plans = json.loads((dataset / f"{model.get('plans', 'nnUNetPlans')}.json").read_text())
    header = json.loads((dataset / "dataset.json").read_text())
    asked = {**plans, "continue_training": False}
    trainer = nnUNetTrainer(asked, model["configuration"], fold, header, torch.device("cpu"))
    trainer.num_epochs, trainer.num_iterations_per_epoch = 1, model.get("iterations", 0)
    trainer.num_val_iterations_per_epoch = 1
    path.parent.mkdir(parents=True, exist_ok=True)
    if model.get("iterations"):
        trainer.on_train_start()
        _train(trainer)
    else:
        trainer.initialize()
    if not model.get("is_mirrored", True):
        trainer.inference_allowed_mirroring_axes = None  # as nnUNetTrainerNoMirroring leaves it
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(header))
    trainer.save_checkpoint(str(path.with_suffix(".partial")))
    path.with_suffix(".partial").replace(path)


def _train(trainer: Any) -> None:
    from nnunet_epoch import run_epoch  # type: ignore[import-not-found]  # beside this script

    trainer.on_epoch_start()
    run_epoch(trainer)
    trainer.on_epoch_end()


def _predict(work: Path, name: str, model: dict[str, Any]) -> None:
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    done = work / "expected" / name
    if done.exists():
        return
    raw = next((work / "raw").glob(f"Dataset{model['data']}_*"))
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(
        str(work / "models" / name), use_folds=tuple(model["folds"])
    )
    aside = work / "expected" / f".{name}"
    aside.mkdir(parents=True, exist_ok=True)
    cases = sorted({path.name[:-12] for path in (raw / "imagesTs").glob("*.nii.gz")})
    predictor.predict_from_files_sequential(
        [[str(path) for path in sorted((raw / "imagesTs").glob(f"{case}_*"))] for case in cases],
        [str(aside / case) for case in cases],
    )
    aside.replace(done)


if __name__ == "__main__":
    main()
