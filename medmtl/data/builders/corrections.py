"""Cases that people reviewed, as a manifest: their masks and verdicts in place of the model's.

A mask counts for the segments that a person looked at: those a corrected file describes, and those
a signed review accepts. A finding is what the signed reviews call it; where they differ, or where
nobody answered, it is unknown. What nobody looked at is never taken from the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.core.errors import ConfigError, MedmtlError
from medmtl.data.cases import Case, Manifest, VolumeRow
from medmtl.data.correction import read_result_correction
from medmtl.data.manifest import file_sha256
from medmtl.data.reviewed import noted_segments
from medmtl.data.source_volume import source_volume
from medmtl.nifti.names import is_nifti_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from medmtl.core.labels import LabelSchema
    from medmtl.core.review import Review
    from medmtl.core.study import Listing, Study, VolumeRef
    from medmtl.core.volume import Volume
    from medmtl.data.builders.copy import DataCopy
    from medmtl.data.reviewed import ReviewedCase

__all__ = ["build_corrections"]


def build_corrections(
    reviewed: Sequence[ReviewedCase], listing: Listing, data: DataCopy
) -> tuple[Manifest, list[str]]:
    """The manifest of these cases. Images and masks that have to be made are written.

    Args:
        reviewed: Of one model.
        listing: Of the input that `predict` was given, which is `data.source`.
        data: Where images lie, and where files go.

    Returns:
        The manifest with its paths relative to `data.folder`, and what was left out.

    Raises:
        ConfigError: If no case can be used, or the cases are of several models.
        OutputError: If a file cannot be written.
    """
    schema = _one_schema(reviewed)
    studies = {study.case_id: study for study in listing.studies}
    persons = _Persons()
    cases, problems = [], []
    for one in reviewed:
        study = studies.get(one.case_id)
        if study is None:
            problems.append(f"{one.case_id}: not among the images of --root; left out")
            continue
        case = _case(one, study, schema, data, persons, problems)
        if case is not None:
            cases.append(case)
    if not cases:
        found = "; ".join(problems[:3]) or "no reviewed case"
        raise ConfigError(f"No case with a corrected mask or a signed review: {found}.")
    model = reviewed[0].case.record["model"]
    modalities = {ref.modality for study in studies.values() for ref in study.volumes}
    manifest = Manifest(
        name="reviewed",
        licence="as the images",
        citation="as the images",
        source=f"reviewed answers of {model['name']} {model['version']}",
        modality=modalities.pop() if len(modalities) == 1 else "",
        schema=schema,
        cases=tuple(cases),
    )
    return manifest, problems


def _one_schema(reviewed: Sequence[ReviewedCase]) -> LabelSchema:
    schemas = {one.case.schema for one in reviewed}
    if len(schemas) != 1:
        models = sorted({one.case.record["model"]["name"] for one in reviewed})
        raise ConfigError(
            f"Reviewed cases of {len(schemas)} label schemas ({', '.join(models) or 'none'}), "
            "expected one. Write a manifest for the results of each model."
        )
    return schemas.pop()


class _Persons:
    """Pseudonyms: the first case of a person in this manifest names all of that person's."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, ...], str] = {}

    def pseudonym(self, case_id: str, volume: Volume) -> str:
        """The same for every case of a DICOM patient; the case itself where none is known."""
        said = volume.source.read_patient() if volume.source is not None else {}
        keys = ("IssuerOfPatientID", "PatientID", "PatientName", "PatientBirthDate")
        person = tuple(said.get(key, "") for key in keys)
        return self._first.setdefault(person, case_id) if said.get("PatientID") else case_id


def _case(
    one: ReviewedCase, study: Study, schema: LabelSchema, data: DataCopy, persons: _Persons,
    problems: list[str],
) -> Case | None:  # fmt: skip
    findings = _findings(one, schema, problems)
    rows, patient_id = [], one.case_id
    for volume_id in one.case.volume_ids:
        try:
            row, volume = _row(one, volume_id, study, schema, data)
        except MedmtlError as error:
            problems.append(f"{one.case_id}: {error}; left out")
            return None
        patient_id = persons.pseudonym(one.case_id, volume)
        rows.append(row)
    case = Case(
        case_id=one.case_id,
        patient_id=patient_id,
        split="train",
        fold=None,
        volumes=tuple(rows),
        findings=findings,
        covariates=study.covariates,
    )
    if not case.has_truth:
        problems.append(f"{one.case_id}: reviewed, but no mask and no finding is certain; left out")
        return None
    return case


def _findings(
    one: ReviewedCase, schema: LabelSchema, problems: list[str]
) -> dict[str, bool | None]:
    decisions = {item["name"]: bool(item["decision"]) for item in one.case.record["findings"]}
    found: dict[str, bool | None] = {}
    for name in schema.finding_names:
        verdicts = [verdict for review in one.reviews if (verdict := review.finding(name))]
        truths = {verdict.truth(decision=decisions[name]) for verdict in verdicts}
        certain = truths - {None}
        if len(certain) > 1:
            problems.append(f"{one.case_id}: reviewers differ on {name}; listed as unknown")
        found[name] = certain.pop() if len(certain) == 1 and None not in truths else None
    return found


def _row(
    one: ReviewedCase, volume_id: str, study: Study, schema: LabelSchema, data: DataCopy
) -> tuple[VolumeRow, Volume]:
    ref = source_volume(one.case.record, volume_id, study.volumes)
    volume = ref.read()
    label_map, names = _truth(one, volume_id, schema)
    image = _image(f"{one.case_id}_{volume_id}_image", ref, volume, data)
    segmentation = (
        data.write_labels(f"{one.case_id}_{volume_id}_labels", label_map, volume.geometry)
        if label_map is not None
        else None
    )
    row = VolumeRow(
        volume_id=volume_id,
        image=image,
        segmentation=segmentation,
        sha256=file_sha256(data.folder / image),
        annotated_segments=names,
    )
    return row, volume


def _image(made: str, ref: VolumeRef, volume: Volume, data: DataCopy) -> str:
    """A NIfTI image as it lies; anything else (DICOM, one of several) as a file of its own."""
    name = ref.source_files[0] if len(ref.source_files) == 1 else ""
    if is_nifti_name(name) and ref.phase is None and (data.source / name).is_file():
        return data.name_of(data.source / name)
    return data.write_image(made, volume)


def _truth(
    one: ReviewedCase, volume_id: str, schema: LabelSchema
) -> tuple[NDArray[Any] | None, tuple[str, ...]]:
    """Label map and names of the segments that a person looked at; others are empty in it.

    No map where nothing is left that counts.
    """
    names = {name for name in schema.segment_names if _is_accepted(one.reviews, volume_id, name)}
    path = one.masks.get(volume_id)
    corrected = None
    if path is not None:
        corrected = read_result_correction(path, case=one.case, volume_id=volume_id)
        noted = noted_segments(path, volume_id)
        described = set(corrected.segments if noted is None else noted)
        names |= {n for n in described if not _is_wanting(one.reviews, volume_id, n)}
    if not names:
        return None, ()
    whole = (corrected or one.case.volume(volume_id)).label_map
    labels = [segment.label for segment in schema.segments if segment.name in names]
    kept = np.where(np.isin(whole, labels), whole, 0).astype(whole.dtype)
    return kept, tuple(name for name in schema.segment_names if name in names)


def _is_accepted(reviews: Iterable[Review], volume_id: str, name: str) -> bool:
    """Whether some reviewer accepts the model's mask and none calls for another."""
    return _answers(reviews, volume_id, name) == {"accepted"}


def _is_wanting(reviews: Iterable[Review], volume_id: str, name: str) -> bool:
    """Whether some reviewer still calls for a correction."""
    return "needs_correction" in _answers(reviews, volume_id, name)


def _answers(reviews: Iterable[Review], volume_id: str, name: str) -> set[str]:
    return {verdict.answer for review in reviews if (verdict := review.mask(volume_id, name))}
