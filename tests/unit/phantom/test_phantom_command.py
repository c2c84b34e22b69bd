from __future__ import annotations

import csv
import json
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner

from medmtl.core.errors import OutputError
from medmtl.data.intake import open_input
from pipelines.__main__ import app
from pipelines.phantom import _write_table
from tests.interrupted_command import check_interrupted

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
    table = (tmp_path / "truth" / "diagnoses.csv").read_text()
    rows = list(csv.DictReader(table.splitlines()))
    said = {name: "yes" if found else "no" for name, found in truth["findings"].items()}
    assert rows == [{"patient": "torso-ct-000009", "study_uid": study.study_uid, **said}]


def test_a_kind_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["phantom", "--kind", "whale", "-o", str(tmp_path)])
    assert result.exit_code == 2
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["{", "[]", '{"study": "studies/a", "study_uid": "1.2"}'])
def test_a_damaged_record_of_an_earlier_study_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "truth" / "old").mkdir(parents=True)
    (tmp_path / "truth" / "old" / "truth.json").write_text(text)
    with pytest.raises(OutputError, match=r"truth/old/truth.json: found no whole record"):
        _write_table(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_ends_with_one_line_that_says_how_to_go_on(tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    check_interrupted("phantom", "--studies", 99, "-o", tmp_path, when=studies.exists)
