"""The check of a manifest: each thing that can be wrong is found, and hides nothing else."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmtl.core.errors import ConfigError
from medmtl.core.labels import FindingSpec, LabelSchema, SegmentSpec
from medmtl.data.cases import Case, Manifest, VolumeRow
from medmtl.data.check import Problem, check_cases, check_folder
from medmtl.data.check_image import ImageFacts
from medmtl.data.check_set import FACTOR, another_scale, repeated
from medmtl.data.manifest import file_sha256, write_manifest
from tests.miniatures import image_values, write_image, write_mask

SCHEMA = LabelSchema(
    segments=(SegmentSpec(1, "organ"), SegmentSpec(2, "lesion", is_lesion=True)),
    findings=(FindingSpec("ill", None, ("lesion",), "lesion"),),
)


def case(number: int, **changes: object) -> Case:
    row = VolumeRow("image", f"i{number}.nii.gz", f"m{number}.nii.gz", None, SCHEMA.segment_names)
    plain = Case(f"c{number}", f"p{number}", "train", None, (row,), {"ill": None})
    return replace(plain, **changes)  # type: ignore[arg-type]


def data_set(root: Path, count: int = 6) -> list[Case]:
    for number in range(count):
        write_image(root / f"i{number}.nii.gz", image_values(number))
        write_mask(root / f"m{number}.nii.gz", 1, 2)
    return [case(number) for number in range(count)]


def codes(problems: list[Problem]) -> set[tuple[str, str]]:
    return {(problem.case_id, problem.code) for problem in problems}


def test_a_sound_data_set_has_no_problem(tmp_path: Path) -> None:
    cases = data_set(tmp_path)
    assert check_cases(cases, SCHEMA, tmp_path) == []
    assert check_cases(cases, SCHEMA, tmp_path, with_voxels=False) == []


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    cases = data_set(tmp_path, 9)
    (tmp_path / "i0.nii.gz").unlink()
    (tmp_path / "m1.nii.gz").unlink()
    (tmp_path / "i2.nii.gz").write_bytes(b"no image")
    write_mask(tmp_path / "m3.nii.gz", 1, spacing_mm=(1.0, 1.0, 2.1))
    write_mask(tmp_path / "m4.nii.gz", 1, 7)
    values = image_values(5).astype(np.float32)
    values[0, 0, 0] = np.nan
    write_image(tmp_path / "i5.nii.gz", values)
    write_image(tmp_path / "i6.nii.gz", np.full((6, 5, 4), 3, dtype=np.int16))
    found = check_cases(cases, SCHEMA, tmp_path)
    assert codes(found) >= {
        ("c0", "missing-file"), ("c1", "missing-file"), ("c2", "damaged-nifti"),
        ("c3", "grid-differs"), ("c4", "unknown-label"), ("c5", "not-finite"),
        ("c6", "constant-image"),
    }  # fmt: skip
    assert {problem.case_id for problem in found} == {f"c{number}" for number in range(7)}
    assert all(problem.is_disabling for problem in found)
    text = "\n".join(map(str, found))
    assert "no image i0.nii.gz for the mask m0.nii.gz" in text
    assert "no mask m1.nii.gz for the image i1.nii.gz" in text
    assert "label 7, expected 0 and 1, 2" in text
    assert "1 voxels that are not finite" in text


@pytest.mark.parametrize("with_voxels", [True, False])
def test_what_is_wrong_with_one_file_hides_nothing_of_the_other(
    tmp_path: Path, with_voxels: bool
) -> None:
    """Or a user mends one list of problems and gets another one."""
    cases = data_set(tmp_path)
    for number, name in enumerate(("i0", "i1", "m2", "m3")):
        (tmp_path / f"{name}.nii.gz").unlink()
        if number % 2:
            (tmp_path / f"{name}.nii.gz").write_bytes(b"no image")
    for number in (0, 1):
        write_mask(tmp_path / f"m{number}.nii.gz", 7)
    values = image_values(2).astype(np.float32)
    values[0, 0, 0] = np.inf
    for number in (2, 3):
        write_image(tmp_path / f"i{number}.nii.gz", values)
    found = codes(check_cases(cases, SCHEMA, tmp_path, with_voxels=with_voxels))
    files = {("c0", "missing-file"), ("c1", "damaged-nifti"), ("c2", "missing-file"),
             ("c3", "damaged-nifti")}  # fmt: skip
    voxels = {("c0", "unknown-label"), ("c1", "unknown-label"), ("c2", "not-finite"),
              ("c3", "not-finite")}  # fmt: skip
    assert found - {("c3", "duplicate-image")} == (files | voxels if with_voxels else files)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that no one reads")
@pytest.mark.parametrize("with_voxels", [True, False])
def test_a_file_that_the_system_does_not_let_read_is_one_problem(
    tmp_path: Path, with_voxels: bool
) -> None:
    cases = data_set(tmp_path)
    (tmp_path / "i1.nii.gz").unlink()
    (tmp_path / "i1.nii.gz").symlink_to("/proc/self/mem")
    found = check_cases(cases, SCHEMA, tmp_path, with_voxels=with_voxels)
    assert [problem.case_id for problem in found] == ["c1"]
    assert found[0].is_disabling


def test_the_distance_between_grids_is_said_in_mm(tmp_path: Path) -> None:
    cases = data_set(tmp_path)
    write_mask(tmp_path / "m0.nii.gz", 1, spacing_mm=(1.0, 1.0, 2.1))
    found = check_cases(cases, SCHEMA, tmp_path, with_voxels=False)
    assert codes(found) == {("c0", "grid-differs")}
    assert "corners up to 0.3 mm away" in found[0].message  # 3 slices of 0.1 mm


def test_a_shape_that_differs_is_said(tmp_path: Path) -> None:
    cases = data_set(tmp_path)
    write_image(tmp_path / "m0.nii.gz", np.ones((6, 5, 3), dtype=np.uint8))
    text = str(check_cases(cases, SCHEMA, tmp_path)[0])
    assert "found shape (6, 5, 3), expected (6, 5, 4), the shape of its image" in text


def test_rounding_in_a_header_is_no_other_grid(tmp_path: Path) -> None:
    cases = data_set(tmp_path)
    write_mask(tmp_path / "m0.nii.gz", 1, spacing_mm=(1.0, 1.0, 2.0005))
    assert check_cases(cases, SCHEMA, tmp_path) == []


def test_values_between_labels_are_unknown(tmp_path: Path) -> None:
    cases = data_set(tmp_path)
    blurred = np.full((6, 5, 4), 0.5, dtype=np.float32)
    write_image(tmp_path / "m0.nii.gz", blurred)
    assert codes(check_cases(cases, SCHEMA, tmp_path)) == {("c0", "unknown-label")}


def test_one_image_of_another_scale_is_found_with_its_number(tmp_path: Path) -> None:
    cases = data_set(tmp_path)
    write_image(tmp_path / "i2.nii.gz", image_values(2).astype(np.float32) * 1000)
    found = check_cases(cases, SCHEMA, tmp_path)
    assert codes(found) == {("c2", "extreme-intensity")}
    assert "times the median of such volumes" in found[0].message


def test_one_hot_voxel_is_found(tmp_path: Path) -> None:
    cases = data_set(tmp_path)
    values = np.tile(image_values(2).astype(np.float32), (10, 10, 1))
    values[0, 0, 0] = 1e6
    write_image(tmp_path / "i2.nii.gz", values)
    write_image(tmp_path / "m2.nii.gz", np.ones_like(values, dtype=np.uint8))
    found = check_cases(cases, SCHEMA, tmp_path)
    assert codes(found) == {("c2", "extreme-intensity")}
    assert "values reach 1e+06" in found[0].message


@settings(max_examples=50, deadline=None)
@given(
    scales=st.lists(st.floats(0.1, 10), min_size=11, max_size=20),
    odd=st.lists(st.floats(2.5, 6), min_size=1, max_size=5),
    is_below=st.booleans(),
)
def test_just_the_odd_scales_are_found(
    scales: list[float], odd: list[float], is_below: bool
) -> None:
    """Up to a tenth of the usual and ten times it pass; beyond 10^2.5 away from ten is reported."""
    facts = {(f"c{n}", "image"): ImageFacts(s, s, "") for n, s in enumerate(scales)}
    sign = -1 if is_below else 1
    for number, power in enumerate(odd):
        value = (0.1 if is_below else 10.0) * 10 ** (sign * power)
        facts[f"odd{number}", "image"] = ImageFacts(value, value, "")
    assert {key[0] for key in another_scale(facts)} == {f"odd{n}" for n in range(len(odd))}
    assert FACTOR == 100


def test_sequences_are_compared_with_their_own_kind() -> None:
    facts = {
        (f"c{n}", volume): ImageFacts(spread, spread, "")
        for n in range(8)
        for volume, spread in (("t1", 1.0), ("adc", 3000.0))
    }
    assert another_scale(facts) == {}


def test_modalities_are_compared_with_their_own_kind_where_stated() -> None:
    facts = {
        (f"{modality}{n}", "image"): ImageFacts(spread, spread, "", modality)
        for n in range(8)
        for modality, spread in (("CT", 3000.0), ("MR", 1.0))
    }
    assert another_scale(facts) == {}
    assert len(another_scale({key: replace(f, modality="") for key, f in facts.items()})) > 0


def test_of_a_few_images_none_is_the_odd_one() -> None:
    facts = {(f"c{n}", "image"): ImageFacts(10.0 ** (3 * n), 1.0, "") for n in range(4)}
    assert another_scale(facts) == {}


def test_the_same_image_under_another_type_and_compression_is_found(tmp_path: Path) -> None:
    cases = data_set(tmp_path)
    write_image(tmp_path / "i4.nii.gz", image_values(1).astype(np.float64), spacing_mm=(1, 1, 2))
    found = check_cases(cases, SCHEMA, tmp_path)
    assert codes(found) == {("c4", "duplicate-image")}
    assert not found[0].is_disabling
    assert "volume image of case c1, another patient" in found[0].message


def test_the_same_file_is_found_without_reading_voxels(tmp_path: Path) -> None:
    cases = data_set(tmp_path)
    shutil.copy(tmp_path / "i1.nii.gz", tmp_path / "i4.nii.gz")
    found = check_cases(cases, SCHEMA, tmp_path, with_voxels=False)
    assert codes(found) == {("c4", "duplicate-image")}


@pytest.mark.parametrize("first", ["train", "test"])
def test_a_copy_in_another_split_is_a_leak_and_the_test_case_stays(
    tmp_path: Path, first: str
) -> None:
    cases = data_set(tmp_path)
    shutil.copy(tmp_path / "i1.nii.gz", tmp_path / "i4.nii.gz")
    second = "test" if first == "train" else "train"
    cases[1], cases[4] = replace(cases[1], split=first), replace(cases[4], split=second)
    found = check_cases(cases, SCHEMA, tmp_path)
    assert codes(found) == {("c1" if first == "train" else "c4", "duplicate-leak")}
    assert found[0].is_disabling


def test_a_copy_in_another_fold_is_a_leak(tmp_path: Path) -> None:
    cases = [replace(one, fold=place % 2) for place, one in enumerate(data_set(tmp_path))]
    shutil.copy(tmp_path / "i1.nii.gz", tmp_path / "i4.nii.gz")
    found = check_cases(cases, SCHEMA, tmp_path)
    assert [problem.code for problem in found] == ["duplicate-leak"]
    assert "in folds 0 and 1" in found[0].message


def test_every_repetition_points_to_the_first() -> None:
    sums = {("a", "v"): "1", ("b", "v"): "2", ("c", "v"): "1", ("d", "v"): "1"}
    assert repeated(sums) == {("c", "v"): ("a", "v"), ("d", "v"): ("a", "v")}


def test_a_checksum_that_differs_is_named(tmp_path: Path) -> None:
    cases = data_set(tmp_path)
    right = replace(cases[0].volumes[0], sha256=file_sha256(tmp_path / "i0.nii.gz"))
    wrong = replace(cases[1].volumes[0], sha256="0" * 64)
    cases[0], cases[1] = replace(cases[0], volumes=(right,)), replace(cases[1], volumes=(wrong,))
    assert codes(check_cases(cases, SCHEMA, tmp_path)) == {("c1", "checksum-differs")}


def test_a_finding_that_the_mask_rules_out_is_said(tmp_path: Path) -> None:
    cases = data_set(tmp_path)
    write_mask(tmp_path / "m1.nii.gz", 1)
    cases[0] = replace(cases[0], findings={"ill": False})
    cases[1] = replace(cases[1], findings={"ill": True})
    found = check_cases(cases, SCHEMA, tmp_path)
    assert codes(found) == {("c0", "finding-contradicts-mask"), ("c1", "finding-contradicts-mask")}
    assert not any(problem.is_disabling for problem in found)


def test_a_segment_that_was_not_looked_for_rules_nothing_out(tmp_path: Path) -> None:
    cases = data_set(tmp_path)
    write_mask(tmp_path / "m1.nii.gz", 1)
    row = replace(cases[1].volumes[0], annotated_segments=("organ",))
    cases[1] = replace(cases[1], volumes=(row,), findings={"ill": True})
    assert check_cases(cases, SCHEMA, tmp_path) == []
    write_mask(tmp_path / "m1.nii.gz", 1, 2)
    assert codes(check_cases(cases, SCHEMA, tmp_path)) == {("c1", "segment-not-annotated")}


def test_a_path_out_of_the_data_root_is_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    cases = data_set(root)
    write_image(tmp_path / "outside.nii.gz", image_values(0))
    for path in ("../outside.nii.gz", str(tmp_path / "outside.nii.gz")):
        row = replace(cases[0].volumes[0], image=path)
        found = check_cases([replace(cases[0], volumes=(row,))], SCHEMA, root)
        assert codes(found) == {("c0", "missing-file")}


def test_an_image_without_orientation_is_said(tmp_path: Path) -> None:
    cases = data_set(tmp_path)
    for name in ("i0.nii.gz", "m0.nii.gz"):
        image = nib.load(tmp_path / name)
        image.set_sform(None, code=0)
        image.set_qform(None, code=0)
        nib.save(image, tmp_path / name)
    assert codes(check_cases(cases, SCHEMA, tmp_path)) == {("c0", "orientation-unknown")}


def test_tables_and_files_of_a_folder_are_checked_together(tmp_path: Path) -> None:
    cases = data_set(tmp_path / "data")
    write_manifest(Manifest("m", "CC0", "", "", "CT", SCHEMA, tuple(cases)), tmp_path / "m")
    assert check_folder(tmp_path / "m", tmp_path / "data") == (6, [])
    table = tmp_path / "m" / "cases.csv"
    torn = "c9,p0,image,i5.nii.gz,,test,,,maybe\n"
    table.write_text(table.read_text() + torn)
    (tmp_path / "data" / "i1.nii.gz").unlink()
    count, found = check_folder(tmp_path / "m", tmp_path / "data")
    assert count == 7
    text = "\n".join(map(str, found))
    for part in (
        "patient p0 is in 2 splits",
        "ill: found 'maybe'",
        "case c1, volume image: missing",
    ):
        assert part in text
    assert all(problem.is_disabling for problem in found)


def test_what_is_not_there_at_all_cannot_be_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"No manifest\.toml"):
        check_folder(tmp_path, tmp_path)
    write_manifest(Manifest("m", "", "", "", "", SCHEMA, (case(1),)), tmp_path / "m")
    with pytest.raises(ConfigError, match="is no folder"):
        check_folder(tmp_path / "m", tmp_path / "nowhere")
