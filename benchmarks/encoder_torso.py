"""A diagnosis head on nnU-Net, on generated torso CT: as `encoder_acdc.py`, on the phantom.

    python -m benchmarks.encoder_torso [--cases N] [--work DIR]

See `encoder_arms.py`. The last fifth of the phantoms is held out. The joint network from nothing is
the shipped `torso-ct-phantom`, which learned longer, from 156 other phantoms.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from benchmarks.encoder_arms import Split, arguments, measure
from benchmarks.record import ROOT
from medmtl.config import load_config
from medmtl.data.manifest import read_manifest
from medmtl.inference.bundle import find_bundle
from medmtl.inference.evaluate import Evaluation
from medmtl.inference.predictor import load_predictor
from medmtl.metrics.scores import CaseScore
from medmtl.report.table import Failure

if TYPE_CHECKING:
    from pathlib import Path

_STEPS = 100
TUNING: dict[str, dict[str, Any]] = {
    "trainer": {"lr": 5e-5},
}


def main() -> None:
    """Generate, then measure."""
    parser = arguments(__doc__, name="encoder_torso", minutes=15)
    parser.add_argument("--cases", type=int, default=120)
    options = parser.parse_args()
    data = options.work / "data"
    if not (data / "manifest.toml").exists():
        program = "pipelines.recipes.torso_manifest"
        command = [sys.executable, "-m", program, "--cases", str(options.cases), "-o", str(data)]
        subprocess.run(command, cwd=ROOT, check=True)
    split = Split(
        work=options.work,
        asked=_asked(data),
        data_root=data,
        joint=joint(data),
        tuning=TUNING,
        joint_scores=_shipped(data, options.work / "shipped.json"),
    )
    measure("encoder_torso", [split], options)


def _shipped(data: Path, path: Path) -> Path:
    """What the shipped model says of the held-out phantoms, kept in a file."""
    if not path.exists():
        manifest = read_manifest(data)
        model = load_predictor(find_bundle("torso-ct-phantom"), device="cpu", cam="none")
        results = list(Evaluation(model, manifest, data).run(manifest.in_split("val")))
        failed = [result for result in results if isinstance(result, Failure)]
        if failed:
            raise SystemExit(f"{len(failed)} phantoms failed, such as {failed[0]}.")
        scores = [asdict(result) for result in results if isinstance(result, CaseScore)]
        path.write_text(json.dumps(scores), encoding="utf-8")
    return path


def _asked(data: Path) -> dict[str, Any]:
    manifest = read_manifest(data)
    return {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0} | {one.name: one.label for one in manifest.schema.segments},
        "cases": {
            case.case_id: [str(data / row.image), str(data / str(row.segmentation))]
            for case in manifest.in_split("train")
            for row in case.volumes
        },
    }


def joint(data: Path) -> dict[str, Any]:
    """The shipped configuration, on these phantoms."""
    path = ROOT / "pipelines" / "configs" / "torso_phantom.toml"
    values = load_config(path).model_dump(exclude_unset=True)
    values["data"]["manifests"][0]["folder"] = str(data)
    values["trainer"].pop("max_epochs")
    values["trainer"] |= {"max_steps": _STEPS, "steps_per_epoch": _STEPS}
    values["trainer"] |= {"workers": 0, "accumulate": 1}
    return values


if __name__ == "__main__":
    main()
