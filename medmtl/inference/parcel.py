"""A listed study on its way to another process, apart from the files that it is read from.

Every `Path` in the study is a file that somebody may open. It is taken out and numbered, so the
study can be opened where the files lie elsewhere. Needs `ray`, whose pickler takes functions along.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.cloudpickle import CloudPickler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.core.study import Study

__all__ = ["Parcel"]


@dataclass(frozen=True)
class Parcel:
    """A study without its files.

    Attributes:
        content: The pickled study. It knows patients and is never shown.
        files: Where its files are here.
    """

    content: bytes
    files: tuple[Path, ...]

    def __repr__(self) -> str:
        """Say nothing of what is in it."""
        return f"Parcel of {len(self.files)} files"

    @classmethod
    def of(cls, study: Study) -> Parcel:
        """Pack a study."""
        stream = io.BytesIO()
        packer = _Packer(stream)
        packer.dump(study)
        return cls(stream.getvalue(), tuple(packer.places))

    def opened(self, places: Sequence[Path] | None = None) -> Study:
        """The study, to be read from other places if they are given, in the order of `files`."""
        study: Study = _Unpacker(io.BytesIO(self.content), places or self.files).load()
        return study


class _Packer(CloudPickler):
    """Takes every path out, once."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self.places: dict[Path, int] = {}

    def persistent_id(self, thing: Any) -> int | None:
        """The number of a path; None for all else."""
        if not isinstance(thing, Path):
            return None
        return self.places.setdefault(thing.absolute(), len(self.places))


class _Unpacker(pickle.Unpickler):
    """Puts the paths in again. What it reads comes from the run's own driver."""

    def __init__(self, stream: io.BytesIO, places: Sequence[Path]) -> None:
        super().__init__(stream)
        self.places = places

    def persistent_load(self, number: int) -> Path:
        """The path of a number."""
        return self.places[number]
