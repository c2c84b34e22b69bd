"""Which folders hold results: the given one, or several below it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from medmtl.data.result_folder import holds_results

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["Places", "find_places"]

_DEPTH = 4
_BUNDLE, _MANIFEST = "bundle.toml", "manifest.toml"


@dataclass(frozen=True)
class Places:
    """What lies below the given folder.

    Attributes:
        results: Result folders, each by its path relative to the given folder ("" for itself).
        bundles: Model bundles.
        manifests: Manifests of training data.
    """

    results: dict[str, Path]
    bundles: tuple[Path, ...]
    manifests: tuple[Path, ...] = ()


def find_places(root: Path, *, further: Iterable[Path] = ()) -> Places:
    """Result folders and bundles at most four levels down; neither is searched further.

    A folder that cannot be read counts as empty. Folders of `further` that lie outside are taken
    by their own names.
    """
    outside = [place for place in further if not place.is_relative_to(root)]
    found = _below(root)
    more = {f"{place.name}/{run}".rstrip("/"): folder for place in outside
            for run, folder in _below(place).results.items()}  # fmt: skip
    return replace(found, results=dict(sorted((more | found.results).items())))


def _below(root: Path) -> Places:
    results: dict[str, Path] = {}
    bundles: list[Path] = []
    manifests: list[Path] = []
    pending = [(root, 0)]
    while pending:
        folder, depth = pending.pop()
        files, folders = _content(folder)
        if holds_results(files.union(folders)):
            results[folder.relative_to(root).as_posix() if folder != root else ""] = folder
        elif _BUNDLE in files:
            bundles.append(folder)
        elif _MANIFEST in files:
            manifests.append(folder)
        elif depth < _DEPTH:
            pending += [(folder / name, depth + 1) for name in folders if name[0] != "."]
    return Places(results, tuple(sorted(bundles)), tuple(sorted(manifests)))


def _content(folder: Path) -> tuple[set[str], list[str]]:
    """Names of the files and of the folders, links left out: they may lead anywhere."""
    try:
        with os.scandir(folder) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    except OSError:
        return set(), []
    return {name for name, is_dir in found if not is_dir}, [n for n, is_dir in found if is_dir]
