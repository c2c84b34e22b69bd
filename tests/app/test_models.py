"""What the viewer reads from bundles, without torch."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from app.services.models import bundle_folders, read_models

if TYPE_CHECKING:
    from pathlib import Path


def test_shipped_bundles_tell_their_ranges_card_and_localisation(tmp_path: Path) -> None:
    models = {facts.name: facts for facts in read_models(bundle_folders(cache=tmp_path)).values()}
    cardiac = models["cardiac-mr"]
    assert cardiac.modality == "MR"
    assert cardiac.is_exclusive
    low, high = cardiac.expected_ml["left_ventricle_cavity"]
    assert 0 < low < high
    assert cardiac.card.startswith("#")
    where = cardiac.localisation["myocardial_infarction"]
    assert 0 <= where.low <= where.pointing_game <= where.high <= 1
    torso = models["torso-ct-phantom"]
    assert (len(cardiac.measured), len(torso.measured)) == (27, 11)
    mean, deviation = torso.measured[-1]  # cardiothoracic ratio of phantoms: 0.36 to 0.63
    assert 0.45 < mean < 0.55
    assert 0.05 < deviation < 0.12
    assert "lung_nodule" in models["torso-ct-phantom"].lesions


def test_an_altered_bundle_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = next(
        folder for folder in bundle_folders(cache=tmp_path) if folder.name == "torso-ct-phantom"
    )
    shutil.copytree(source, tmp_path / "altered")
    (tmp_path / "altered" / "card.md").write_text("another card", encoding="utf-8")
    assert read_models([tmp_path / "altered", tmp_path / "missing"]) == {}
    assert "altered" in caplog.text
