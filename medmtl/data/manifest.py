"""A manifest folder: read with every problem listed at once, checked against files, written."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from medmtl.core.durable import replace_file
from medmtl.core.errors import ConfigError, OutputError
from medmtl.data.case_table import read_cases, table_text
from medmtl.data.cases import Case, Manifest, VolumeRow
from medmtl.data.schema_file import Header, header_text, read_header

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "Case",
    "Manifest",
    "VolumeRow",
    "check_files",
    "file_sha256",
    "find_manifest",
    "manifest_sha256",
    "read_manifest",
    "write_manifest",
]

_LISTED_PROBLEMS = 50


def read_manifest(folder: Path) -> Manifest:
    """Read and check `manifest.toml` and `cases.csv`; no image is opened.

    Raises:
        ConfigError: Naming every problem of both files at once.
    """
    header, problems = read_header(folder / "manifest.toml")
    schema = (header or Header(name="", licence="", citation="", source="")).label_schema()
    cases, more = read_cases(folder / "cases.csv", schema)
    problems += more
    if header is None or problems:
        raise ConfigError(listed_problems(f"manifest {folder.name}", problems))
    return Manifest(
        name=header.name,
        licence=header.licence,
        citation=header.citation,
        source=header.source,
        modality=header.modality,
        schema=schema,
        cases=cases,
    )


def check_files(
    cases: Iterable[Case], data_root: Path, *, with_checksums: bool = False
) -> list[str]:
    """Problems with the files of these cases: missing, or another content than stated.

    Args:
        cases: Cases whose paths are relative to the data root.
        data_root: Folder of the images.
        with_checksums: Also read every image and compare its SHA-256 where one is stated.
    """
    problems: list[str] = []
    for case in cases:
        for volume in case.volumes:
            where = f"case {case.case_id}, volume {volume.volume_id}"
            problems += [
                f"{where}: no file {path} below the data root"
                for path in (volume.image, volume.segmentation)
                if path and not (data_root / path).is_file()
            ]
            image = data_root / volume.image
            if with_checksums and volume.sha256 and image.is_file():
                found = file_sha256(image)
                if found != volume.sha256:
                    problems.append(f"{where}: sha256 of {volume.image} is {found[:12]}..., stated "
                                    f"{volume.sha256[:12]}...")  # fmt: skip
    return problems


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write `manifest.toml` and `cases.csv`.

    Raises:
        OutputError: If the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / "manifest.toml", header_text(manifest).encode())
        replace_file(folder / "cases.csv", table_text(manifest.cases, manifest.schema).encode())
    except OSError as error:
        message = f"{folder.name}: manifest could not be written ({error.strerror})."
        raise OutputError(message) from error


def find_manifest(folder: str | Path) -> Path:
    """The folder; for a `data_manifests/NAME` that is not there, the one that medmtl ships.

    So a shipped configuration works from anywhere: in a wheel the manifests lie inside the package,
    in a checkout beside it.
    """
    path, package = Path(folder), Path(__file__).resolve().parents[1]
    if path.exists() or path.parent != Path("data_manifests"):
        return path
    shipped = (package / "_data_manifests", package.parent / "data_manifests")
    return next((one / path.name for one in shipped if (one / path.name).exists()), path)


def manifest_sha256(folder: Path) -> str:
    """One checksum of both files, to say which manifest a result stands on."""
    digest = hashlib.sha256()
    for name in ("manifest.toml", "cases.csv"):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Lower-case hex SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def listed_problems(what: str, problems: list[str]) -> str:
    """All problems in one text; the tail of a very long list is counted."""
    shown = problems[:_LISTED_PROBLEMS]
    more = len(problems) - len(shown)
    tail = [f"and {more} more"] if more else []
    return f"{what}: {len(problems)} problem(s): " + "; ".join([*shown, *tail])
