"""A user's copy of a data set: what lies in it, and where files made from it go."""

from __future__ import annotations

import csv
import io
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medmtl.core.errors import ConfigError, OutputError
from medmtl.data.series_file import SERIES_SUFFIX, series_text
from medmtl.nifti.names import SUFFIX, is_nifti_name
from medmtl.report.nifti import write_image, write_label_map

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry
    from medmtl.core.volume import Volume

__all__ = ["DataCopy", "nifti_files", "read_json", "read_table"]

MADE = "medmtl"
"""Folder below the data root for files that a builder had to make."""

LINKED = "source"
"""Folder below a separate data root with links to the user's copy."""


@dataclass(frozen=True)
class DataCopy:
    """A data set on this machine.

    Attributes:
        source: The user's copy, only read unless it is the data root.
        folder: What the manifest's paths start from: the copy itself, or another folder that gets
            links to it where files have to be made and the copy must stay as it is.
    """

    source: Path
    folder: Path

    @classmethod
    def at(cls, root: Path, made_in: Path | None = None) -> DataCopy:
        """The copy at `root`; files that have to be made go into `made_in`, else below `root`.

        Raises:
            ConfigError: If there is no such folder.
        """
        if not root.is_dir():
            message = f"{root.name!r} is no folder, expected a copy of the data set or its images."
            raise ConfigError(f"{message} Give an existing one with --root or --images.")
        is_apart = made_in is not None and made_in.resolve() != root.resolve()
        return cls(root, made_in if made_in is not None and is_apart else root)

    def name_of(self, path: Path) -> str:
        """The path of a file of the copy as a manifest states it; linked where need be.

        Raises:
            OutputError: If the link cannot be made.
        """
        relative = path.relative_to(self.source)
        if self.folder == self.source:
            return relative.as_posix()
        link = self.folder / LINKED / relative
        try:
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.abspath(path))  # noqa: PTH100 - links inside a copy stay as they are
        except OSError as error:
            raise _unwritable(error) from error
        return link.relative_to(self.folder).as_posix()

    def write_labels(self, name: str, labels: NDArray[Any], geometry: Geometry) -> str:
        """Write a label map, whole or not at all; the path as a manifest states it.

        Raises:
            OutputError: If it cannot be written.
        """
        return self._write(name, lambda path: write_label_map(path, labels, geometry))

    def write_image(self, name: str, volume: Volume) -> str:
        """Write an image, whole or not at all; the path as a manifest states it.

        Raises:
            OutputError: If it cannot be written.
        """
        return self._write(name, lambda path: write_image(path, volume))

    def write_series(self, name: str, volume_id: str, files: Sequence[Path]) -> str:
        """Write which images a DICOM series is made of; the path as a manifest states it.

        Raises:
            OutputError: If it cannot be written.
        """
        text = series_text(self.folder / MADE / name, volume_id, files)
        return self._write(name, lambda path: _write_text(path, text), suffix=SERIES_SUFFIX)

    def _write(self, name: str, write: Callable[[Path], None], *, suffix: str = ".nii.gz") -> str:
        path = self.folder / MADE / f"{name}{suffix}"
        aside = path.with_name(f".{path.name}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(aside)
            aside.replace(path)
        except OSError as error:
            raise _unwritable(error) from error
        return path.relative_to(self.folder).as_posix()


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _unwritable(error: OSError) -> OutputError:
    return OutputError(
        f"Files made for the manifest could not be written ({error.strerror}). "
        "Give a folder that can be written as --made-in; it becomes the data root."
    )


def nifti_files(folder: Path) -> dict[str, Path]:
    """NIfTI files of a folder by name without suffix, sorted; hidden ones are no images.

    Archives made on macOS hold a `._name.nii.gz` beside each file.
    """
    if not folder.is_dir():
        return {}
    return {
        SUFFIX.sub("", path.name): path
        for path in sorted(folder.iterdir())
        if is_nifti_name(path.name) and not path.name.startswith(".") and path.is_file()
    }


def read_json(path: Path) -> Any:
    """The content of a JSON file; None where there is none.

    Raises:
        ConfigError: If it is there but cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path.name} cannot be read as JSON. Download it again.") from error


def read_table(path: Path, *, delimiter: str = ",") -> list[dict[str, str]]:
    """The rows of a table with a header line; none where there is no such file.

    Raises:
        ConfigError: If it is there but cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text), delimiter=delimiter, strict=True))
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path.name} cannot be read as a table. Download it again.") from error
    return [
        {key.strip(): (value or "").strip() for key, value in row.items() if isinstance(key, str)}
        for row in rows
    ]
