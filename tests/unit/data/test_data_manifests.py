"""The shipped manifests: complete, as the writers would write them, and without a pixel."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from medmtl.core.labels import LabelSchema
from medmtl.data.builders.acdc import ACDC_SCHEMA
from medmtl.data.builders.amos import AMOS_SCHEMA
from medmtl.data.builders.brats import BRATS_SCHEMA
from medmtl.data.builders.ct_rate import CT_RATE_SCHEMA
from medmtl.data.builders.kits import KITS_SCHEMA
from medmtl.data.builders.lidc import LIDC_SCHEMA
from medmtl.data.builders.msd_tasks import TASKS
from medmtl.data.builders.totalsegmentator import TOTALSEGMENTATOR_SCHEMA
from medmtl.data.case_table import table_text
from medmtl.data.manifest import read_manifest
from medmtl.data.schema_file import read_header

FOLDER = Path(__file__).resolve().parents[3] / "data_manifests"
SCHEMAS = {
    "acdc": ACDC_SCHEMA,
    "amos": AMOS_SCHEMA,
    "brats2020": BRATS_SCHEMA,
    "ct_rate": CT_RATE_SCHEMA,
    "kits23": KITS_SCHEMA,
    "lidc_idri": LIDC_SCHEMA,
    "msd_hippocampus": LabelSchema(segments=TASKS["hippocampus"].segments),
    "totalsegmentator": TOTALSEGMENTATOR_SCHEMA,
}
WITH_CASES = {"acdc": 100, "msd_hippocampus": 227}


def test_every_data_set_has_its_folder() -> None:
    assert {path.name for path in FOLDER.iterdir() if path.is_dir()} == set(SCHEMAS)


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema_licence_and_citation_are_stated(name: str) -> None:
    header, problems = read_header(FOLDER / name / "manifest.toml")
    assert problems == []
    assert header is not None
    assert header.label_schema() == SCHEMAS[name]
    assert header.name == name
    assert header.licence
    assert header.citation
    assert header.source.startswith("http")
    readme = (FOLDER / name / "README.md").read_text()
    assert "**Licence" in readme
    assert "**Citation" in readme
    assert ("layout tested, data not" in readme.lower()) == (name not in WITH_CASES)


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_table_is_whole_or_says_only_its_columns(name: str) -> None:
    if name in WITH_CASES:
        manifest = read_manifest(FOLDER / name)
        assert len(manifest.cases) == WITH_CASES[name]
        assert all(row.sha256 for case in manifest.cases for row in case.volumes)
    else:
        assert (FOLDER / name / "cases.csv").read_text() == table_text((), SCHEMAS[name])


def test_there_is_only_text() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".md", ".csv", ".toml"}
    for path in files:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".toml":
            assert tomllib.loads(text)
