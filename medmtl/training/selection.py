"""Which cases of a manifest teach and which validate; a share of the labels that nests."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from medmtl.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medmtl.data.cases import Case, Manifest
    from medmtl.data.sources import DataSource

__all__ = ["DEFAULT_VAL_SPLIT", "choose_cases", "label_share", "shared_cases"]

DEFAULT_VAL_SPLIT = "val"


def choose_cases(
    manifest: Manifest,
    *,
    train_splits: Sequence[str],
    val_splits: Sequence[str],
    val_fold: int | None,
) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """Training and validation cases; a patient is never in both, as every manifest guarantees.

    Args:
        manifest: A data set.
        train_splits: Splits to learn from.
        val_splits: Splits to validate on.
        val_fold: Fold of the training splits that validates instead.

    Raises:
        ConfigError: If a split or the fold does not occur, or nothing is left to learn from.
    """
    folds = {case.fold for case in manifest.cases if case.split in train_splits}
    problems = [f"no split {name!r}" for name in train_splits if name not in manifest.splits]
    # The default need not occur; what somebody wrote must.
    asked = [name for name in val_splits if name != DEFAULT_VAL_SPLIT]
    problems += [
        f"no split {name!r} to validate on" for name in asked if name not in manifest.splits
    ]
    if val_fold is not None and val_fold not in folds:
        problems.append(f"no fold {val_fold}; folds are {sorted(map(str, folds))}")
    learns = [c for c in manifest.cases if c.split in train_splits and not _is_fold(c, val_fold)]
    validates = [
        case
        for case in manifest.cases
        if (case.split in val_splits and case.split not in train_splits)
        or (case.split in train_splits and _is_fold(case, val_fold))
    ]
    if not learns and not problems:
        problems.append("no case is left to learn from")
    if problems:
        known = ", ".join(name or "(none)" for name in manifest.splits)
        text = f"manifest {manifest.name}: {'; '.join(problems)}. Its splits are: {known}."
        raise ConfigError(text)
    return tuple(learns), tuple(validates)


def _is_fold(case: Case, fold: int | None) -> bool:
    return fold is not None and case.fold == fold


def label_share(cases: Sequence[Case], *, share: float, seed: int) -> tuple[Case, ...]:
    """A share of the patients, the findings in proportion; a larger share holds every smaller one.

    Args:
        cases: Training cases.
        share: In 0..1; rounded up to whole patients.
        seed: Of the choice.
    """
    if share >= 1:
        return tuple(cases)
    groups: dict[tuple[bool | None, ...], list[str]] = {}
    for case in cases:
        members = groups.setdefault(tuple(case.findings.values()), [])
        if not any(case.patient_id in others for others in groups.values()):
            members.append(case.patient_id)
    place: dict[str, tuple[float, str]] = {}
    rng = np.random.default_rng([seed, 3])
    for key in sorted(groups, key=str):
        for number, index in enumerate(rng.permutation(len(groups[key])).tolist()):
            patient = groups[key][index]
            place[patient] = ((number + rng.random()) / len(groups[key]), patient)
    chosen = sorted(place, key=lambda patient: place[patient])[: ceil(share * len(place))]
    return tuple(case for case in cases if case.patient_id in set(chosen))


def shared_cases(train: Sequence[DataSource], val: Sequence[DataSource]) -> Iterator[str]:
    """What is on both sides, where one manifest is listed twice or two hold the same images.

    One manifest alone keeps its patients apart; see `data.manifest`.
    """
    patients = {(s.manifest.name, case.patient_id) for s in train for case in s.cases}
    checksums = {v.sha256 for s in train for case in s.cases for v in case.volumes if v.sha256}
    for source in val:
        name = source.manifest.name
        for case in source.cases:
            where = f"manifest {name}: validation case {case.case_id}"
            if (name, case.patient_id) in patients:
                yield f"{where} is of a patient to learn from; correct splits and folds"
            elif any(volume.sha256 in checksums for volume in case.volumes):
                yield f"{where} has an image to learn from (same sha256); leave one of them out"
