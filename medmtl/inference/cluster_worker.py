"""One process of a cluster that holds the model and answers for one study after another.

Nothing here knows of Ray. Calls come from several threads, so that one study is read and another
written while the network works on a third; what goes wrong comes back as a value, because the text
of an exception would stand in Ray's logs.
"""

from __future__ import annotations

import os
import tempfile
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl import __version__
from medmtl.core.errors import ConfigError, MedmtlError, OutputError
from medmtl.inference.batch import advanced, begin_case, report_case
from medmtl.inference.case_store import output_errors
from medmtl.inference.failure import attempt
from medmtl.nifti.names import SUFFIX
from medmtl.report.table import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from medmtl.core.prediction import ModelIdentity
    from medmtl.core.study import Study
    from medmtl.inference.batch import Analyser
    from medmtl.inference.parcel import Parcel

    Contents = Sequence[NDArray[np.uint8]]

__all__ = ["CaseWorker", "Facts", "Order", "Probe", "Worked", "bytes_of"]


@dataclass(frozen=True)
class Probe:
    """Files of the driver: a worker that sees the very same ones shares its folders.

    Attributes:
        source: A file of the input with its size and time (ns); None to say that none is shared.
        token: A file of the result folder with a name that no other run has; None likewise.
    """

    source: tuple[Path, int, int] | None
    token: Path | None

    def sees_source(self) -> bool:
        """Whether the input lies here under the same path."""
        if self.source is None:
            return False
        path, size, time_ns = self.source
        try:
            status = path.stat()
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == (size, time_ns)

    def sees_token(self) -> bool:
        """Whether the result folder lies here under the same path."""
        return self.token is not None and self.token.is_file()


@dataclass(frozen=True)
class Facts:
    """What a worker says of itself once its model is loaded."""

    version: str
    model: ModelIdentity
    settings: Mapping[str, Any]
    sees_source: bool
    sees_token: bool


@dataclass(frozen=True)
class Order:
    """One case to work on.

    Attributes:
        case_id: The case.
        parcel: The study.
        resume: See `CaseStore.is_finished`.
        formats: What is written.
        folder: A new folder in the shared result folder; None to send the files back.
    """

    case_id: str
    parcel: Parcel
    resume: Mapping[str, str]
    formats: tuple[str, ...]
    folder: Path | None


@dataclass(frozen=True)
class Worked:
    """A case that is written: its seconds per stage, and its files where they are sent back."""

    seconds: Mapping[str, float]
    files: Mapping[str, NDArray[np.uint8]] | None


def bytes_of(path: Path) -> NDArray[np.uint8]:
    """The content of a file, in a form that Ray moves without copying."""
    return np.fromfile(path, np.uint8)


class CaseWorker:
    """Holds one model on one device.

    Args:
        load: Makes the analyser.
        cores: Threads that the network may use; 0 leaves it to the libraries.
        is_alone: The process does nothing else, so its output may be silenced.
    """

    def __init__(self, load: Callable[[], Analyser], *, cores: int = 0, is_alone: bool) -> None:
        if is_alone:
            _silence()
        self._load = load
        self._cores = cores
        self._turn = threading.Lock()
        self._analyser: Analyser | None = None

    def start(self, probe: Probe) -> Facts | MedmtlError:
        """Load the model."""
        try:
            if self._cores:
                import torch

                torch.set_num_threads(self._cores)
            analyser = self._analyser = self._load()
        except MedmtlError as error:
            return error
        except Exception as error:  # noqa: BLE001 - its text may name places of the other machine
            return ConfigError(f"The model could not be loaded: {type(error).__name__}.")
        return Facts(
            __version__,
            analyser.identity,
            dict(analyser.settings),
            probe.sees_source(),
            probe.sees_token(),
        )

    def work(
        self, order: Order, contents: Contents | None = None
    ) -> Worked | Failure | OutputError:
        """Read, analyse and write one case.

        Args:
            order: What to do.
            contents: The parcel's files in their order; None where they lie here.
        """
        try:
            with tempfile.TemporaryDirectory(prefix="medmtl-") as aside:
                return self._work(order, contents, Path(aside))
        except OutputError as error:
            return error

    def _work(self, order: Order, contents: Contents | None, aside: Path) -> Worked | Failure:
        analyser, case_id = self._analyser, order.case_id
        if analyser is None:
            message = "work before start"
            raise RuntimeError(message)
        study = attempt(case_id, "read", lambda: _opened(order.parcel, contents, aside))
        if isinstance(study, Failure):
            return study
        begun = begin_case(study, analyser)
        if isinstance(begun, Failure):
            return begun
        with self._turn:
            begun = advanced(case_id, begun)
        if isinstance(begun, Failure):
            return begun
        folder = order.folder or aside / "case"
        seconds = report_case(study, begun, folder, formats=order.formats, resume=order.resume)
        if isinstance(seconds, Failure):
            return seconds
        with output_errors(f"Case {case_id}"):
            return Worked(seconds, None if order.folder else _files(folder))


def _opened(parcel: Parcel, contents: Contents | None, aside: Path) -> Study:
    """The study; files that were sent along get names of our own and keep a NIfTI ending."""
    if contents is None:
        return parcel.opened()
    places = []
    for number, (path, content) in enumerate(zip(parcel.files, contents, strict=True)):
        suffix = SUFFIX.search(path.name)
        places.append(aside / f"{number:07d}{suffix[0] if suffix else ''}")
        content.tofile(places[-1])
    return parcel.opened(places)


def _files(folder: Path) -> dict[str, NDArray[np.uint8]]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): bytes_of(path) for path in paths}


def _silence() -> None:
    """Ray keeps what its processes print, and messages of libraries quote header values."""
    warnings.simplefilter("ignore")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)
