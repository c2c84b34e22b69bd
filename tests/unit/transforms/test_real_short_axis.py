"""Real short-axis cine: stored as displayed, and masks survive the way to the network and back."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medmtl.core.geometry import Geometry
from medmtl.core.volume import Volume
from medmtl.postprocess.restore import restore_labels
from medmtl.transforms.preprocessing import Preprocessing, PreprocessingConfig, RobustZScore

CONFIG = PreprocessingConfig(
    orientation="display",
    spacing_mm=(1.25, 1.25, None),
    intensity=RobustZScore(),
    divisor=(16, 16, 1),
)


@pytest.mark.parametrize("patient", ["patient001", "patient042", "patient090"])
def test_masks_come_back_almost_unchanged(shared_data: Path, patient: str) -> None:
    truth_path = min((shared_data / "acdc" / "training" / patient).glob("*_gt.nii.gz"))
    image = nib.load(truth_path.with_name(truth_path.name.replace("_gt", "")))
    truth = np.asanyarray(nib.load(truth_path).dataobj).astype(np.uint8)
    geometry = Geometry.from_parts(  # the sform of ACDC holds directions only
        shape=truth.shape, spacing_mm=[float(mm) for mm in image.header.get_zooms()[:3]]
    )
    preprocessing = Preprocessing(CONFIG)
    prepared = preprocessing.apply(Volume(array=np.asanyarray(image.dataobj), geometry=geometry))
    assert prepared.steps.orient.order == (0, 1, 2)
    assert not any(prepared.steps.orient.is_flipped)

    labels_kji = torch.from_numpy(preprocessing.apply_labels(truth, prepared)).long()
    logits_ckji = torch.nn.functional.one_hot(labels_kji, 4).movedim(-1, 0).float()
    back = restore_labels(logits_ckji, prepared.content_geometry, geometry)
    for label in (1, 2, 3):
        overlap = np.count_nonzero((back == label) & (truth == label))
        sizes = np.count_nonzero(back == label) + np.count_nonzero(truth == label)
        assert 2 * overlap / sizes > 0.97
