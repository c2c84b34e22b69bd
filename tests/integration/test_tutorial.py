"""docs/tutorial.md: from a DICOM folder, an nnU-Net and a spreadsheet to a joint model's report.

The commands are read out of the page and run as they stand there, on generated studies.
"""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from medmtl.data.manifest import read_manifest
from medmtl.inference.bundle import verify_bundle
from medmtl.phantom import generate_torso, write_torso_study
from pipelines.__main__ import main
from tests.nnunet_folder import dataset, plans, write_folder

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
STUDIES = 80
"""As many as the page asks for: fold 0 then has five patients with each finding, and without."""
IN_PAGE = "nnUNet_results/.../nnUNetTrainer__nnUNetPlans__3d_fullres"


def commands() -> list[list[str]]:
    """The three commands of the page."""
    blocks = re.findall(r"## \d\..*?```\n(medmtl .*?)```", PAGE.read_text(), flags=re.DOTALL)
    return [shlex.split(block.replace("\\\n", " ")) for block in blocks]


def write_start(root: Path) -> None:
    """What the page starts from: studies, a table with words of its own, a model folder."""
    lines = ["patient,nodule,effusion"]
    for seed in range(STUDIES):
        wanted = {"lung_nodule": seed % 2 == 0, "pleural_effusion": seed % 4 < 2}
        torso = generate_torso(seed, spacing_mm=(12, 12, 12), findings=wanted)
        write_torso_study(root / "dicom" / f"P{seed:02}" / "ct", torso, seed=seed)
        effusion = "n/a" if seed == 1 else "yes" if wanted["pleural_effusion"] else "no"
        lines.append(f"P{seed:02},{'yes' if wanted['lung_nodule'] else 'no'},{effusion}")
    (root / "diagnoses.csv").write_text("\n".join(lines) + "\n")
    write_folder(
        root / IN_PAGE,
        plans=plans(spacing=[12.0] * 3, patch_size=[16, 16, 16]),
        dataset=dataset(labels={"background": 0, "lung": 1, "liver": 2}),
        mirror_axes=(),
    )


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_three_commands_lead_to_a_calibrated_model_and_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    write_start(tmp_path)
    three = commands()
    assert [command[1] for command in three] == ["manifest", "train", "evaluate"]
    for command in three:
        untracked = ["--set", "tracking.enabled=false"] if command[1] == "train" else []
        monkeypatch.setattr("sys.argv", [*command, *untracked])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert not stopped.value.code, command
    manifest = read_manifest(tmp_path / "manifest")
    assert len(manifest.cases) == STUDIES
    assert len(manifest.in_split("test")) == STUDIES // 4
    assert not list(tmp_path.rglob("*.nii.gz"))  # read where it lies
    settings = verify_bundle(tmp_path / "run" / "bundle")
    assert [finding.name for finding in settings.findings] == ["nodule", "effusion"]
    assert all(finding.calibrated for finding in settings.findings)
    assert [segment.name for segment in settings.segments] == ["lung", "liver"]
    said = json.loads((tmp_path / "run" / "bundle" / "metrics.json").read_text())["encoder"]
    assert (said["equal_voxels"], said["training"]) == (1.0, "frozen")
    report = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert (report["split"], report["n_cases"]) == ("test", STUDIES // 4)
    assert set(report["diagnosis"]["per_finding"]) == {"nodule", "effusion"}
    assert (tmp_path / "report" / "report.html").stat().st_size > 1000


def test_the_configuration_of_the_page_is_shipped() -> None:
    path = PAGE.parents[1] / "pipelines" / "configs" / "imported_head.toml"
    assert tomllib.loads(path.read_text())["encoder"]["training"] == "frozen"
    assert commands()[1][2] == path.stem
