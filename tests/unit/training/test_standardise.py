"""What the diagnosis knows beside images is on one scale, whichever tasks are learned."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from medmtl.core.prediction import Covariates
from medmtl.data.dataset import StudyDataset
from medmtl.networks.backbones import DynUNetConfig
from medmtl.networks.diagnosis_head import HeadConfig
from medmtl.networks.joint import JointNet, NetworkConfig
from medmtl.training.standardise import fit_standardiser
from medmtl.transforms.preprocessing import PreprocessingConfig, RobustZScore
from tests.data_factory import make_source

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HEIGHTS_CM = (150.0, 160.0, 170.0, 180.0, 190.0)
VOLUME_ML = 2 * 4 * 3 * 1.0 * 1.5 * 3.0 / 1000
"""Of each segment: so many voxels, in mm3."""
BACKBONE = DynUNetConfig(
    filters=(4, 4, 4), kernels=((3, 3, 3),) * 3, strides=((1, 1, 1),) + ((2, 2, 2),) * 2
)


def fitted(
    folder: Path, *, has_masks: bool, annotated: Sequence[str] | None = None
) -> tuple[JointNet, StudyDataset]:
    """A network of both tasks, or of the diagnosis alone, and its training cases."""
    source = make_source(
        folder,
        name="a",
        labels={"lung": 1, "heart": 2},
        findings=["big"],
        truths=[{"big": True}] * len(HEIGHTS_CM),
        has_masks=has_masks,
        annotated=annotated,
    )
    cases = tuple(
        replace(case, covariates=Covariates(height_cm=height))
        for case, height in zip(source.cases, HEIGHTS_CM, strict=True)
    )
    network = NetworkConfig(
        backbone=BACKBONE,
        segments=("lung", "heart") if has_masks else (),
        has_segmentation=has_masks,
        findings=("big",),
        head=HeadConfig(
            levels=(-1,), pooling=("global",), measurements="torso" if has_masks else None,
            covariates=("height_cm",), embedding=0, hidden=4,
        ),
    )  # fmt: skip
    net = JointNet(network)
    preprocessing = PreprocessingConfig(intensity=RobustZScore())
    samples = StudyDataset(
        [replace(source, cases=cases)], network=network, preprocessing=preprocessing
    )
    fit_standardiser(net, samples)
    return net, samples


@pytest.mark.parametrize("has_masks", [True, False])
def test_covariates_keep_what_they_say(tmp_path: Path, has_masks: bool) -> None:
    net, samples = fitted(tmp_path, has_masks=has_masks)
    assert net.head is not None
    unknown = torch.full((len(HEIGHTS_CM), len(net.measurement_names)), torch.nan)
    heights = {"height_cm": torch.tensor(HEIGHTS_CM)}
    z = net.head.facts(net.head.known_facts(unknown, heights))[:, len(net.measurement_names)]
    assert z.diff().min() > 0.3, "heights must not all lie in the saturated tail"
    assert z.mean().abs() < 1e-4
    assert len(samples) == len(HEIGHTS_CM)


def test_measurements_are_those_of_the_true_masks(tmp_path: Path) -> None:
    net, _ = fitted(tmp_path, has_masks=True)
    assert net.head is not None
    assert net.head.facts.mean[:2].tolist() == pytest.approx([VOLUME_ML] * 2)


def test_a_measurement_needs_its_own_segments_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    net, _ = fitted(tmp_path, has_masks=True, annotated=("lung",))
    assert net.head is not None
    assert net.measurement_names == ("lung_volume", "heart_volume", "cardiothoracic_ratio")
    assert net.head.facts.mean[:3].tolist() == pytest.approx([VOLUME_ML, 0, 0])
    assert caplog.messages == [
        "known of no training case and so not standardised, which lets them saturate: "
        "heart_volume, cardiothoracic_ratio"
    ]


def test_what_is_measured_on_the_heart_needs_its_own_chamber_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = make_source(
        tmp_path,
        name="heart",
        labels={"rv": 1, "myocardium": 2, "lv": 3},
        findings=["big"],
        volumes=("ed", "es"),
        annotated=("rv",),
    )
    network = NetworkConfig(
        backbone=BACKBONE,
        volumes=("ed", "es"),
        segments=("rv", "myocardium", "lv"),
        findings=("big",),
        head=HeadConfig(measurements="cardiac", embedding=0, hidden=4),
    )
    net = JointNet(network)
    preprocessing = PreprocessingConfig(intensity=RobustZScore())
    fit_standardiser(net, StudyDataset([source], network=network, preprocessing=preprocessing))
    (said,) = caplog.messages
    unknown = said.split(": ")[1].split(", ")
    known = {"rv_ed_volume", "rv_es_volume"}
    assert known == {n for n in net.measurement_names if n not in unknown and "index" not in n}
    assert net.head is not None
    assert net.head.facts.mean[2:4].tolist() == pytest.approx([VOLUME_ML] * 2)
