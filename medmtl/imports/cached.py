"""A model folder of nnU-Net given as `--model`: imported once, kept by its checksum."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from typing import TYPE_CHECKING

from medmtl.core.errors import BundleError, OutputError
from medmtl.imports.nnunet import import_nnunet
from medmtl.inference.bundle import verify_bundle

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["cached_import", "is_nnunet_folder"]

logger = logging.getLogger(__name__)

_FORM = b"4"
"""Changed whenever an import of the same folder gives another bundle."""
_OPTION = re.compile(r"--[a-z]+")
_SIGNS = ("plans.json", "dataset.json", "plans.pkl", "fold_*")


def is_nnunet_folder(path: Path) -> bool:
    """Whether a path looks like a model folder of nnU-Net, whole or not, and not like a bundle."""
    is_bundle = (path / "bundle.toml").exists()
    return not is_bundle and any(any(path.glob(sign)) for sign in _SIGNS)


def cached_import(folder: Path, *, cache: Path) -> Path:
    """The bundle of a model folder; imported where the cache does not hold it.

    Args:
        folder: Of nnU-Net.
        cache: Folder of bundles by checksum.

    Raises:
        BundleError: If the folder cannot be imported.
        OutputError: If the cache cannot be written.
    """
    out = cache / f"nnunet-{_checksum(folder)[:24]}"
    if out.is_dir() and not _is_intact(out):
        logger.warning("%s in the cache was damaged; the folder is imported again", out.name)
        shutil.rmtree(out, ignore_errors=True)
    if not out.is_dir():
        try:
            import_nnunet(folder, out)
        except BundleError as error:
            raise BundleError(_with_command(str(error), folder)) from error
        except OutputError:
            if not out.is_dir():  # another process may have been faster
                raise
        verify_bundle(out)
    return out


def _with_command(text: str, folder: Path) -> str:
    """Where a message advises options of the import, the command that has them."""
    if not (options := " ".join(f"{one} ..." for one in dict.fromkeys(_OPTION.findall(text)))):
        return text
    command = f"medmtl models import nnunet {folder} -o BUNDLE {options}"
    return f"{text} That is an option of the import: run `{command}` first, then --model BUNDLE."


def _is_intact(bundle: Path) -> bool:
    try:
        verify_bundle(bundle)
    except BundleError:
        return False
    return True


def _checksum(folder: Path) -> str:
    """Of plans, labels and every checkpoint, with their names."""
    digest = hashlib.sha256(_FORM)
    plans, dataset = folder / "plans.json", folder / "dataset.json"
    for path in (plans, dataset, *sorted(folder.glob("fold_*/checkpoint_*.pth"))):
        digest.update(f"\n{path.relative_to(folder).as_posix()}\n".encode())
        if path.is_file():
            with path.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
