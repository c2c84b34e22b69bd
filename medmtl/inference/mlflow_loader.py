"""A bundle behind MLflow's `pyfunc` interface: paths in, one row per case out.

MLflow finds this module by its name in the model's description and calls `_load_pyfunc`; nothing
here knows MLflow, and nothing is unpickled.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medmtl.data.intake import open_input
from medmtl.inference.batch import BatchOptions, run_batch
from medmtl.inference.predictor import load_predictor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pandas import DataFrame

    from medmtl.inference.batch import Analyser

__all__ = ["BundleModel"]

FORMATS = ("nifti", "json")


class BundleModel:
    """What `mlflow.pyfunc.load_model` gives back inside its own wrapper.

    Args:
        folder: The bundle.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._analysers: dict[str, Analyser] = {}

    def predict(self, data: DataFrame, params: Mapping[str, Any] | None = None) -> DataFrame:
        """Analyse every input.

        Args:
            data: Column `path`: DICOM or NIfTI files or folders, zips, DICOMDIRs.
            params: `out`, the result folder, which resumes like that of `medmtl predict`, and
                `device`.

        Returns:
            One row per case: `input` (row of `data`), `case_id`, `status`, `masks` (a JSON list of
            the label maps' paths), and `probability_<finding>` and `decision_<finding>`.

        Raises:
            MedmtlError: If an input cannot be read at all, or the folder not be written.
        """
        import pandas

        options = dict(params or {})
        out = Path(str(options.get("out", "medmtl-results")))
        analyser = self._analyser(str(options.get("device", "auto")))
        rows = [
            row
            for number, path in enumerate(data["path"].tolist())
            for row in _analyse(Path(path), analyser, out=out, number=number)
        ]
        return pandas.DataFrame(rows)

    def _analyser(self, device: str) -> Analyser:
        if device not in self._analysers:
            self._analysers[device] = load_predictor(self._folder, device=device, cam="none")
        return self._analysers[device]


def _analyse(path: Path, analyser: Analyser, *, out: Path, number: int) -> Iterator[dict[str, Any]]:
    outcomes = run_batch(
        open_input(path), analyser, out=out, input_path=path, options=BatchOptions(formats=FORMATS)
    )
    for outcome in outcomes:
        row = {"input": number, "case_id": outcome.case_id, "status": outcome.status}
        yield {**row, **_answers(out / outcome.case_id, is_there=outcome.failure is None)}


def _answers(folder: Path, *, is_there: bool) -> dict[str, Any]:
    if not is_there:
        return {"masks": "[]"}
    case = json.loads((folder / "case.json").read_bytes())
    masks = [
        str(folder / volume["id"] / "segmentation.nii.gz") for volume in case["source"]["volumes"]
    ]
    answers: dict[str, Any] = {"masks": json.dumps(masks)}
    for finding in case["findings"]:
        answers[f"probability_{finding['name']}"] = finding["probability"]
        answers[f"decision_{finding['name']}"] = finding["decision"]
    return answers


def _load_pyfunc(data_path: str) -> BundleModel:
    """Called by MLflow with the place of the bundle."""
    return BundleModel(Path(data_path))
