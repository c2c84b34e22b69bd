"""A Chromium and a page over a small volume that has no symmetry; skipped where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.browser.driver import CHROMIUM, browser, served
from tests.browser.stage import Stage, StageVolume, write_nifti

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, BrowserContext

SHAPE = (60, 50, 40)
SPACING_MM = (2.0, 2.0, 3.0)


def affine_ras(*, tilt_degrees: float = 0.0) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """i to the left, j to the back, k to the head, middle at 0; tilted about the left axis."""
    angle = np.deg2rad(tilt_degrees)
    turn = np.array(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-1.0, -1.0, 1.0]) @ np.diag(SPACING_MM)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    return affine


def ball(
    centre: tuple[int, int, int], radius: float
) -> np.ndarray[tuple[int, int, int], np.dtype[np.bool_]]:
    grid = np.indices(SHAPE, dtype=np.float64)
    away = (grid - np.array(centre).reshape(3, 1, 1, 1)) * np.array(SPACING_MM).reshape(3, 1, 1, 1)
    return np.asarray(np.sqrt((away**2).sum(axis=0)) <= radius)


LESION = (15, 12, 27)
"""Right, front, upper: i < middle is right, j < middle is front, k > middle is up."""
ORGAN = (42, 35, 12)


def to_lps(index: tuple[int, int, int]) -> tuple[float, float, float]:
    """Millimetres of a voxel; the middle of the image is 0."""
    x, y, z = ((c - (n - 1) / 2) * mm for c, n, mm in zip(index, SHAPE, SPACING_MM, strict=True))
    return x, y, z


LESION_LPS, ORGAN_LPS = to_lps(LESION), to_lps(ORGAN)


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Water with a lesion (label 1) on the right in front above, and an organ (label 2)."""
    folder = tmp_path_factory.mktemp("stage")
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[ball(ORGAN, 16)] = 2
    labels[ball(LESION, 14)] = 1
    image = np.where(labels == 1, 100, np.where(labels == 2, 60, 0)).astype(np.int16)
    image[:, :2] = -500
    cam = np.exp(-(((np.indices(SHAPE) - np.array(LESION).reshape(3, 1, 1, 1)) / 5) ** 2).sum(0))
    other = np.flip(cam, axis=0)
    affine = affine_ras()
    write_nifti(folder / "image.nii.gz", image, affine)
    write_nifti(folder / "labels.nii.gz", labels, affine)
    write_nifti(folder / "again.nii.gz", np.roll(labels, 1, axis=0), affine)
    write_nifti(folder / "later.nii.gz", (image // 2).astype(np.int16), affine)
    write_nifti(folder / "cam.nii.gz", cam.astype(np.float32), affine)
    write_nifti(folder / "other.nii.gz", other.astype(np.float32), affine)
    window = (-200.0, 200.0)
    presets = (("Soft", -160.0, 240.0), ("Narrow", 0.0, 100.0))
    Stage(
        volumes=(
            StageVolume("first", "image.nii.gz", "labels.nii.gz", "CT", window, 0, presets),
            StageVolume("second", "later.nii.gz", None, "CT", window, 1),
        ),
        segments=("lesion", "organ"),
        maps={"lesion": {"first": "cam.nii.gz"}, "mirror": {"first": "other.nii.gz"}},
        layout="axial",
    ).write(folder)
    return folder


@pytest.fixture(scope="session")
def address(stage: Path) -> Iterator[str]:
    with served(stage, base="reading/room") as found:
        yield found


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    with browser() as found:
        yield found


@pytest.fixture(scope="session")
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """Pages that share what was loaded: most tests do not ask how a page opens."""
    made = chromium.new_context(viewport={"width": 1440, "height": 900})
    made.set_default_timeout(90_000)  # a busy machine draws a page slowly
    yield made
    made.close()
