"""`medmtl evaluate` with a real bundle (random weights) over generated hearts in ACDC's layout."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from medmtl.data.builders.acdc import ACDC_SCHEMA
from medmtl.inference.bundle import write_bundle
from medmtl.inference.bundle_settings import (
    BundleSettings,
    FindingSettings,
    InputSettings,
    SegmentSettings,
)
from medmtl.networks.backbones import DynUNetConfig
from medmtl.networks.diagnosis_head import HeadConfig
from medmtl.networks.joint import JointNet, NetworkConfig
from medmtl.phantom.cine import generate_cine
from medmtl.transforms.settings import PreprocessingConfig, RobustZScore

REPOSITORY = Path(__file__).resolve().parents[2]


def write_random_bundle(folder: Path) -> None:
    """A network of a few thousand weights that nobody trained."""
    torch.manual_seed(0)
    network = NetworkConfig(
        backbone=DynUNetConfig(
            filters=(4, 8, 8),
            kernels=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
            strides=((1, 1, 1), (1, 2, 2), (1, 2, 2)),
        ),
        volumes=("ed", "es"),
        segments=ACDC_SCHEMA.segment_names,
        findings=ACDC_SCHEMA.finding_names,
        head=HeadConfig(levels=(-2, -1), pooling=("global",), embedding=4, hidden=4),
    )
    settings = BundleSettings(
        name="random-heart",
        version="0",
        licence="CC0",
        intended_use="Tests.",
        limits="Knows nothing.",
        notice="Random weights.",
        findings_exclusive=True,
        input=InputSettings(
            modality="MR", kind="phase_pair", phase_segment="left_ventricle_cavity"
        ),
        preprocessing=PreprocessingConfig(intensity=RobustZScore(), divisor=(4, 4, 1)),
        network=network,
        segments=tuple(SegmentSettings(label=s.label, name=s.name) for s in ACDC_SCHEMA.segments),
        findings=tuple(
            FindingSettings(name=f.name, segments=f.segments) for f in ACDC_SCHEMA.findings
        ),
    )
    write_bundle(
        folder, settings, JointNet(network).state_dict(), card="# Random", metrics_json="{}"
    )


def write_patient(part: Path, number: int, *, group: str) -> None:
    heart = generate_cine(number, group=group, phases=2)
    folder = part / f"patient{number:03d}"
    folder.mkdir(parents=True)
    (folder / "Info.cfg").write_text(f"ED: 1\nES: 2\nGroup: {group}\nHeight: 170\nWeight: 70\n")
    for frame, phase in enumerate((heart.ed_phase, heart.es_phase), start=1):
        affine = heart.volumes[phase].geometry.affine_ras
        stem = folder / f"{folder.name}_frame{frame:02d}"
        for suffix, array in (("", heart.volumes[phase].array), ("_gt", heart.label_maps[phase])):
            nibabel.save(nibabel.Nifti1Image(array, affine), f"{stem}{suffix}.nii.gz")


def medmtl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipelines", *arguments],
        cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip


@pytest.mark.slow
def test_from_the_public_layout_to_metrics_and_again(tmp_path: Path) -> None:
    root, manifest, out = (tmp_path / name for name in ("acdc", "manifest", "out"))
    for number, group in ((101, "NOR"), (102, "DCM")):
        write_patient(root / "testing", number, group=group)
    write_random_bundle(tmp_path / "bundle")
    assert medmtl("manifest", "acdc", "--root", str(root), "-o", str(manifest)).returncode == 0
    command = (
        "evaluate", "--model", str(tmp_path / "bundle"), "--manifest", str(manifest),
        "--split", "test", "--data-root", str(root), "-o", str(out),
    )  # fmt: skip
    done = medmtl(*command)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["model"]["name"], metrics["split"], metrics["n_cases"]) == (
        "random-heart", "test", 2,
    )  # fmt: skip
    assert set(metrics["segmentation"]["per_volume_id"]) == {"ed", "es"}
    assert set(metrics["segmentation"]["per_segment"]) == set(ACDC_SCHEMA.segment_names)
    assert 0 <= metrics["segmentation"]["mean_dice"]["value"] < 0.5  # nobody trained it
    assert np.sum(metrics["diagnosis"]["confusion"]["matrix"]) == 2
    pointing = metrics["evidence"]["per_finding"]["dilated_cardiomyopathy"]["pointing_game"]
    assert pointing["n"] == 1
    with (out / "cases.csv").open() as stream:
        assert [row["status"] for row in csv.DictReader(stream)] == ["done"] * 2
    (root / "testing" / "patient102" / "patient102_frame01.nii.gz").write_bytes(b"broken")
    page = (out / "report.html").read_text()
    assert page.count("data:image/png") == 2
    assert "Only 2 cases were measured" in page
    assert "Only 2 cases were measured" in " ".join(done.stderr.split())
    lost = medmtl(*command, "--by", "scanner")
    assert lost.returncode == 2
    assert "scanner" in lost.stderr
    broken = medmtl(*command)
    assert broken.returncode == 1
    assert "patient102" in broken.stderr
    assert "Traceback" not in broken.stderr
    assert json.loads((out / "metrics.json").read_text())["n_failed"] == 1
