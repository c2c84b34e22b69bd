"""A cine is the phases of one stack, also where one series holds several."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medmtl.core.errors import InputRefusedError
from medmtl.core.study import Study
from medmtl.data.intake import open_input
from medmtl.inference.bundle_settings import BundleSettings, InputSettings
from medmtl.inference.select_input import select_volumes
from tests.traps.series import AXIAL, SAGITTAL, make_series, write

PHASES = 4


def chosen_from(folder: Path) -> list[tuple[tuple[int, int, int], int | None]]:
    """Shape and phase of what a cine model would read from the one study of a folder."""
    study: Study = open_input(folder).studies[0]
    wanted = InputSettings(modality="MR", kind="phase_pair", phase_segment="lv", min_slices=4)
    settings = BundleSettings.model_construct(name="cine", input=wanted)
    return [(ref.geometry.shape, ref.phase) for ref in select_volumes(study, settings)]


def test_two_cines_in_one_series_are_not_mixed(tmp_path: Path) -> None:
    datasets = []
    for phase in range(PHASES):
        for number, (plane, shape) in enumerate(((AXIAL, (8, 7, 6)), (SAGITTAL, (8, 7, 5)))):
            part = make_series(
                modality="MR", shape=shape, direction=plane, seed=10 * number + phase,
                first_instance=1 + 20 * phase + 200 * number,
            )  # fmt: skip
            datasets += part.set(TriggerTime=str(50 * phase)).datasets
    write(tmp_path, datasets)
    assert chosen_from(tmp_path) == [((8, 7, 6), phase) for phase in range(PHASES)]


def test_phases_of_a_4d_nifti_are_one_cine(tmp_path: Path) -> None:
    array = np.arange(8 * 7 * 6 * PHASES, dtype=np.int16).reshape(8, 7, 6, PHASES)
    nib.Nifti1Image(array, np.diag([1.5, 1.5, 8.0, 1.0])).to_filename(tmp_path / "cine.nii.gz")
    assert chosen_from(tmp_path) == [((8, 7, 6), phase) for phase in range(PHASES)]


def test_a_temporal_position_without_its_end_slices_is_never_end_systole(tmp_path: Path) -> None:
    datasets = []
    for phase in range(PHASES):
        part = make_series(modality="MR", seed=phase, first_instance=1 + 20 * phase)
        whole = part.set(TemporalPositionIdentifier=phase + 1).datasets
        datasets += whole[:4] if phase == 2 else whole
    write(tmp_path, datasets)
    with pytest.raises(InputRefusedError, match=r"3 x 6 slices .* 1 x 4 slices .*t002"):
        chosen_from(tmp_path)
