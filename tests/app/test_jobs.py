"""Jobs: real commands in processes of their own, with progress, failure and cancellation."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest

from app.services.jobs import Job, JobBook
from app.services.studies import list_studies
from medmtl.phantom import generate_cine, generate_torso, write_cine_study, write_torso_study

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two torso CT studies in folders of their own, and one cine."""
    folder = tmp_path_factory.mktemp("images")
    for seed in (1, 2):
        torso = generate_torso(seed, spacing_mm=(8, 8, 8))
        write_torso_study(folder / f"torso-{seed}", torso, seed=seed)
    write_cine_study(folder / "heart", generate_cine(3, phases=4), seed=3)
    (folder / "heart" / "notes.txt").write_text("no image", encoding="utf-8")
    return folder


def test_studies_are_listed_with_the_folder_that_is_theirs(images: Path) -> None:
    found = list_studies(images)
    assert {one.folder for one in found.studies} == {"torso-1", "torso-2", "heart"}
    assert {one.modality for one in found.studies} == {"CT", "MR"}
    analysed = found.studies[0].case_id
    assert analysed not in {one.case_id for one in found.open({analysed})}
    assert len(found.open({analysed})) == 2


def test_two_studies_in_one_folder_have_none_of_their_own(tmp_path: Path) -> None:
    for seed in (1, 2):
        torso = generate_torso(seed, spacing_mm=(16, 16, 16))
        write_torso_study(tmp_path / f"{seed}", torso, seed=seed)
        for file in (tmp_path / f"{seed}").iterdir():
            file.rename(tmp_path / f"{seed}-{file.name}")
        (tmp_path / f"{seed}").rmdir()
    assert {one.folder for one in list_studies(tmp_path).studies} == {None}


@pytest.mark.parametrize("results", ["results/torso", "results", ""])
def test_masks_and_maps_of_results_are_no_studies(tmp_path: Path, results: str) -> None:
    write_torso_study(tmp_path / "images", generate_torso(1, spacing_mm=(16, 16, 16)), seed=1)
    case = tmp_path / "results" / "torso" / "case" / "image"
    case.mkdir(parents=True)
    for name in ("cam_nodule", "segmentation"):
        nib.save(nib.Nifti1Image(np.ones((4, 4, 4)), np.eye(4)), case / f"{name}.nii.gz")
    assert len(list_studies(tmp_path).studies) == 3
    (tmp_path / results / "run.json").touch()
    found = list_studies(tmp_path)
    assert [one.modality for one in found.studies] == (["CT"] if results else [])
    assert found.skipped == 0


@pytest.mark.slow
def test_an_analysis_runs_beside_and_counts_its_cases(images: Path, tmp_path: Path) -> None:
    book = JobBook()
    arguments = ["predict", str(images / "torso-1"), "-o", str(tmp_path / "out"), "--cam", "none"]
    job = book.start("Analysis", arguments)
    assert job is not None
    assert book.start("Another", arguments) is None
    assert job.wait(300) == "done"
    assert len(list((tmp_path / "out").glob("*/case.json"))) == 1
    until = time.monotonic() + 10
    while job.done < 1 and time.monotonic() < until:
        time.sleep(0.05)
    assert (job.done, job.total) == (1, 1)


def test_a_job_that_cannot_start_says_why(tmp_path: Path) -> None:
    job = Job("Analysis", ("predict", str(tmp_path / "missing"), "-o", str(tmp_path / "out")))
    job.start()
    assert job.wait(60) == "failed"
    until = time.monotonic() + 10
    while not job.lines and time.monotonic() < until:
        time.sleep(0.05)
    assert "does not exist" in job.lines[-1][1]


def test_a_cancelled_job_ends(images: Path, tmp_path: Path) -> None:
    job = Job("Analysis", ("predict", str(images), "-o", str(tmp_path / "out")))
    job.start()
    job.cancel()
    assert job.wait(10) == "cancelled"
