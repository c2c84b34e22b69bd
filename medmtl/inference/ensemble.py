"""One bundle out of several folds: the first answers, the others say how far it spreads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medmtl.core.errors import BundleError
from medmtl.inference.bundle import load_bundle, verify_bundle, write_bundle
from medmtl.transforms.preprocessing import PreprocessingConfig

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medmtl.inference.bundle_settings import BundleSettings

__all__ = ["join_bundles"]


def join_bundles(folder: Path, members: Sequence[Path], *, out: Path) -> BundleSettings:
    """Write the bundle of `folder` again, with the weights of the members beside its own.

    Settings, card and figures are those of `folder`; so is every answer. The members are seen by
    `predict --uncertainty ensemble` only.

    Args:
        folder: The bundle that answers.
        members: Bundles of the same network and preprocessing, such as those of the folds.
        out: Where the new bundle is written; its identity is a new one.

    Raises:
        BundleError: If a bundle is missing or altered, a member differs in network or
            preprocessing, there is none, or masks are those of several folds already.
    """
    if not members:
        raise BundleError(f"Bundle {folder.name}: an ensemble needs at least one member.")
    settings = verify_bundle(folder)
    if settings.folds:
        raise BundleError(
            f"Bundle {folder.name}: its masks are the mean of {1 + len(settings.folds)} folds. "
            "With members they would be those of one; use test-time augmentation (tta)."
        )
    base = load_bundle(folder)
    further = {}
    for number, member in enumerate(members):
        verify_bundle(member)
        other = load_bundle(member)
        for part in ("network", "preprocessing"):
            if getattr(other.settings, part) != getattr(settings, part):
                raise BundleError(
                    f"Bundle {member.name}: its {part} differs from that of {folder.name}. "
                    "Members of an ensemble are trainings of one configuration."
                )
        further[f"member{number}"] = other.net.state_dict()
    return write_bundle(
        out,
        settings,
        base.net.state_dict(),
        card=(folder / "card.md").read_text(encoding="utf-8"),
        metrics_json=(folder / "metrics.json").read_text(encoding="utf-8"),
        members=further,
        is_half=isinstance(settings.preprocessing, PreprocessingConfig),  # as `folder` keeps them
    )
