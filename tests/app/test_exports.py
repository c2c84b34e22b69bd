"""What the viewer keeps goes straight into a manifest."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np

from app.services.corrections import CorrectionStore
from app.services.drafts import empty_review, signed, with_finding, with_mask
from app.services.exports import manifest_command, reviews_jsonl
from app.services.review_log import CaseRef, open_review_log
from medmtl.core.labels import FindingSpec, LabelSchema, SegmentSpec
from medmtl.data.builders.copy import DataCopy
from medmtl.data.builders.corrections import build_corrections
from medmtl.data.intake import open_input
from medmtl.data.manifest import Case, Manifest, VolumeRow, read_manifest, write_manifest
from medmtl.data.result_case import read_result_case
from medmtl.data.reviewed import find_masks, read_reviews, reviewed_cases
from medmtl.data.volume_file import read_volume_file
from tests.app.results import SHA256, write_seen_case

if TYPE_CHECKING:
    from pathlib import Path

CASE = CaseRef("results", "seen", SHA256)


def test_a_corrected_and_signed_case_becomes_a_case_of_a_manifest(tmp_path: Path) -> None:
    record = write_seen_case(tmp_path)
    # The study of an image is named by its file; its only volume is called "image".
    assert json.loads((tmp_path / "results" / "seen" / "case.json").read_bytes()) == record
    result = read_result_case(tmp_path / "results" / "seen")
    masks = result.volume("image")
    corrected = masks.label_map.copy()
    corrected[corrected == 2] = 1
    CorrectionStore(tmp_path / "reviews").keep(
        corrected, CASE, before=masks.label_map, geometry=masks.geometry, schema=result.schema,
        volume="image", reviewer="one", source="painted",
    )  # fmt: skip
    review = with_finding(empty_review(CASE, "one"), "nodule", answer="disagree")
    review = signed(with_mask(review, "image", answer="corrected"))
    log = open_review_log(f"sqlite:///{(tmp_path / 'reviews.sqlite').as_posix()}")
    log.append(review, CASE)
    lines = tmp_path / "reviews.jsonl"
    lines.write_bytes(reviews_jsonl(log.last_lines()))

    found, problems = reviewed_cases(
        tmp_path / "results", masks=tmp_path / "reviews" / "results", reviews=read_reviews(lines)
    )
    assert problems == []
    images = tmp_path / "images"
    manifest, left_out = build_corrections(
        found, open_input(images), DataCopy.at(images, tmp_path / "made")
    )
    assert left_out == []
    (case,) = manifest.cases
    assert case.findings == {"nodule": False, "effusion": None}
    (volume,) = case.volumes
    truth = read_volume_file(tmp_path / "made", str(volume.segmentation))
    assert np.array_equal(truth.array, corrected)


def test_a_correction_of_another_models_answer_teaches_nothing(tmp_path: Path) -> None:
    """Label 1 of one model is not label 1 of another."""
    write_seen_case(tmp_path)
    result = read_result_case(tmp_path / "results" / "seen")
    masks = result.volume("image")
    store = CorrectionStore(tmp_path / "reviews")
    for sha256, label_map in ((SHA256, masks.label_map), ("1" * 64, masks.label_map * 0)):
        store.keep(
            label_map, CaseRef("results", "seen", sha256), before=masks.label_map,
            geometry=masks.geometry, schema=result.schema, volume="image", reviewer="one",
            source="painted",
        )  # fmt: skip
    wanted = store.newest(CASE, "image")
    assert wanted is not None
    found = find_masks(tmp_path / "reviews" / "results", result)
    assert found == {"image": store.folder(CASE) / wanted.file}


def test_a_correction_of_an_earlier_answer_teaches_nothing(tmp_path: Path) -> None:
    """The study was analysed again, from another series on the same grid."""
    write_seen_case(tmp_path)
    result = read_result_case(tmp_path / "results" / "seen")
    masks = result.volume("image")
    CorrectionStore(tmp_path / "reviews").keep(
        masks.label_map, CASE, before=masks.label_map, geometry=masks.geometry,
        schema=result.schema, volume="image", reviewer="one", source="painted", answer="earlier",
    )  # fmt: skip
    assert find_masks(tmp_path / "reviews" / "results", result) == {}


def test_a_structure_that_nobody_painted_is_not_annotated(tmp_path: Path) -> None:
    write_seen_case(tmp_path)
    result = read_result_case(tmp_path / "results" / "seen")
    masks = result.volume("image")
    corrected = masks.label_map.copy()
    corrected[0, 0, 0] = 2
    CorrectionStore(tmp_path / "reviews").keep(
        corrected, CASE, before=masks.label_map, geometry=masks.geometry, schema=result.schema,
        volume="image", reviewer="one", source="painted", segments=("nodule",),
    )  # fmt: skip
    found, _ = reviewed_cases(
        tmp_path / "results", masks=tmp_path / "reviews" / "results", reviews={}
    )
    images = tmp_path / "images"
    manifest, _ = build_corrections(
        found, open_input(images), DataCopy.at(images, tmp_path / "made")
    )
    (volume,) = manifest.cases[0].volumes
    assert volume.annotated_segments == ("nodule",)
    truth = read_volume_file(tmp_path / "made", str(volume.segmentation))
    assert np.array_equal(truth.array, np.where(corrected == 2, 2, 0))


def test_the_command_of_the_viewer_makes_a_new_version_of_a_manifest(tmp_path: Path) -> None:
    """As the page runs it: a base, a signed review that calls the nodule absent, and the rest."""
    write_seen_case(tmp_path)
    images, base, out = tmp_path / "images", tmp_path / "base", tmp_path / "out"
    findings = {"nodule": True, "effusion": False}
    case = Case("seen", "p1", "train", 0, (VolumeRow("image", "seen.nii.gz"),), findings)
    segments = (SegmentSpec(1, "lung"), SegmentSpec(2, "nodule"))
    schema = LabelSchema(segments, tuple(FindingSpec(name) for name in findings))
    manifest = Manifest(name="base", licence="none", citation="none", source="here", modality="",
                        schema=schema, cases=(case,))  # fmt: skip
    write_manifest(manifest, base)
    review = signed(with_finding(empty_review(CASE, "one"), "nodule", answer="disagree"))
    log = open_review_log(f"sqlite:///{(tmp_path / 'reviews.sqlite').as_posix()}")
    log.append(review, CASE)
    lines = tmp_path / "reviews.jsonl"
    lines.write_bytes(reviews_jsonl(log.last_lines()))
    arguments = manifest_command(
        tmp_path / "results", images=images, masks=tmp_path / "none", reviews=lines, out=out,
        base=base,
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "medmtl", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (found,) = read_manifest(out).cases
    assert found.findings == {"nodule": False, "effusion": False}
    assert (found.split, found.fold) == ("train", 0)
