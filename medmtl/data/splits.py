"""Which cases of a manifest a program works on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from medmtl.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from medmtl.data.cases import Case, Manifest

__all__ = ["FOLDS", "choose_split", "require_truth", "with_folds", "with_test"]

FOLDS = 5
"""Folds that a manifest gets where its authors give none."""


def choose_split(manifest: Manifest, split: str | None) -> tuple[str, tuple[Case, ...]]:
    """The cases to evaluate: of the split asked for, else of `test`, else all.

    Returns:
        The name for metrics.json ("all" where nothing was chosen) and the cases.

    Raises:
        ConfigError: If the split does not occur.
    """
    if split is None:
        if "test" in manifest.splits:
            return "test", manifest.in_split("test")
        return "all", manifest.cases
    cases = manifest.in_split(split)
    if not cases:
        known = ", ".join(name or "(none)" for name in manifest.splits)
        message = f"--split: found {split!r}, but manifest {manifest.name} has only: {known}."
        raise ConfigError(message)
    return split, cases


def require_truth(manifest: Manifest, cases: Sequence[Case], split: str) -> None:
    """Refuse cases that nothing can be measured on, such as a test set whose truth is withheld.

    Args:
        manifest: Whose other splits are named.
        cases: The chosen ones.
        split: Their name.

    Raises:
        ConfigError: If no case has a mask or a known finding.
    """
    if any(case.has_truth for case in cases):
        return
    usable = sorted({case.split or "(none)" for case in manifest.cases if case.has_truth})
    raise ConfigError(
        f"manifest {manifest.name}, split {split!r}: found {len(cases)} cases without any mask or "
        "known finding, expected truth to measure against. "
        + (f"Choose with --split: {', '.join(usable)}." if usable else "No split has any.")
    )


def with_folds(
    cases: Sequence[Case],
    *,
    split: str = "train",
    count: int = FOLDS,
    together: Sequence[tuple[str, str]] = (),
) -> tuple[Case, ...]:
    """The cases with cross-validation folds; without one in any other split.

    Patients with the same findings follow each other and are dealt out in turn, so that every fold
    holds as many of each kind as it can, and a patient's cases stay together. The same cases always
    get the same folds.

    Args:
        cases: In any order, which is kept.
        split: The split that is divided.
        count: Number of folds.
        together: Pairs of patients who share a fold, as where one person occurs under two numbers.
            Whoever is joined by a chain of pairs gets the fold of the first of them in the table.
    """
    kinds: dict[str, tuple[str, ...]] = {}
    for case in cases:
        if case.split == split:
            kind = tuple(str(value) for _, value in sorted(case.findings.items()))
            kinds.setdefault(case.patient_id, kind)
    dealt = sorted(kinds, key=lambda patient: kinds[patient])  # stable: ties in table order
    folds = {patient: place % count for place, patient in enumerate(dealt)}
    places = {patient: place for place, patient in enumerate(kinds)}
    for group in _groups(together):
        members = group & folds.keys()
        if members:
            folds |= dict.fromkeys(members, folds[min(members, key=places.__getitem__)])
    return tuple(
        replace(case, fold=folds[case.patient_id] if case.split == split else None)
        for case in cases
    )


def _groups(pairs: Iterable[tuple[str, str]]) -> Iterable[set[str]]:
    """Everyone who is joined by a chain of pairs, whatever their order."""
    groups: dict[str, set[str]] = {}
    for pair in pairs:
        joined = set[str]().union(*(groups.get(name, {name}) for name in pair))
        groups |= dict.fromkeys(joined, joined)
    return groups.values()


def with_test(
    cases: Sequence[Case], *, share: float, together: Sequence[tuple[str, str]] = ()
) -> tuple[Case, ...]:
    """The cases with about this share of the patients of split `train` in split `test`.

    Args:
        cases: In any order, which is kept.
        share: Above 0 and at most one half; they are dealt out as folds are, one of `1 / share`.
        together: Pairs of patients who stay on one side, see `with_folds`.

    Raises:
        ConfigError: If there are too few patients to keep one apart.
    """
    count = round(1 / share)
    patients = len({case.patient_id for case in cases if case.split == "train"})
    if patients < count:
        raise ConfigError(
            f"--test-share {share:g}: found {patients} patients, expected at least {count}. "
            "Leave it out, or keep a larger share apart."
        )
    dealt = with_folds(cases, count=count, together=together)
    return tuple(
        replace(case, split="test" if one.fold == count - 1 else case.split)
        for case, one in zip(cases, dealt, strict=True)
    )
