"""A bundle is known by its checksums, and refused where one bit differs."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest
import tomli_w

from medmtl.core.errors import BundleError
from medmtl.inference.bundle import read_settings
from medmtl.tracking.bundle_files import read_bundle
from tests.evidence import write_evident

if TYPE_CHECKING:
    from pathlib import Path


def test_it_agrees_with_the_reader_of_the_predictor(tmp_path: Path) -> None:
    record = write_evident(tmp_path / "b")
    settings, identity = read_settings(tmp_path / "b")
    assert (record.name, record.version, record.sha256) == (
        identity.name,
        identity.version,
        identity.sha256,
    )
    assert set(record.files) == {"bundle.toml", *settings.sha256}
    assert record.segments == tuple(segment.name for segment in settings.segments)
    assert list(record.findings) == [finding.name for finding in settings.findings]


@pytest.mark.parametrize("name", ["weights.safetensors", "card.md", "metrics.json"])
@pytest.mark.parametrize("is_missing", [False, True])
def test_a_file_that_differs_or_lacks_is_named(tmp_path: Path, name: str, is_missing: bool) -> None:
    write_evident(tmp_path / "b")
    path = tmp_path / "b" / name
    content = path.read_bytes()
    path.unlink()
    if not is_missing:
        path.write_bytes(content + b"\n")
    with pytest.raises(BundleError, match=name):
        read_bundle(tmp_path / "b")


@pytest.mark.parametrize("outside", ["../secret", "a/b", r"..\secret", "/etc/hostname"])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, outside: str) -> None:
    write_evident(tmp_path / "b")
    path = tmp_path / "b" / "bundle.toml"
    document = tomllib.loads(path.read_text())
    document["sha256"][outside] = "0" * 64
    path.write_text(tomli_w.dumps(document))
    with pytest.raises(BundleError, match="outside of the bundle"):
        read_bundle(tmp_path / "b")


def test_a_folder_that_is_no_bundle_says_what_one_is(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"bundle\.toml cannot be read.*weights\.safetensors"):
        read_bundle(tmp_path)
