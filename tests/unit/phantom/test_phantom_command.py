from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner

from medmtl.data.intake import open_input
from pipelines.__main__ import app

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_the_command_writes_a_study_that_reads_back_with_its_truth(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    command = ["phantom", "--studies", "1", "--seed", "9", "--quiet", "-o", str(tmp_path)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output

    listing = open_input(tmp_path)  # the truth lies inside and is not taken for an input
    (study,) = listing.studies
    assert not listing.refusals
    truth_folder = tmp_path / "truth" / study.case_id
    truth = json.loads((truth_folder / "truth.json").read_text())
    assert truth["study_uid"] == study.study_uid
    volume = study.volumes[0].read()
    mask = nibabel.load(truth_folder / "segmentation_seg.nii.gz")
    np.testing.assert_allclose(mask.affine, volume.geometry.affine_ras, atol=1e-4)
    assert mask.shape == volume.array.shape
    lung = np.asanyarray(mask.dataobj) == 1
    assert -950 < np.median(volume.array[lung]) < -700


def test_a_kind_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["phantom", "--kind", "whale", "-o", str(tmp_path)])
    assert result.exit_code == 2
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_ends_with_one_line_that_says_how_to_go_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "medmtl", "phantom", "--studies", "99", "-o", str(tmp_path)]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job
    try:
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as program:
            while program.poll() is None and not (tmp_path / "studies").exists():
                time.sleep(0.05)
            program.send_signal(signal.SIGINT)
            _, said = program.communicate(timeout=60)
    finally:
        signal.signal(signal.SIGINT, before)
    assert program.returncode == 130
    assert said.splitlines()[-1].startswith("medmtl: stopped. What is finished is kept")
    assert "Traceback" not in said
