"""The public layout of the Medical Segmentation Decathlon: one folder per task.

`dataset.json`, `imagesTr/`, `labelsTr/` and `imagesTs/`, in any of the ten tasks; a copy that has
only `images/` and `labels/` is read too. Antonelli et al., Nature Communications 13, 4128, 2022,
doi 10.1038/s41467-022-30695-9.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from medmtl.core.errors import ConfigError, InputRefusedError
from medmtl.data.builders.copy import nifti_files, read_json
from medmtl.data.builders.msd_channels import channel_names, channels
from medmtl.data.builders.msd_tasks import TASKS, Task, schema_of
from medmtl.data.cases import Case, Manifest, VolumeRow
from medmtl.data.manifest import file_sha256

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from medmtl.core.labels import LabelSchema
    from medmtl.data.builders.copy import DataCopy

__all__ = ["build_msd_manifest"]

_CITATION = (
    "M. Antonelli, A. Reinke, S. Bakas, et al. The Medical Segmentation Decathlon. Nature "
    "Communications 13, 4128, 2022. doi 10.1038/s41467-022-30695-9"
)


@dataclass(frozen=True)
class _Parts:
    """Files by name without suffix."""

    images: dict[str, Path]
    labels: dict[str, Path]
    tests: dict[str, Path]


def build_msd_manifest(data: DataCopy) -> tuple[Manifest, list[str]]:
    """Look through a copy of one task.

    A file with several channels (brain tumours, prostate) is written as one file per channel, each
    a volume of the case with the same mask.

    Args:
        data: The task's folder.

    Returns:
        The manifest, and what is not as it should be; an image without a label and a label without
        an image are left out. Cases of `imagesTs/` have split `test` and no mask.

    Raises:
        ConfigError: If there is no usable case, or nothing says what the labels mean.
    """
    parts = _parts(data.source)
    header = read_json(data.source / "dataset.json")
    problems: list[str] = []
    task = _task(parts, header, problems)
    schema = schema_of(task, header, problems)
    usable = _paired(parts, header, problems)
    cases = [
        case
        for stem in usable
        if (case := _case(stem, parts, data, task, header, schema, problems)) is not None
    ]
    if not cases:
        found = "; ".join(problems[:3]) or "no NIfTI file in imagesTr"
        raise ConfigError(f"No usable case of a Decathlon task: {found}. Give the task's folder.")
    return _manifest(task, header, schema, cases), problems


def _manifest(task: Task | None, header: Any, schema: LabelSchema, cases: list[Case]) -> Manifest:
    stated = header if isinstance(header, dict) else {}
    name = task.name if task else str(stated.get("name") or "task").lower().replace(" ", "_")
    return Manifest(
        name=f"msd_{name}",
        licence="CC BY-SA 4.0",
        citation=_CITATION,
        source="http://medicaldecathlon.com",
        modality=task.modality if task else _modality(stated),
        schema=schema,
        cases=tuple(cases),
    )


def _modality(header: dict[str, Any]) -> str:
    """DICOM modality, where dataset.json says CT or MRI of the only channel."""
    stated = header.get("modality")
    names = list(stated.values()) if isinstance(stated, dict) else []
    return {"CT": "CT", "MRI": "MR", "MR": "MR"}.get(str(names[0]), "") if len(names) == 1 else ""


def _parts(root: Path) -> _Parts:
    for images, labels, tests in (("imagesTr", "labelsTr", "imagesTs"), ("images", "labels", "")):
        if (root / images).is_dir():
            test_files = nifti_files(root / tests) if tests else {}
            return _Parts(nifti_files(root / images), nifti_files(root / labels), test_files)
    message = (
        f"No imagesTr in {root.name!r}. Give the folder of one task, such as Task04_Hippocampus."
    )
    raise ConfigError(message)


def _task(parts: _Parts, header: Any, problems: list[str]) -> Task | None:
    """Which of the ten tasks this is, by what stands before the number of every file."""
    prefixes = {stem.rpartition("_")[0].lower() for stem in parts.images}
    task = TASKS.get(prefixes.pop()) if len(prefixes) == 1 else None
    if not isinstance(header, dict):
        if task is None:
            message = (
                "No dataset.json, and the file names are of no Decathlon task, so nothing says "
            )
            raise ConfigError(message + "what the labels mean. Download dataset.json.")
        problems.append(
            f"no dataset.json: by their names the files are of task {task.number}, "
            f"and its labels are taken"
        )
    return task


def _paired(parts: _Parts, header: Any, problems: list[str]) -> list[str]:
    """Training cases with image and label that dataset.json knows, then test cases."""
    problems += [
        f"{stem}: image without a label; left out"
        for stem in parts.images
        if stem not in parts.labels
    ]
    problems += [
        f"{stem}: label without an image" for stem in parts.labels if stem not in parts.images
    ]
    both = [stem for stem in parts.images if stem in parts.labels]
    if isinstance(header, dict):
        listed = set(_listed(header.get("training", ())))
        gone = sorted(listed - parts.images.keys() - parts.labels.keys())
        problems += [f"{stem}: in dataset.json, but no such file" for stem in gone]
        problems += [
            f"{stem}: not in dataset.json; left out" for stem in both if stem not in listed
        ]
        both = [stem for stem in both if stem in listed]
    twice = sorted(parts.tests.keys() & parts.images.keys())
    problems += [f"{stem}: in imagesTr and imagesTs; used from imagesTr" for stem in twice]
    return both + [stem for stem in parts.tests if stem not in parts.images]


def _listed(entries: Any) -> Iterable[str]:
    for entry in entries if isinstance(entries, list) else ():
        name = entry.get("image") if isinstance(entry, dict) else entry
        if isinstance(name, str):
            yield PurePosixPath(name).name.removesuffix(".gz").removesuffix(".nii")


def _case(
    stem: str, parts: _Parts, data: DataCopy, task: Task | None, header: Any, schema: LabelSchema,
    problems: list[str],
) -> Case | None:  # fmt: skip
    is_test = stem not in parts.images
    image = parts.tests[stem] if is_test else parts.images[stem]
    label = None if is_test else parts.labels[stem]
    names = channel_names(task.channels if task else (), header)
    try:
        files = channels(image, stem, names, data)
    except InputRefusedError as error:
        problems.append(f"{stem}: found {error.found}, expected {error.expected}; left out")
        return None
    mask = data.name_of(label) if label else None
    volumes = tuple(
        VolumeRow(
            volume_id=volume_id,
            image=name,
            segmentation=mask,
            sha256=file_sha256(data.folder / name),
            annotated_segments=schema.segment_names if mask else (),
        )
        for volume_id, name in files
    )
    return Case(stem, stem, "test" if is_test else "train", None, volumes)
