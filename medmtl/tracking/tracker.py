"""What a run tells its tracker, and a tracker that keeps nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.figure import Figure

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]


class Tracker(Protocol):
    """Where one run is written down while it happens.

    Nothing that identifies a patient goes in: cases are named by their pseudonymous ids, and files
    by their names, never by the folder they came from.
    """

    def log_config(self, config: Mapping[str, object]) -> None:
        """Keep the resolved config whole, and its single values as searchable parameters."""
        ...

    def log_dataset(self, name: str, sha256: str, context: str) -> None:
        """Keep which manifest was read, by checksum; `context` is its use, such as "train"."""
        ...

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Keep numbers of one step; NaN and infinite ones are left out, as not measured."""
        ...

    def log_text(self, text: str, name: str) -> None:
        """Keep a text as the artifact `name`, such as "report/summary.md"."""
        ...

    def log_file(self, path: Path, folder: str = "") -> None:
        """Keep a copy of one file under its own name in `folder` of the artifacts."""
        ...

    def log_figure(self, figure: Figure, name: str) -> None:
        """Keep a plot as the artifact `name`, such as "figures/roc.png"."""
        ...

    def log_bundle(self, folder: Path) -> None:
        """Keep a model bundle as a model of this run."""
        ...

    def close(self, status: RunStatus) -> None:
        """End the run with its status; nothing may be logged after that."""
        ...


class NoTracker:
    """A tracker for runs that nobody tracks: it accepts everything and keeps nothing."""

    def log_config(self, config: Mapping[str, object]) -> None:
        """Accept the config."""

    def log_dataset(self, name: str, sha256: str, context: str) -> None:
        """Accept the name of a manifest."""

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Accept numbers."""

    def log_text(self, text: str, name: str) -> None:
        """Accept a text."""

    def log_file(self, path: Path, folder: str = "") -> None:
        """Accept a file."""

    def log_figure(self, figure: Figure, name: str) -> None:
        """Accept a plot."""

    def log_bundle(self, folder: Path) -> None:
        """Accept a bundle."""

    def close(self, status: RunStatus) -> None:
        """Accept the end."""
