"""Train `torso-ct-phantom` on generated torso CT, calibrate it, test it and write its bundle.

    python -m pipelines.recipes.torso_ct_phantom -o runs/torso-ct-phantom

One SegResNetDS encoder at 4 mm serves the masks and six findings. Training, calibration and test
use different seeds of the generator. A killed run continues from its last checkpoint.
"""

from __future__ import annotations

import itertools
import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
import typer
from torch import Tensor, nn

from medmtl.core.study import Study
from medmtl.data.cases import Case, VolumeRow
from medmtl.data.samples import Sample
from medmtl.evidence.contradictions import MeasurementRule
from medmtl.evidence.input_ranges import input_ranges
from medmtl.evidence.masks import MaskRules
from medmtl.inference.bundle import write_bundle
from medmtl.inference.bundle_settings import BundleSettings, CamSettings, InputSettings
from medmtl.inference.operating_point import OperatingPoint
from medmtl.inference.predictor import load_predictor
from medmtl.inference.score_case import score_case
from medmtl.losses.diagnosis import known_binary_cross_entropy
from medmtl.losses.segmentation import dice_cross_entropy
from medmtl.metrics.scores import CaseScore
from medmtl.metrics.summary import summarise
from medmtl.metrics.surface import TOLERANCE_MM
from medmtl.networks.backbones import SegResNetDSConfig
from medmtl.networks.diagnosis_head import HeadConfig
from medmtl.networks.joint import COVARIATES, JointNet, NetworkConfig
from medmtl.phantom import generate_torso
from medmtl.phantom.torso_plan import TORSO_SCHEMA
from medmtl.postprocess.components import ComponentRules
from medmtl.training.card import as_json, card_text
from medmtl.training.head import HeadOptions, collect_head_inputs, fit_head
from medmtl.training.label_settings import finding_settings, segment_settings
from medmtl.training.loop import FitOptions, fit
from medmtl.training.standardise import fit_standardiser, volumes_ml
from medmtl.transforms.preprocessing import Preprocessing, PreprocessingConfig, WindowHU

from .publish import calibrate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from medmtl.training.calibrate import Calibration

logger = logging.getLogger("medmtl.recipes.torso_ct_phantom")

SPACING_MM = (4.0, 4.0, 4.0)
TEST_SPACING_MM = (3.0, 3.0, 4.0)
TRAIN_SEEDS = range(1000, 1120)
FINE_SPACING_MM = (2.0, 2.0, 3.0)
FINE_SEEDS = range(1200, 1236)
FINE_REPEATS = 3
CALIBRATION_SEEDS = range(2000, 2024)
TEST_SEEDS = range(3000, 3030)
DIAGNOSIS_WEIGHT = 0.5

PREPROCESSING = PreprocessingConfig(
    orientation="LPS",
    spacing_mm=SPACING_MM,
    intensity=WindowHU(low_hu=-200.0, high_hu=250.0),
    divisor=(8, 8, 8),
)
NETWORK = NetworkConfig(
    backbone=SegResNetDSConfig(init_filters=8, blocks_down=(1, 2, 2, 4)),
    volumes=("ct",),
    segments=TORSO_SCHEMA.segment_names,
    findings=TORSO_SCHEMA.finding_names,
    head=HeadConfig(
        levels=(-2, -1), measurements="torso", embedding=4, hidden=32, members=4, dropout=0.4
    ),
)
HEAD = HeadOptions(steps=1500, covariate_dropout=0.0)
HEAD_VIEWS = 2
STAGE = FitOptions(steps=600, peak_lr=3e-3, warmup_steps=20, ema_decay=0.99, save_every=50)
LESION_WEIGHT = 3.0


def make_sample(seed: int, spacing_mm: tuple[float, float, float], folder: Path) -> Sample:
    """Generate one phantom, or read it back from the cache."""
    path = folder / f"{seed}.pt"
    if path.exists():
        return Sample(**torch.load(path, weights_only=True))
    phantom = generate_torso(seed, spacing_mm=spacing_mm)
    prepared = Preprocessing(PREPROCESSING).apply(phantom.volume)
    labels = Preprocessing(PREPROCESSING).apply_labels(phantom.label_map, prepared)
    sample = Sample(
        case_id=str(seed),
        dataset="torso_phantom",
        images=(torch.from_numpy(prepared.array_kji.astype(np.float16)),),
        labels=(torch.from_numpy(np.ascontiguousarray(labels)),),
        is_annotated=torch.ones(1, len(NETWORK.segments), dtype=torch.bool),
        findings=torch.tensor(
            [float(phantom.findings[name]) for name in TORSO_SCHEMA.finding_names]
        ),
        covariates=unknown_covariates(1),
        spacing_mm=torch.tensor([prepared.geometry.spacing_mm[::-1]]),
    )
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(vars(sample), path)
    return sample


def batches(samples: list[Sample], rng: np.random.Generator) -> Iterator[Sample]:
    """Endless single studies in random order, with shifts, scaled contrast and noise."""
    for _ in itertools.count():
        for index in rng.permutation(len(samples)):
            sample = samples[index]
            shift = [int(value) for value in rng.integers(-3, 4, size=3)]
            image = torch.roll(sample.images[0].float(), shift, dims=(0, 1, 2))
            noise = torch.from_numpy(rng.standard_normal(image.shape, dtype=np.float32))
            image = image * rng.uniform(0.92, 1.08) + rng.uniform(-0.05, 0.05)
            image = image + noise * float(rng.uniform(0, 0.04))
            labels = torch.roll(_mask(sample), shift, dims=(0, 1, 2))
            yield replace(sample, images=(image,), labels=(labels.long(),))


def _mask(sample: Sample) -> Tensor:
    (labels,) = sample.labels
    if labels is None:
        raise ValueError(f"phantom {sample.case_id} has no masks.")
    return labels


def unknown_covariates(batch: int) -> dict[str, Tensor]:
    """Covariates of studies that say nothing about the patient."""
    return {name: torch.full((batch,), torch.nan) for name in COVARIATES}


def joint_losses(model: nn.Module, sample: Sample) -> dict[str, Tensor]:
    """Segmentation and diagnosis loss of one study from one forward pass."""
    with torch.autocast("cpu", torch.bfloat16):
        output = model(
            [sample.images[0][None, None]],
            spacing_mm=sample.spacing_mm[None],
            covariates=unknown_covariates(1),
        )
    weights = torch.tensor(
        [1.0, *(LESION_WEIGHT if segment.is_lesion else 1.0 for segment in TORSO_SCHEMA.segments)]
    )
    logits = output.segmentation_logits[0]
    return {
        "segmentation": dice_cross_entropy(logits, _mask(sample)[None], class_weights=weights),
        "diagnosis": DIAGNOSIS_WEIGHT
        * known_binary_cross_entropy(output.finding_logits, sample.findings[None]),
    }


def head_views(
    net: JointNet, samples: Sequence[Sample], rng: np.random.Generator
) -> Iterator[tuple[Tensor, dict[str, Tensor], Callable[[], object]]]:
    """Augmented views of every phantom, for the refit of the head."""
    views = itertools.islice(batches(list(samples), rng), HEAD_VIEWS * len(samples))
    for view in views:
        yield view.findings, unknown_covariates(1), partial(joint_losses, net, view)


def bundle_settings(
    samples: Sequence[Sample], calibrations: dict[str, Calibration]
) -> BundleSettings:
    """Everything of the bundle but its weights."""
    scans = (generate_torso(seed, spacing_mm=SPACING_MM).volume for seed in TRAIN_SEEDS[:20])
    ranges = input_ranges(scans, modality="CT", axes="patient", has_units=True)
    # The phantom is resampled to 4 mm: any CT spacing up to that is as good.
    ranges = ranges.model_copy(update={"spacing_mm": ((0.3, 5.0),) * 3})
    return BundleSettings(
        name="torso-ct-phantom",
        version="1.0.1",
        licence="CC0-1.0",
        intended_use="Demonstration and tests of medmtl on its own generated torso CT.",
        limits="Trained on generated images only. Its answers on real patients mean nothing.",
        notice="DEMONSTRATION MODEL, trained on generated images only. Its answers on real "
        "patients mean nothing. Research software, not a medical device.",
        input=InputSettings(modality="CT", min_slices=16),
        preprocessing=PREPROCESSING,
        network=NETWORK,
        ranges=ranges,
        cam=CamSettings(method="layercam", levels=(-2,), min_share=0.2),
        speeds={
            "fast": OperatingPoint(backend="int8"),
            "best": OperatingPoint(shifts=4, overlap=0.5),
        },
        segments=segment_settings(TORSO_SCHEMA, volumes_ml(samples, segments=NETWORK.segments)),
        findings=finding_settings(TORSO_SCHEMA, calibrations),
        rules=(
            MeasurementRule(
                finding="cardiomegaly", is_present=True, measurement="cardiothoracic_ratio", low=0.5
            ),
            MeasurementRule(
                finding="splenomegaly", is_present=True, measurement="spleen_volume", low=350.0
            ),
        ),
        components=ComponentRules(
            keep_largest=("liver", "spleen", "heart"), min_share=0.05, min_lesion_ml=0.3
        ),
        mask_rules=MaskRules(
            may_be_cut=("lung", "bone", "liver", "kidney"), may_be_pieces=("lung", "bone", "kidney")
        ),
    )


def score_phantoms(folder: Path, seeds: range) -> list[CaseScore]:
    """Answers of a bundle to phantoms it has not seen, through the user's predictor."""
    predictor = load_predictor(folder)
    scores = []
    for seed in seeds:
        phantom = generate_torso(seed, spacing_mm=TEST_SPACING_MM)
        volume = replace(phantom.volume, path=str(seed))
        case = Case(
            str(seed),
            str(seed),
            "test",
            None,
            (VolumeRow("ct", str(seed), annotated_segments=TORSO_SCHEMA.segment_names),),
            findings=phantom.findings,
        )
        study = Study(case_id=str(seed), kind="nifti", study_uid="", volumes=())
        prediction = predictor.analyse(study, [volume])
        truth = volume.with_array(phantom.label_map)
        scores.append(
            score_case(
                case, prediction, {"ct": truth}, schema=TORSO_SCHEMA, tolerance_mm=TOLERANCE_MM
            )
        )
        logger.info("scored phantom %d", seed)
    return scores


def publish(net: JointNet, samples: Sequence[Sample], out: Path, bundle: Path) -> None:
    """Calibrate, test and write the bundle."""
    weights = net.state_dict()
    uncalibrated = out / "uncalibrated"
    write_bundle(uncalibrated, bundle_settings(samples, {}), weights, card="", metrics_json="{}")
    calibrations = calibrate(score_phantoms(uncalibrated, CALIBRATION_SEEDS))
    settings = bundle_settings(samples, calibrations)
    write_bundle(out / "calibrated", settings, weights, card="", metrics_json="{}")
    scores = score_phantoms(out / "calibrated", TEST_SEEDS)
    names = list(TORSO_SCHEMA.finding_names)
    metrics = {"split": "test phantoms", "n_cases": len(scores)}
    metrics |= summarise(scores, findings=names, is_exclusive=False)
    card = card_text(
        settings,
        training=f"{len(TRAIN_SEEDS)} generated torsos at {SPACING_MM[0]:g} mm, {STAGE.steps} "
        "steps of one study after 700 at a wider HU window, masks and findings together "
        "(`pipelines/recipes/torso_ct_phantom.py`).",
        evaluation=f"{len(TEST_SEEDS)} other generated torsos at {TEST_SPACING_MM[0]:g} x "
        f"{TEST_SPACING_MM[1]:g} x {TEST_SPACING_MM[2]:g} mm; calibration on "
        f"{len(CALIBRATION_SEEDS)} further ones. Generated images say nothing about patients.",
        metrics=metrics,
    )
    write_bundle(bundle, settings, weights, card=card, metrics_json=as_json(metrics))


def main(
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder.")],
    bundle: Annotated[Path, typer.Option(help="Where the bundle goes.")] = Path(
        "medmtl/bundles/torso-ct-phantom"
    ),
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
) -> None:
    """Train, calibrate and test the torso model and write its bundle."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    samples = [make_sample(seed, SPACING_MM, out / "cache") for seed in TRAIN_SEEDS]
    fine = [make_sample(seed, FINE_SPACING_MM, out / "cache") for seed in FINE_SEEDS]
    samples += fine * FINE_REPEATS
    net = JointNet(NETWORK)
    fit_standardiser(net, samples)
    views = batches(samples, np.random.default_rng(0))
    trained = fit(net, views, joint_losses, STAGE, checkpoint=out / "joint.ckpt")
    net.load_state_dict(trained.state_dict())
    net.eval()
    table = collect_head_inputs(net, head_views(net, samples, np.random.default_rng(1)))
    fit_head(net, table, HEAD, np.random.default_rng(2))
    torch.save(net.state_dict(), out / "net.pt")
    publish(net, samples, out, bundle)


if __name__ == "__main__":
    typer.run(main)
