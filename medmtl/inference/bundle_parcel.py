"""A bundle's files on their way to other machines, so that all of them run the same model."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medmtl.inference.predictor import AnyPredictor, AutoPredictor

__all__ = ["BundleParcel"]


@dataclass(frozen=True)
class BundleParcel:
    """What loads a model elsewhere.

    Attributes:
        name: Of the bundle's folder; None for the shipped models, which are installed there.
        files: Content by name relative to the folder.
        options: Of `load_predictor`, without the device.
    """

    name: str | None
    files: Mapping[str, bytes] = field(repr=False)
    options: Mapping[str, Any]

    @classmethod
    def of(cls, folder: Path | None, **options: Any) -> BundleParcel:
        """Read a bundle's folder."""
        if folder is None:
            return cls(None, {}, options)
        paths = [path for path in folder.rglob("*") if path.is_file()]
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
        return cls(folder.name, files, options)

    def load(self, device: str) -> AnyPredictor | AutoPredictor:
        """Load the model on "cpu" or "cuda".

        Raises:
            BundleError: If the bundle is altered.
            ConfigError: If an option is unknown, or does not fit the model.
        """
        from medmtl.inference.predictor import load_predictor

        if self.name is None:
            return load_predictor(None, device=device, **self.options)
        with tempfile.TemporaryDirectory(prefix="medmtl-") as aside:
            folder = Path(aside) / self.name
            for name, content in self.files.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            return load_predictor(folder, device=device, **self.options)
