"""run.json: with what the results were made, how long it took and how many there are."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medmtl.core.prediction import ModelIdentity

__all__ = ["run_record"]

_PACKAGES = (
    "medmtl", "highdicom", "monai", "nibabel", "numpy", "pillow", "pydicom", "scipy", "SimpleITK",
    "torch",
)  # fmt: skip


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "system": platform.system()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _of_all(settings: Mapping[str, Any], name: str) -> Any:
    """A setting; of several models the one that all have, else that of each by its name."""
    if name in settings:
        return settings[name]
    models = {model: own for model, own in settings.items() if isinstance(own, dict)}
    each = {model: own[name] for model, own in models.items() if name in own}
    return next(iter(each.values()), None) if len(set(each.values())) < 2 else each


def run_record(
    model: ModelIdentity,
    *,
    settings: Mapping[str, Any],
    formats: Sequence[str],
    counts: Mapping[str, int],
    this_run: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of run.json.

    Args:
        model: The model as it was loaded.
        settings: What makes one result differ from another; "device" and "backend" among them, or
            those of each model by its name, where every study goes to the one that fits it.
        formats: The file formats written.
        counts: What the result folder holds: "cases", "failures".
        this_run: What this run did: its start, seconds per stage, cases computed and resumed.

    The input's place is left out on purpose: folder names hold patient names.
    """
    return {
        "schema_version": 1,
        "model": {"name": model.name, "version": model.version, "sha256": model.sha256},
        "device": _of_all(settings, "device"),
        "backend": _of_all(settings, "backend"),
        "settings": dict(settings),
        "formats": list(formats),
        "counts": dict(counts),
        "versions": _versions(),
        "this_run": dict(this_run),
    }
