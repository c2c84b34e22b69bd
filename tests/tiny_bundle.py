"""Bundles that nobody trained: a few thousand random weights, for tests of everything around."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medmtl.core.geometry import Geometry
from medmtl.core.study import Study, VolumeRef
from medmtl.core.volume import Volume
from medmtl.inference.bundle import write_bundle
from medmtl.inference.bundle_settings import (
    BundleSettings,
    FindingSettings,
    InputSettings,
    SegmentSettings,
)
from medmtl.inference.predictor import AutoPredictor, Predictor, load_predictor
from medmtl.networks.backbones import DynUNetConfig
from medmtl.networks.diagnosis_head import HeadConfig
from medmtl.networks.joint import COVARIATES, JointNet, NetworkConfig
from medmtl.transforms.settings import PreprocessingConfig, RobustZScore, WindowHU

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medmtl.core.prediction import Prediction

TORSO = ("lung", "heart")
TORSO_FINDINGS = ("large_heart", "nodule")
HEART = ("right_ventricle_cavity", "myocardium", "left_ventricle_cavity")
HEART_FINDINGS = ("dilated", "thick")
BACKBONE = DynUNetConfig(
    filters=(4, 16, 16),
    kernels=((3, 3, 3),) * 3,
    strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)),
)


def torso_settings(**fields: Any) -> BundleSettings:
    """Reads one CT."""
    values: dict[str, Any] = {
        "name": "tiny-torso",
        "version": "0",
        "licence": "CC0-1.0",
        "intended_use": "Tests.",
        "limits": "Knows nothing.",
        "notice": "Random weights.",
        "input": InputSettings(modality="CT", min_slices=4),
        "preprocessing": PreprocessingConfig(
            spacing_mm=(4.0, 4.0, 4.0),
            intensity=WindowHU(low_hu=-1000, high_hu=400),
            divisor=(4, 4, 2),
        ),
        "network": NetworkConfig(
            backbone=BACKBONE,
            volumes=("ct",),
            segments=TORSO,
            findings=TORSO_FINDINGS,
            head=HeadConfig(
                levels=(-2, -1), measurements="torso", covariates=COVARIATES, embedding=4, hidden=4
            ),
        ),
        "segments": tuple(
            SegmentSettings(label=label, name=name)
            for label, name in zip((3, 7), TORSO, strict=True)
        ),
        "findings": tuple(FindingSettings(name=name, segments=TORSO) for name in TORSO_FINDINGS),
    }
    return BundleSettings.model_validate(values | fields)


def heart_settings() -> BundleSettings:
    """Reads a cine MR, or its two phases."""
    network = NetworkConfig(
        backbone=BACKBONE,
        slice_context=1,
        volumes=("ed", "es"),
        segments=HEART,
        findings=HEART_FINDINGS,
        head=HeadConfig(levels=(-2, -1), measurements="cardiac", embedding=4, hidden=4),
    )
    return torso_settings(
        name="tiny-heart",
        input=InputSettings(
            modality="MR", kind="phase_pair", phase_segment="left_ventricle_cavity", min_slices=4
        ),
        preprocessing=PreprocessingConfig(intensity=RobustZScore(), divisor=(4, 4, 2)),
        network=network,
        segments=tuple(SegmentSettings(label=n, name=s) for n, s in enumerate(HEART, start=1)),
        findings=tuple(FindingSettings(name=name) for name in HEART_FINDINGS),
    )


def random_net(settings: BundleSettings, seed: int = 0) -> JointNet:
    """The network of the settings in evaluation mode, always the same for the same seed."""
    torch.manual_seed(seed)
    return JointNet(settings.network).eval()


def write_tiny(folder: Path, settings: BundleSettings) -> BundleSettings:
    """Write a bundle with random weights."""
    weights = random_net(settings).state_dict()
    card = f"# {settings.name}\n\nLicence of the weights: {settings.licence}.\n"
    return write_bundle(folder, settings, weights, card=card, metrics_json="{}")


def load(folder: Path, **options: Any) -> Predictor:
    """Its predictor on the CPU."""
    predictor = load_predictor(folder, device="cpu", **options)
    assert isinstance(predictor, Predictor)
    return predictor


def answer(predictor: Predictor | AutoPredictor, *volumes: Volume) -> Prediction:
    """What it says of one study with these volumes."""
    case = study([reference(volume) for volume in volumes])
    return predictor.analyse(case, [ref.read() for ref in predictor.select(case)])


def image(
    name: str = "image",
    *,
    modality: str = "CT",
    shape: tuple[int, int, int] = (20, 16, 8),
    spacing_mm: tuple[float, float, float] = (4.0, 5.0, 6.0),
    seed: int = 0,
) -> Volume:
    """Noise around a bright block, in HU."""
    rng = np.random.default_rng(seed)
    array = rng.normal(-800, 60, shape).astype(np.int16)
    array[4:14, 4:12, 2:6] += 850
    geometry = Geometry.from_parts(
        shape=shape, spacing_mm=spacing_mm, origin_lps=(-30.0, 12.0, 100.0)
    )
    return Volume(array, geometry, id=name, modality=modality, series_uid=f"1.2.{seed}")


def reference(volume: Volume, **fields: Any) -> VolumeRef:
    """What a scan would say of the volume."""
    values: dict[str, Any] = {
        "series_uid": volume.series_uid,
        "series_key": volume.series_uid,
        "time_ms": volume.time_ms,
    }
    return VolumeRef(
        volume.id, lambda _: volume, volume.geometry, volume.modality, **(values | fields)
    )


def study(refs: Sequence[VolumeRef]) -> Study:
    """One study that holds them."""
    return Study(case_id="case", kind="dicom", study_uid="1.2", volumes=tuple(refs))
