"""A bundle as an MLflow model: its files as they are, a signature, requirements, no pickle.

MLflow pickles Python objects where it is given one. Here it gets a folder and the name of the
module that reads it (`loader_module`), so the model holds nothing that runs.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medmtl.tracking.bundle_files import read_bundle
from medmtl.tracking.mlflow_store import mlflow_errors
from medmtl.tracking.provenance import git_revision, requirements

if TYPE_CHECKING:
    from medmtl.tracking.bundle_files import BundleRecord
    from medmtl.tracking.mlflow_store import Connection

__all__ = ["BUNDLE_FOLDER", "bundle_tags", "log_model", "logged_model"]

logger = logging.getLogger(__name__)

LOADER = "medmtl.inference.mlflow_loader"
BUNDLE_FOLDER = "data/bundle"
"""Where the bundle lies inside the MLflow model."""

_PATIENCE_RESULTS = 50


def bundle_tags(bundle: BundleRecord) -> dict[str, str]:
    """What a model or a version is found by."""
    revision = git_revision()
    return {
        "medmtl.name": bundle.name,
        "medmtl.version": bundle.version,
        "medmtl.sha256": bundle.sha256,
        "medmtl.licence": bundle.licence,
        "medmtl.git_revision": revision.commit if revision else "installed copy",
    }


def logged_model(connection: Connection, bundle: BundleRecord) -> Any | None:
    """The model of the store that holds this very bundle; None where there is none."""
    with mlflow_errors("the search for a model"):
        experiments = [found.experiment_id for found in connection.client.search_experiments()]
        found = connection.client.search_logged_models(
            experiments,
            filter_string=f"tags.`medmtl.sha256` = '{bundle.sha256}'",
            max_results=_PATIENCE_RESULTS,
        )
    ready = [model for model in found if str(model.status) == "READY"]
    # The one that a training run made says more than one that was only registered.
    return max(ready, key=lambda model: bool(model.source_run_id), default=None)


def log_model(
    connection: Connection, folder: Path, *, experiment_id: str, run_id: str | None = None
) -> str:
    """Put a bundle into the store as a model.

    Args:
        connection: The store.
        folder: The bundle; its checksums are recomputed.
        experiment_id: Where the model is listed.
        run_id: The run that made it, if there is one.

    Returns:
        MLflow's id of the model.

    Raises:
        BundleError: If the bundle is damaged.
        mlflow.exceptions.MlflowException: If the store does not take it.
    """
    from mlflow.entities import LoggedModelOutput

    bundle = read_bundle(folder)
    client = connection.client
    model = client.create_logged_model(
        experiment_id,
        name=_model_name(bundle.name),
        source_run_id=run_id,
        tags=bundle_tags(bundle),
        model_type="medmtl-bundle",
    )
    is_complete = False
    try:
        with tempfile.TemporaryDirectory(prefix="medmtl-") as place:
            saved = _save(bundle, Path(place), model_id=model.model_id, run_id=run_id)
            client.log_model_artifacts(model.model_id, str(saved))
        is_complete = True
    finally:
        client.finalize_logged_model(model.model_id, "READY" if is_complete else "FAILED")
    if run_id is not None:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    logger.info("MLflow: bundle %s %s is model %s", bundle.name, bundle.version, model.model_id)
    return str(model.model_id)


def _save(bundle: BundleRecord, place: Path, *, model_id: str, run_id: str | None) -> Path:
    """Write the MLflow model; only the files that the bundle has a checksum for."""
    import mlflow.pyfunc
    from mlflow.models import Model

    staged = place / "bundle"
    staged.mkdir()
    for name in bundle.files:
        shutil.copyfile(bundle.folder / name, staged / name)
    model = Model(artifact_path="model", run_id=run_id, model_id=model_id)
    with warnings.catch_warnings():
        # An example table would be written by code that pandas 3.1 deprecates (mlflow/models/
        # utils.py, `df.columns == range(...)`); the signature says what goes in.
        warnings.filterwarnings("ignore", message=".*input example was not provided")
        mlflow.pyfunc.save_model(
            path=str(place / "model"),
            loader_module=LOADER,
            data_path=str(staged),
            mlflow_model=model,
            signature=_signature(bundle),
            pip_requirements=requirements(),
            metadata=bundle_tags(bundle),
        )
    return place / "model"


def _signature(bundle: BundleRecord) -> Any:
    """Paths in; per case its masks and findings out."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    answers = [
        ColSpec(DataType.long, "input"),
        ColSpec(DataType.string, "case_id"),
        ColSpec(DataType.string, "status"),
        ColSpec(DataType.string, "masks"),
    ]
    for name in bundle.findings:
        answers.append(ColSpec(DataType.double, f"probability_{name}", required=False))
        answers.append(ColSpec(DataType.boolean, f"decision_{name}", required=False))
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string, "path")]),
        outputs=Schema(answers),
        params=ParamSchema(
            [
                ParamSpec("out", DataType.string, "medmtl-results"),
                ParamSpec("device", DataType.string, "auto"),
            ]
        ),
    )


def _model_name(name: str) -> str:
    """MLflow allows no / : . % " ' in the name of a model."""
    return "".join("-" if letter in "/:.%\"'" else letter for letter in name) or "bundle"
