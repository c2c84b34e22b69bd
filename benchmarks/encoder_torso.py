"""A diagnosis head on nnU-Net, on generated torso CT: as `encoder_acdc.py`, on the phantom.

    python -m benchmarks.encoder_torso [--cases N] [--joint-steps N] [--work DIR]

See `encoder_arms.py`. The last fifth of the phantoms is held out of every arm. The joint network of
`torso_phantom.toml` learns both tasks from nothing on the phantoms that nnU-Net learns from.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

from benchmarks.encoder_arms import Split, arguments, measure
from benchmarks.record import ROOT
from medmtl.config import load_config
from medmtl.data.manifest import read_manifest

if TYPE_CHECKING:
    from pathlib import Path

JOINT_STEPS = 200
"""Of one study, minutes of a free core."""
TUNING: dict[str, dict[str, Any]] = {
    "trainer": {
        "max_steps": 40, "steps_per_epoch": 40, "lr": 1e-4, "warmup_steps": 5,
        "precision": "float32",
    },
    "augmentation": {"name": "none"},  # phantoms differ by less than a turn changes their features
}  # fmt: skip


def main() -> None:
    """Generate, then measure."""
    parser = arguments(__doc__, name="encoder_torso", minutes=15)
    parser.add_argument("--cases", type=int, default=120)
    parser.add_argument("--joint-steps", type=int, default=JOINT_STEPS, help="of one study")
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
        joint=joint(data, steps=options.joint_steps),
        tuning=TUNING,
    )
    measure("encoder_torso", [split], [split], options)


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


def joint(data: Path, *, steps: int = JOINT_STEPS) -> dict[str, Any]:
    """The shipped configuration, on these phantoms, in a short schedule."""
    path = ROOT / "pipelines" / "configs" / "torso_phantom.toml"
    values = load_config(path).model_dump(exclude_unset=True)
    values["data"]["manifests"][0]["folder"] = str(data)
    values["trainer"].pop("max_epochs")
    values["trainer"] |= {"max_steps": steps, "steps_per_epoch": steps}
    values["trainer"] |= {"workers": 0, "accumulate": 1}
    values["head_refit"]["views"] = 1
    return values


if __name__ == "__main__":
    main()
