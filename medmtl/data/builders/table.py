"""All data sets by name, and the last step that every manifest goes through."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from medmtl.core.errors import ConfigError
from medmtl.data.builders.acdc import build_acdc_manifest
from medmtl.data.builders.amos import build_amos_manifest
from medmtl.data.builders.brats import build_brats_manifest
from medmtl.data.builders.ct_rate import build_ct_rate_manifest
from medmtl.data.builders.kits import build_kits_manifest
from medmtl.data.builders.lidc import build_lidc_manifest
from medmtl.data.builders.msd import build_msd_manifest
from medmtl.data.builders.totalsegmentator import build_totalsegmentator_manifest
from medmtl.data.check import Problem, check_cases
from medmtl.data.splits import with_folds, with_test

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from medmtl.data.builders.copy import DataCopy
    from medmtl.data.cases import Case, Manifest

__all__ = ["BUILDERS", "Checked", "build_checked", "check_built"]

BUILDERS: Mapping[str, Callable[[DataCopy], tuple[Manifest, list[str]]]] = {
    "acdc": lambda data: build_acdc_manifest(data.source),
    "amos": build_amos_manifest,
    "brats": build_brats_manifest,
    "ct-rate": build_ct_rate_manifest,
    "kits": build_kits_manifest,
    "lidc": build_lidc_manifest,
    "msd": build_msd_manifest,
    "totalsegmentator": build_totalsegmentator_manifest,
}
"""By the name on the command line."""


@dataclass(frozen=True)
class Checked:
    """A manifest of cases that can be used, and all that was wrong.

    Attributes:
        manifest: Without the cases that have a disabling problem; with folds, in which patients
            with the same image are together.
        layout: What the builder found missing or strange in the copy.
        problems: What the check of the files found.
        left_out: Cases that the builder listed and the check took out.
    """

    manifest: Manifest
    layout: tuple[str, ...]
    problems: tuple[Problem, ...]
    left_out: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether the copy is as published and every case of it is in the manifest."""
        return not self.layout and not self.left_out


def build_checked(
    name: str,
    data: DataCopy,
    *,
    with_voxels: bool = True,
    track: Callable[[Sequence[Case]], Iterable[Case]] = iter,
) -> Checked:
    """Build the manifest of a data set and check every file in it.

    Args:
        name: Key of `BUILDERS`.
        data: The user's copy.
        with_voxels: Read every voxel; else only headers and checksums.
        track: Wraps the cases, to show progress.

    Raises:
        ConfigError: If no usable case is left.
        OutputError: If a file that has to be made cannot be written.
    """
    manifest, layout = BUILDERS[name](data)
    return check_built(manifest, layout, data, with_voxels=with_voxels, track=track)


def check_built(
    manifest: Manifest,
    layout: Sequence[str],
    data: DataCopy,
    *,
    folds: Literal["deal", "keep"] = "deal",
    test_share: float | None = None,
    with_voxels: bool = True,
    track: Callable[[Sequence[Case]], Iterable[Case]] = iter,
) -> Checked:
    """Check every file of a manifest that was built, and take out what cannot be used.

    Args:
        manifest: Its paths are relative to the folder of `data`.
        layout: What the builder found missing or strange.
        data: Where the files lie.
        folds: Dealt out anew, or as they stand.
        test_share: Of the patients, who become split `test` before folds are dealt; None for none.
        with_voxels: Read every voxel; else only headers and checksums.
        track: Wraps the cases, to show progress.

    Raises:
        ConfigError: If no usable case is left.
    """
    cases = manifest.cases
    if folds == "deal":
        cases = tuple(replace(case, fold=None) for case in cases)
    problems = check_cases(
        cases, manifest.schema, data.folder,
        with_voxels=with_voxels, with_checksums=False, track=track,
    )  # fmt: skip
    disabled = {problem.case_id for problem in problems if problem.is_disabling}
    kept = [case for case in cases if case.case_id not in disabled]
    if not kept:
        shown = "; ".join(str(problem) for problem in problems[:3])
        raise ConfigError(f"{manifest.name}: no usable case is left. For example: {shown}")
    patients = {case.case_id: case.patient_id for case in kept}
    twins = [
        (patients[problem.twin], patients[problem.case_id])
        for problem in problems
        if problem.twin in patients and problem.case_id in patients
    ]
    if test_share is not None:
        kept = list(with_test(kept, share=test_share, together=twins))
    dealt = with_folds(kept, together=twins) if folds == "deal" else tuple(kept)
    return Checked(
        manifest=replace(manifest, cases=dealt),
        layout=tuple(layout),
        problems=tuple(problems),
        left_out=tuple(case.case_id for case in manifest.cases if case.case_id in disabled),
    )
