"""What the viewer was started with; `medmtl view` hands it over as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """Fixed for the life of the server.

    Attributes:
        folder: Result folder, folder of result folders, or DICOM that is not yet analysed.
        results: Where studies analysed from the viewer are written.
        images: Further folders in which the images of the cases may lie.
        reviews: Address of the review database (SQLAlchemy URL); None for a file with the results.
        reviewer: Name that stands under a review where nobody logs in.
        host: Address that is listened on.
        port: Its port.
        base_url_path: Path before all addresses, such as "viewer"; "" for none.
        auth: TOML file with the OpenID Connect login; None where nobody logs in.
        roles_claim: Claim of the login that holds the roles.
        shows_dates: Whether study dates are read and shown.
        is_blind: Whether every reader reads blind, whatever the switch in the menu says.
        tracking_uri: Address of the MLflow store; None for the local one.
        tracking_store: Folder of the local MLflow store.
        model_cache: Folder of bundles that came from the registry.
        max_upload_mb: Largest file that a browser may send.
    """

    folder: Path
    results: Path
    reviews: str | None = None
    images: tuple[Path, ...] = ()
    reviewer: str = "reader"
    host: str = "127.0.0.1"
    port: int = 8501
    base_url_path: str = ""
    auth: Path | None = None
    roles_claim: str = "roles"
    shows_dates: bool = False
    is_blind: bool = False
    tracking_uri: str | None = None
    tracking_store: Path = Path("runs") / "mlflow"
    model_cache: Path = Path.home() / ".cache" / "medmtl" / "bundles"
    max_upload_mb: int = 200

    def as_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), default=str)

    @property
    def needs_login(self) -> bool:
        """Whether a page opens only after a login."""
        return self.auth is not None

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """The settings of such a line.

        Raises:
            ValueError: If it is no JSON object.
            TypeError: If a field is missing or not known.
        """
        record = json.loads(text)
        paths: dict[str, Path] = {
            name: Path(record[name])
            for name in ("folder", "results", "tracking_store", "model_cache")
            if name in record
        }
        auth = record.get("auth")
        paths |= {"auth": Path(auth)} if auth else {}
        images = tuple(Path(place) for place in record.get("images", ()))
        return cls(**{**record, **paths, "images": images})
