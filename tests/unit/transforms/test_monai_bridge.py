"""LPS and RAS meet once, and MONAI's own transforms agree with our geometry."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.spatial.array import Orientation

from medmtl.core.geometry import Geometry
from medmtl.core.volume import Volume
from medmtl.transforms.monai_bridge import from_metatensor, to_metatensor
from medmtl.transforms.orient import lps_plan


def volume(rng: np.random.Generator) -> Volume:
    direction = np.array([[0, 0, 1.0], [-1.0, 0, 0], [0, 1.0, 0]])
    geometry = Geometry.from_parts(
        shape=(3, 4, 5), spacing_mm=(1, 2, 3), origin_lps=(10, 20, 30), direction=direction
    )
    return Volume(array=rng.normal(size=(3, 4, 5)).astype(np.float32), geometry=geometry)


def test_affine_is_ras(rng: np.random.Generator) -> None:
    image = to_metatensor(volume(rng))
    assert image.shape == (1, 3, 4, 5)
    assert image.affine[:3, 3].tolist() == [-10, -20, 30]


def test_there_and_back_is_the_same(rng: np.random.Generator) -> None:
    source = volume(rng)
    back = from_metatensor(to_metatensor(source), id="ed", modality="MR")
    np.testing.assert_array_equal(back.array, source.array)
    np.testing.assert_array_equal(back.geometry.affine_lps, source.geometry.affine_lps)
    assert (back.id, back.modality) == ("ed", "MR")


def test_monai_orients_as_we_do(rng: np.random.Generator) -> None:
    source = volume(rng)
    plan = lps_plan(source.geometry)
    theirs = from_metatensor(Orientation(axcodes="LPS", labels=None)(to_metatensor(source)))
    np.testing.assert_array_equal(theirs.array, plan.apply(source.array))
    assert theirs.geometry.is_close(plan.apply_geometry(source.geometry))


def test_more_than_one_channel_is_refused() -> None:
    with pytest.raises(ValueError, match="Found"):
        from_metatensor(MetaTensor(torch.zeros(2, 3, 3, 3)))
