"""`[tracking]`: where a run is written down."""

from __future__ import annotations

from medmtl.config.section import Section

__all__ = ["TrackingConfig"]


class TrackingConfig(Section):
    """Where the run is written down.

    Attributes:
        enabled: False tracks nothing.
        uri: MLflow tracking server; None is `MLFLOW_TRACKING_URI`, or else a local SQLite store.
        store: Folder of the local store; None is `mlflow` beside the run folder.
        experiment: Name that groups runs.
        run_name: None draws a new one, so two unnamed runs never merge.
    """

    enabled: bool = True
    uri: str | None = None
    store: str | None = None
    experiment: str = "medmtl"
    run_name: str | None = None
