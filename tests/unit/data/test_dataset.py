"""Samples of mixed manifests: names matched, unknown kept unknown, the cache checked."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from medmtl.core.errors import ConfigError, InputRefusedError
from medmtl.data.dataset import StudyDataset
from medmtl.data.manifest import read_manifest
from medmtl.data.sample_cache import GridVolume, SampleCache
from medmtl.data.samples import LabelState, Sample, collate, label_states
from medmtl.data.sources import DataSource
from medmtl.data.volume_file import read_volume_file
from medmtl.losses.partial import marginal_dice_cross_entropy
from medmtl.networks.joint import NetworkConfig
from medmtl.transforms.preprocessing import PreprocessingConfig, RobustZScore
from tests.data_factory import SPACING_MM, make_source, write_image, write_mask

NETWORK = NetworkConfig(segments=("liver", "spleen", "tumour"), findings=("cyst", "fat"))
PLAIN = PreprocessingConfig(intensity=RobustZScore(low_percentile=0, high_percentile=100))
PRESENT, ABSENT, UNKNOWN = LabelState.PRESENT, LabelState.ABSENT, LabelState.UNKNOWN


def _dataset(*sources: DataSource, **options: object) -> StudyDataset:
    network = options.pop("network", NETWORK)
    return StudyDataset(sources, network=network, preprocessing=PLAIN, **options)  # type: ignore[arg-type]


@pytest.fixture
def mixed(tmp_path: Path) -> StudyDataset:
    """Set a knows the spleen as 1 and cysts; set b the liver as 2, a kidney, and nothing else."""
    a = make_source(
        tmp_path / "a", name="a", labels={"spleen": 1}, findings=["cyst"], truths=[{"cyst": True}]
    )
    b = make_source(tmp_path / "b", name="b", labels={"kidney": 1, "liver": 2})
    return _dataset(a, b)


def test_labels_follow_the_names_not_the_numbers(mixed: StudyDataset) -> None:
    of_a, of_b = mixed[0].labels[0], mixed[1].labels[0]
    assert of_a is not None
    assert of_b is not None
    assert of_a.unique().tolist() == [0, 2]  # type: ignore[no-untyped-call]
    assert of_b.unique().tolist() == [0, 1]  # type: ignore[no-untyped-call]
    assert of_a.shape == mixed[0].images[0].shape


def test_what_a_manifest_does_not_have_is_unknown(mixed: StudyDataset) -> None:
    assert label_states(mixed[0]).segments == ((UNKNOWN, PRESENT, UNKNOWN),)
    assert label_states(mixed[0]).findings == (PRESENT, UNKNOWN)
    assert label_states(mixed[1]).segments == ((PRESENT, UNKNOWN, UNKNOWN),)
    assert label_states(mixed[1]).findings == (UNKNOWN, UNKNOWN)
    assert label_states(mixed[1]).knows("segmentation")
    assert not label_states(mixed[1]).knows("diagnosis")


def test_the_table_says_the_same_without_opening_an_image(mixed: StudyDataset) -> None:
    table = mixed.table
    assert table.is_annotated.tolist() == [[False, True, False], [True, False, False]]
    assert table.findings[0, 0] == 1
    assert np.isnan(table.findings).sum() == 3
    assert table.is_known("diagnosis").tolist() == [True, False]


def test_a_mixed_batch_pulls_no_output_that_its_case_does_not_know(mixed: StudyDataset) -> None:
    """Where case a says background, its loss does not see how liver and background share it."""
    batch = collate([mixed[0], mixed[1]], divisor=(1, 1, 1))
    logits = torch.zeros(2, 4, *batch.labels[0].shape[1:])
    plain = marginal_dice_cross_entropy(logits, batch.labels[0], batch.is_annotated[:, 0])
    shifted = logits.clone()
    is_free = batch.labels[0][0] == 0
    shifted[0, 0][is_free] = float(np.log(0.5))
    shifted[0, 1][is_free] = float(np.log(1.5))  # 1/2 + 3/2 + 1 = 1 + 1 + 1
    moved = marginal_dice_cross_entropy(shifted, batch.labels[0], batch.is_annotated[:, 0])
    assert plain is not None
    assert moved is not None
    assert moved.item() == pytest.approx(plain.item(), abs=1e-6)


def test_an_absent_segment_is_known_to_be_absent(tmp_path: Path) -> None:
    source = make_source(tmp_path, name="a", labels={"liver": 1, "tumour": 2})
    write_mask(tmp_path / "a0_image_gt.nii.gz", [1])
    assert label_states(_dataset(source)[0]).segments == ((PRESENT, UNKNOWN, ABSENT),)


def test_only_annotated_segments_are_known(tmp_path: Path) -> None:
    labels = {"liver": 1, "spleen": 2}
    source = make_source(tmp_path, name="a", labels=labels, annotated=["liver"])
    sample = _dataset(source)[0]
    assert sample.is_annotated.tolist() == [[True, False, False]]
    assert sample.labels[0] is not None
    assert set(sample.labels[0].flatten().tolist()) == {0, 1}


def test_a_case_without_masks_has_findings_alone(tmp_path: Path) -> None:
    source = make_source(
        tmp_path, name="a", labels={"liver": 1}, findings=["fat"], truths=[{"fat": False}],
        has_masks=False,
    )  # fmt: skip
    sample = _dataset(source)[0]
    assert sample.labels == (None,)
    assert not sample.is_annotated.any()
    assert label_states(sample).findings == (UNKNOWN, ABSENT)
    assert (collate([sample], divisor=(1, 1, 1)).labels[0] == -1).all()


def test_facts_of_the_study_come_along(mixed: StudyDataset) -> None:
    sample = mixed[0]
    assert sample.case_id == "a0"
    assert sample.dataset == "a"
    assert sample.spacing_mm.tolist() == [list(SPACING_MM[::-1])]
    assert sample.covariates["sex_male"].tolist() == [1.0]
    assert sample.covariates["height_cm"].tolist() == [180.0]
    assert sample.covariates["weight_kg"].isnan().all()


def test_volumes_come_in_the_order_of_the_network(tmp_path: Path) -> None:
    source = make_source(tmp_path, name="a", labels={"liver": 1}, volumes=["es", "ed"])
    write_image(tmp_path / "a0_ed.nii.gz", seed=7)
    sample = _dataset(source, network=NETWORK.model_copy(update={"volumes": ("ed", "es")}))[0]
    alone = _dataset(source, network=NETWORK.model_copy(update={"volumes": ("ed",)}))[0]
    assert torch.equal(sample.images[0], alone.images[0])
    assert not torch.equal(sample.images[0], sample.images[1])


def test_all_that_is_missing_is_said_at_once(tmp_path: Path) -> None:
    a = make_source(tmp_path, name="a", labels={"liver": 1}, volumes=["ed"], truths=[{}, {}])
    b = make_source(tmp_path, name="b", labels={"lung": 1}, volumes=["ed", "es"])
    (tmp_path / "b0_es.nii.gz").unlink()
    with pytest.raises(ConfigError) as caught:
        _dataset(a, b, network=NETWORK.model_copy(update={"volumes": ("ed", "es")}))
    text = str(caught.value)
    assert "4 problem(s)" in text
    assert "a0 has the volumes ed, but the network needs ed, es" in text
    assert "a1 has the volumes ed" in text
    assert "manifest b shares no segment and no finding" in text
    assert "no file b0_es.nii.gz" in text


def test_a_structure_that_is_whole_in_one_set_and_has_sides_in_another_is_not_mixed(
    tmp_path: Path,
) -> None:
    a = make_source(tmp_path / "a", name="a", labels={"kidney": 1})
    b = make_source(tmp_path / "b", name="b", labels={"kidney_left": 1, "kidney_right": 2})
    sides = ("kidney_left", "kidney_right")
    with pytest.raises(ConfigError) as caught:
        _dataset(a, b, network=NetworkConfig(segments=("kidney", *sides)))
    for side in sides:
        assert f"kidney of manifest a holds what is {side} in b" in str(caught.value)
    alone = make_source(tmp_path / "c", name="c", labels={"kidney": 1, "cyst": 2})
    assert len(_dataset(a, alone, network=NetworkConfig(segments=("kidney", *sides)))) == 2


def test_a_label_that_the_schema_does_not_name_is_refused(tmp_path: Path) -> None:
    source = make_source(tmp_path, name="a", labels={"liver": 1})
    write_mask(tmp_path / "a0_image_gt.nii.gz", [1, 7])
    with pytest.raises(InputRefusedError, match=r"unknown-label.*found label 7"):
        _dataset(source)[0]


def test_a_mask_on_another_grid_is_refused(tmp_path: Path) -> None:
    import nibabel

    source = make_source(tmp_path, name="a", labels={"liver": 1})
    path = tmp_path / "a0_image_gt.nii.gz"
    moved = nibabel.Nifti1Image(np.zeros((12, 10, 6), np.uint8), np.diag([1.0, 1.5, 4.0, 1.0]))
    nibabel.save(moved, path)
    with pytest.raises(InputRefusedError, match="grid-differs"):
        _dataset(source)[0]


def test_more_segments_than_a_byte_holds_are_refused(tmp_path: Path) -> None:
    source = make_source(tmp_path, name="a", labels={"liver": 1})
    many = ("liver", *(f"organ{number}" for number in range(255)))
    with pytest.raises(ConfigError, match="256 segments, at most 255"):
        _dataset(source, network=NetworkConfig(segments=many))


def test_a_real_patient_keeps_his_millilitres(shared_data: Path) -> None:
    folder = shared_data / "acdc"
    if not (folder / "training").is_dir():
        pytest.skip("ACDC not found below ../shared/data")
    manifest = read_manifest(Path(__file__).resolve().parents[3] / "data_manifests" / "acdc")
    source = DataSource(manifest, folder, manifest.cases[:1])
    network = NetworkConfig(
        volumes=("ed", "es"),
        segments=("left_ventricle_cavity", "right_ventricle_cavity"),  # not the manifest's order
        findings=("dilated_cardiomyopathy",),
    )
    settings = PreprocessingConfig(
        orientation="display", spacing_mm=(1.25, 1.25, None), intensity=RobustZScore()
    )
    sample = StudyDataset([source], network=network, preprocessing=settings)[0]
    assert sample.findings.tolist() == [1.0]
    for volume, row in enumerate(manifest.cases[0].volumes):
        truth = read_volume_file(folder, str(row.segmentation))
        for label, own in ((1, 3), (2, 1)):
            labels = sample.labels[volume]
            assert labels is not None
            ml = float((labels == label).sum() * sample.spacing_mm[volume].prod() / 1000)
            expected = (truth.array == own).sum() * truth.geometry.voxel_mm3 / 1000
            assert ml == pytest.approx(expected, rel=0.02)


def _equal(one: Sample, two: Sample) -> bool:
    pairs = [*zip(one.images, two.images, strict=True), *zip(one.labels, two.labels, strict=True)]
    return all(a is b is None or torch.equal(a, b) for a, b in pairs)  # type: ignore[arg-type]


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Path, StudyDataset]:
    source = make_source(tmp_path / "data", name="a", labels={"liver": 1})
    return tmp_path, _dataset(source, cache_dir=tmp_path / "cache")


def _entries(folder: Path) -> list[Path]:
    return sorted((folder / "cache").rglob("*.npz"))


def test_a_second_look_reads_the_cache(kept: tuple[Path, StudyDataset]) -> None:
    folder, dataset = kept
    first = dataset[0]
    (entry,) = _entries(folder)
    facts = entry.stat()
    image = folder / "data" / "a0_image.nii.gz"
    as_it_was = image.stat()
    image.write_bytes(b"x" * as_it_was.st_size)  # would be refused, were it read
    os.utime(image, ns=(as_it_was.st_atime_ns, as_it_was.st_mtime_ns))
    assert _equal(dataset[0], first)
    assert entry.stat().st_mtime_ns == facts.st_mtime_ns


def test_a_changed_image_is_another_entry(kept: tuple[Path, StudyDataset]) -> None:
    folder, dataset = kept
    first = dataset[0]
    write_image(folder / "data" / "a0_image.nii.gz", seed=9)
    assert not _equal(dataset[0], first)
    assert len(_entries(folder)) == 2


def test_another_copy_of_the_data_is_other_entries(tmp_path: Path) -> None:
    """The same names, sizes and times of change below another root, but another content."""
    seen = []
    for seed, name in enumerate(("one", "two")):
        source = make_source(tmp_path / name, name="a", labels={"liver": 1})
        write_image(tmp_path / name / "a0_image.nii.gz", seed=seed)
        for path in (tmp_path / name).iterdir():
            os.utime(path, ns=(0, 0))
        seen.append(_dataset(source, cache_dir=tmp_path / "cache")[0])
    assert not _equal(*seen)
    assert len(_entries(tmp_path)) == 2


def test_other_preprocessing_or_labels_are_other_entries(kept: tuple[Path, StudyDataset]) -> None:
    folder, dataset = kept
    assert dataset[0].is_annotated[0, 0]
    source = DataSource(dataset.entries[0][0].manifest, folder / "data", (dataset.entries[0][1],))
    other = PreprocessingConfig(intensity=PLAIN.intensity, divisor=(4, 4, 4))
    padded = StudyDataset(
        [source], network=NETWORK, preprocessing=other, cache_dir=folder / "cache"
    )
    assert padded[0].images[0].shape == (8, 12, 12)
    swapped = NETWORK.model_copy(update={"segments": ("spleen", "liver")})
    renamed = _dataset(source, network=swapped, cache_dir=folder / "cache")
    labels = renamed[0].labels[0]
    assert labels is not None
    assert labels.max() == 2
    assert len(_entries(folder)) == 3


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "junk"])
def test_a_damaged_entry_is_made_anew(
    kept: tuple[Path, StudyDataset], damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder, dataset = kept
    first = dataset[0]
    (entry,) = _entries(folder)
    content = bytearray(entry.read_bytes())
    content[len(content) // 3] ^= 1
    damaged: dict[str, bytes | bytearray] = {
        "cut": content[: len(content) // 2],
        "bit": content,
        "empty": b"",
        "junk": b"hello",
    }
    entry.write_bytes(damaged[damage])
    with caplog.at_level(logging.WARNING):
        assert _equal(dataset[0], first)
    assert "made anew" in caplog.text
    caplog.clear()
    assert _equal(dataset[0], first)
    assert not caplog.text


def test_a_cache_that_cannot_be_written_costs_time_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    volume = GridVolume(np.zeros((1, 2, 3), np.float16), None, np.ones(3, np.float32))
    with caplog.at_level(logging.WARNING):
        assert SampleCache(tmp_path / "cache").get("ab12", lambda: volume) is volume
    assert "could not be kept" in caplog.text


def test_nothing_half_written_stays(kept: tuple[Path, StudyDataset]) -> None:
    folder, dataset = kept
    assert len(dataset) == 1
    dataset[0]
    assert [path.suffix for path in (folder / "cache").rglob("*.*")] == [".npz"]
