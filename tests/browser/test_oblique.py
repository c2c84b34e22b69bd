"""A volume that lies at an angle in the patient is drawn along its own axes, at its own place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.browser.conftest import LESION, LESION_LPS, SHAPE, affine_ras, ball
from tests.browser.driver import ViewerPage, served
from tests.browser.stage import Stage, StageVolume, write_nifti
from tests.browser.test_viewer import ORANGE, go_to, middle, share_of, tinted

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser

TILT_DEGREES = 25.0


@pytest.mark.slow
def test_tilted_volume_shows_its_lesion_where_patient_space_says(
    chromium: Browser, tmp_path: Path
) -> None:
    affine = affine_ras(tilt_degrees=TILT_DEGREES)
    # Stored with its axes in another order and direction: the file's order is no anatomy.
    to_plain = np.array([[0, 0, 1, 0], [-1, 0, 0, SHAPE[1] - 1], [0, 1, 0, 0], [0, 0, 0, 1]])
    lesion = np.flip(ball(LESION, 14), axis=1).transpose(1, 2, 0)
    write_nifti(tmp_path / "i.nii.gz", lesion.astype(np.int16) * 100, affine @ to_plain)
    write_nifti(tmp_path / "l.nii.gz", lesion.astype(np.uint8), affine @ to_plain)
    volume = StageVolume("tilted", "i.nii.gz", "l.nii.gz", window=(-200.0, 200.0))
    Stage((volume,), ("lesion",), layout="axial").write(tmp_path)
    x, y, z = (affine @ [*LESION, 1.0])[:3]
    with served(tmp_path) as address:
        viewer = ViewerPage.open(chromium, address)
        go_to(viewer, (-float(x), -float(y), float(z)))
        place = share_of(viewer, *LESION_LPS[:2])
        assert middle(tinted(viewer.picture(), ORANGE)) == pytest.approx(place, abs=0.01)
        viewer.page.mouse.move(*viewer.at(*place))
        assert "100 HU" in viewer.status()
        words = viewer.status().split(" mm")[0].split()
        found = {words[i]: float(words[i + 1]) for i in range(0, len(words), 2)}
        viewer.page.close()
    expected = {"R": x, "A": y, "S": z}
    for letter, mm in expected.items():
        other = {"R": "L", "A": "P", "S": "I"}[letter]
        value = found[letter] if letter in found else -found[other]
        assert value == pytest.approx(mm, abs=2)
