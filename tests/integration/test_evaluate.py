"""`evaluate` from manifest folder to metrics.json, with models whose score is known on paper."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from medmtl.core.errors import ConfigError
from medmtl.core.geometry import Geometry
from medmtl.core.labels import FindingSpec, LabelSchema, SegmentSpec
from medmtl.core.prediction import (
    FindingResult,
    ModelIdentity,
    Prediction,
    SegmentResult,
    VolumePrediction,
)
from medmtl.core.study import Study, VolumeRef
from medmtl.core.volume import Volume
from medmtl.data.builders.copy import DataCopy
from medmtl.data.builders.image_folder import find_images
from medmtl.data.manifest import (
    Case,
    Manifest,
    VolumeRow,
    manifest_sha256,
    read_manifest,
    write_manifest,
)
from medmtl.data.splits import choose_split
from medmtl.inference.evaluate import Evaluation
from medmtl.inference.evaluation_report import metrics_record, write_report
from medmtl.metrics.scores import CaseScore
from medmtl.report.table import Failure
from tests.dicom_factory import make_series

SCHEMA = LabelSchema(
    segments=(SegmentSpec(1, "organ"), SegmentSpec(2, "lesion", is_lesion=True)),
    findings=(FindingSpec("ill", None, ("lesion",)), FindingSpec("large", None, ("organ",))),
    findings_exclusive=True,
)
GRID = Geometry.from_parts(shape=(16, 16, 6), spacing_mm=(1.5, 1.5, 8), origin_lps=(-10, 5, 20))


def write(path: Path, array: NDArray[Any], geometry: Geometry = GRID) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, geometry.affine_ras), path)


def label_map(*, with_lesion: bool) -> NDArray[np.uint8]:
    labels = np.zeros(GRID.shape, dtype=np.uint8)
    labels[4:12, 4:12, 1:5] = 1
    if with_lesion:
        labels[6:8, 6:8, 2:4] = 2
    return labels


@dataclass
class Oracle:
    """Sees the truth in the image; `shift` moves its masks, `skips` names a volume to ignore."""

    shift: int = 0
    skips: str = ""
    renames: bool = False
    analysed: list[str] = field(default_factory=list)
    labels_out: tuple[int, int] = (7, 5)

    @property
    def identity(self) -> ModelIdentity:
        return ModelIdentity("oracle", "1.0", "0" * 64)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"shift": self.shift}

    def select(self, study: Study) -> Sequence[VolumeRef]:
        return [ref for ref in study.volumes if ref.id != self.skips]

    def analyse(self, study: Study, volumes: Sequence[Volume]) -> Prediction:
        self.analysed.append(study.case_id)
        if self.renames:
            volumes = [replace(volume, id=f"input_{n}") for n, volume in enumerate(volumes)]
        masks = {volume.id: self._masks(volume) for volume in volumes}
        cams = {volume.id: volume.with_array((volume.array == 2) * 1.0) for volume in volumes}
        is_ill = any((volume.array == 2).any() for volume in volumes)
        return Prediction(
            model=self.identity,
            volumes=tuple(VolumePrediction(volume, masks[volume.id]) for volume in volumes),
            segments=tuple(
                SegmentResult(volume.id, label, name, 0.0, 0, None)
                for volume in volumes
                for label, name in zip(self.labels_out, ("organ", "lesion"), strict=True)
            ),
            measurements=(),
            findings=(
                FindingResult(
                    "ill", 0.9 if is_ill else 0.1, 0.5, is_ill, False, cams, {"lesion": 0.8}
                ),
                FindingResult("large", 0.2, 0.5, False, False),
            ),
            flags=(),
            timings_s={},
        )  # fmt: skip

    def _masks(self, volume: Volume) -> NDArray[np.uint8]:
        moved = np.roll(volume.array.astype(np.uint8), self.shift, axis=0)
        return np.array([0, *self.labels_out], dtype=np.uint8)[moved]


def make_dataset(root: Path, *, cases: int = 6) -> Manifest:
    """Every second case is ill; the image shows the truth, so an oracle can answer."""
    rows = []
    for number in range(cases):
        labels = label_map(with_lesion=number % 2 == 0)
        volumes = []
        for phase in ("ed", "es"):
            image, truth = f"{number}/{phase}.nii.gz", f"{number}/{phase}_gt.nii.gz"
            write(root / image, labels.astype(np.float32))
            write(root / truth, labels)
            volumes.append(VolumeRow(phase, image, truth, None, SCHEMA.segment_names))
        findings = {"ill": number % 2 == 0, "large": False}
        split = "test" if number < 4 else "train"
        rows.append(Case(f"c{number}", f"p{number}", split, None, tuple(volumes), findings))
    return Manifest("tiny", "CC0", "nobody", "generated", "MR", SCHEMA, tuple(rows))


def run(
    manifest: Manifest, root: Path, oracle: Oracle, *, records: Path | None = None
) -> tuple[dict[str, Any], list[CaseScore | Failure]]:
    evaluation = Evaluation(analyser=oracle, manifest=manifest, data_root=root, records=records)
    results = list(evaluation.run(manifest.cases))
    record = metrics_record(
        results, model=oracle.identity, manifest=manifest, manifest_sha256="1" * 64,
        split="all", tolerance_mm=evaluation.tolerance_mm,
    )  # fmt: skip
    return record, results


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_an_oracle_is_perfect_whatever_labels_it_uses(root: Path) -> None:
    record, _ = run(make_dataset(root), root, Oracle())
    assert record["segmentation"]["mean_dice"] == {"value": 1.0, "ci95": [1.0, 1.0], "n": 18}
    assert record["segmentation"]["per_segment"]["organ"]["hd95_mm"]["value"] == 0.0
    assert record["segmentation"]["per_segment"]["organ"]["nsd"]["value"] == 1.0
    assert set(record["segmentation"]["per_volume_id"]) == {"ed", "es"}
    assert record["diagnosis"]["accuracy"]["value"] == 1.0
    assert record["diagnosis"]["per_finding"]["ill"]["auroc"]["value"] == 1.0
    assert record["diagnosis"]["per_finding"]["large"]["auroc"]["value"] is None
    assert record["evidence"]["per_finding"]["ill"]["pointing_game"]["value"] == 1.0
    assert record["evidence"]["per_finding"]["ill"]["energy_in_segments"]["value"] == pytest.approx(
        0.8
    )
    assert (record["n_cases"], record["n_failed"]) == (6, 0)


@pytest.mark.parametrize(("stated", "expected"), [("CT", "CT"), ("", "MR")])
def test_an_image_is_of_its_own_modality_where_the_manifest_states_none(
    tmp_path: Path, stated: str, expected: str
) -> None:
    make_series(tmp_path, array=np.arange(64, dtype=np.int16).reshape(4, 4, 4), modality="MR")
    (image,), _ = find_images(tmp_path)
    row = VolumeRow("image", image.write(DataCopy.at(tmp_path)))
    case = Case("c", "p", "test", None, (row,), {})
    manifest = Manifest("own", "CC0", "nobody", "generated", stated, SCHEMA, (case,))
    (volume,) = Evaluation(Oracle(), manifest, tmp_path).study(case).volumes
    assert volume.modality == expected


def test_a_model_may_call_the_volumes_by_names_of_its_own(root: Path) -> None:
    manifest = make_dataset(root)
    assert run(manifest, root, Oracle(renames=True))[0] == run(manifest, root, Oracle())[0]


def test_masks_moved_by_half_the_organ_have_dice_one_half(root: Path) -> None:
    record, _ = run(make_dataset(root), root, Oracle(shift=4))
    organ = record["segmentation"]["per_segment"]["organ"]
    assert organ["dice"]["value"] == pytest.approx(0.5, abs=0.05)  # the lesion takes some voxels
    assert organ["hd95_mm"]["value"] == pytest.approx(4 * 1.5)


def test_the_report_on_the_disk_is_by_the_contract(root: Path, tmp_path: Path) -> None:
    record, results = run(make_dataset(root), root, Oracle())
    write_report(tmp_path / "out", record, results)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert {"model", "manifest", "split", "n_cases", "segmentation", "diagnosis", "evidence",
            "per_case"} <= metrics.keys()  # fmt: skip
    assert {"dice", "hd95_mm", "nsd", "jaccard", "assd_mm", "volume_error_ml"} <= set(
        metrics["segmentation"]["per_segment"]["organ"]
    )
    assert {"auroc", "auprc", "sensitivity", "specificity", "brier", "ece"} <= set(
        metrics["diagnosis"]["per_finding"]["ill"]
    )
    with (tmp_path / "out" / metrics["per_case"]).open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["case_id"] for row in rows] == [f"c{number}" for number in range(6)]
    assert rows[0]["dice_ed_lesion"] == "1.0"
    assert rows[1]["dice_ed_lesion"] == ""  # both empty
    assert rows[0]["truth_ill"] == "1"


def test_a_case_that_cannot_be_measured_is_named_and_enters_no_number(root: Path) -> None:
    manifest = make_dataset(root)
    (root / "1" / "es.nii.gz").unlink()
    shifted = Geometry.from_parts(
        shape=GRID.shape, spacing_mm=GRID.spacing_mm, origin_lps=(0, 0, 0)
    )
    write(root / "2" / "ed_gt.nii.gz", label_map(with_lesion=True), shifted)
    write(root / "3" / "ed_gt.nii.gz", label_map(with_lesion=False) * np.uint8(9))
    record, results = run(manifest, root, Oracle())
    failures = {result.case_id: result for result in results if isinstance(result, Failure)}
    assert set(failures) == {"c1", "c2", "c3"}
    assert "no file 1/es.nii.gz" in failures["c1"].reason
    assert failures["c2"].code == "grid-differs"
    assert failures["c3"].code == "unknown-label"
    assert (record["n_cases"], record["n_failed"]) == (3, 3)
    assert record["segmentation"]["mean_dice"]["value"] == 1.0


def test_an_image_other_than_the_manifest_states_is_refused(root: Path) -> None:
    manifest = make_dataset(root, cases=1)
    row = replace(manifest.cases[0].volumes[0], sha256="0" * 64)
    changed = replace(manifest, cases=(replace(manifest.cases[0], volumes=(row,)),))
    _, results = run(changed, root, Oracle())
    assert isinstance(results[0], Failure)
    assert "sha256" in results[0].reason


def test_what_nobody_looked_for_is_not_measured(root: Path) -> None:
    manifest = make_dataset(root, cases=2)
    cases = []
    for case in manifest.cases:
        volumes = tuple(replace(row, annotated_segments=("organ",)) for row in case.volumes)
        cases.append(replace(case, volumes=volumes, findings={"ill": None, "large": False}))
    record, _ = run(replace(manifest, cases=tuple(cases)), root, Oracle())
    assert set(record["segmentation"]["per_segment"]) == {"organ"}
    assert record["not_evaluated"]["segments"] == ["lesion"]
    assert record["diagnosis"]["per_finding"]["ill"]["n_present"] == 0
    assert record["diagnosis"]["accuracy"]["n"] == 0
    assert record["evidence"]["per_finding"]["ill"]["pointing_game"]["value"] is None


def test_a_volume_the_model_did_not_use_is_counted(root: Path) -> None:
    record, results = run(make_dataset(root, cases=2), root, Oracle(skips="es"))
    assert record["not_evaluated"]["volumes_not_analysed"] == 2
    assert set(record["segmentation"]["per_volume_id"]) == {"ed"}
    assert isinstance(results[0], CaseScore)
    assert results[0].not_analysed == ("es",)


def test_a_second_run_computes_only_what_is_missing(root: Path, tmp_path: Path) -> None:
    manifest, oracle = make_dataset(root), Oracle()
    first, _ = run(manifest, root, oracle, records=tmp_path / "scores")
    (tmp_path / "scores" / "c2.json").unlink()
    (tmp_path / "scores" / "c3.json").write_text("{half")
    oracle.analysed.clear()
    second, _ = run(manifest, root, oracle, records=tmp_path / "scores")
    assert oracle.analysed == ["c2", "c3"]
    assert second == first


def test_scores_of_another_model_or_other_images_are_not_taken_over(
    root: Path, tmp_path: Path
) -> None:
    manifest = make_dataset(root, cases=2)
    run(manifest, root, Oracle(), records=tmp_path / "scores")
    other = Oracle(shift=4)
    run(manifest, root, other, records=tmp_path / "scores")
    assert other.analysed == ["c0", "c1"]
    write(root / "0" / "ed_gt.nii.gz", label_map(with_lesion=False))
    again = Oracle(shift=4)
    run(manifest, root, again, records=tmp_path / "scores")
    assert again.analysed == ["c0"]


def test_scores_under_another_label_schema_are_not_taken_over(root: Path, tmp_path: Path) -> None:
    manifest, oracle = make_dataset(root, cases=2), Oracle()
    run(manifest, root, oracle, records=tmp_path / "scores")
    first, *others = manifest.schema.segments
    schema = replace(manifest.schema, segments=(replace(first, is_lesion=True), *others))
    oracle.analysed.clear()
    run(replace(manifest, schema=schema), root, oracle, records=tmp_path / "scores")
    assert oracle.analysed == ["c0", "c1"]


def test_a_column_that_only_groups_cases_computes_nothing_anew(root: Path, tmp_path: Path) -> None:
    manifest, oracle = make_dataset(root, cases=2), Oracle()
    first, results = run(manifest, root, oracle, records=tmp_path / "scores")
    cases = tuple(
        replace(case, volumes=tuple(replace(v, attributes={"site": "x"}) for v in case.volumes))
        for case in manifest.cases
    )
    oracle.analysed.clear()
    second, again = run(replace(manifest, cases=cases), root, oracle, records=tmp_path / "scores")
    assert not oracle.analysed
    assert again == results  # lesions, flags and spacing come back from the disk as they were
    assert second == first


def test_a_model_with_other_names_is_refused(root: Path) -> None:
    manifest = make_dataset(root, cases=1)
    foreign = LabelSchema(segments=(SegmentSpec(1, "spleen"), SegmentSpec(2, "kidney")))
    case = replace(manifest.cases[0], findings={})
    _, results = run(replace(manifest, schema=foreign, cases=(case,)), root, Oracle())
    assert isinstance(results[0], Failure)
    assert "no name in common" in results[0].reason


def test_the_split_is_test_unless_said_otherwise(root: Path, tmp_path: Path) -> None:
    write_manifest(make_dataset(root), tmp_path / "manifest")
    manifest = read_manifest(tmp_path / "manifest")
    assert len(manifest_sha256(tmp_path / "manifest")) == 64
    name, cases = choose_split(manifest, None)
    assert (name, len(cases)) == ("test", 4)
    assert len(choose_split(manifest, "train")[1]) == 2
    everything = replace(manifest, cases=manifest.in_split("train"))
    assert choose_split(everything, None)[0] == "all"
    with pytest.raises(ConfigError, match="only: test, train"):
        choose_split(manifest, "validation")


def test_a_refused_image_is_one_failed_case(root: Path) -> None:
    manifest = make_dataset(root, cases=3)
    write(root / "0" / "es.nii.gz", np.full(GRID.shape, np.nan, dtype=np.float32))
    write(root / "1" / "es.nii.gz", np.zeros((*GRID.shape, 3), dtype=np.float32))
    _, results = run(manifest, root, Oracle())
    assert isinstance(results[0], Failure)
    assert isinstance(results[1], Failure)
    assert isinstance(results[2], CaseScore)
    assert results[0].code == "not-finite"
    assert results[1].code == "several-volumes"
    assert results[1].what == "1/es.nii.gz"
