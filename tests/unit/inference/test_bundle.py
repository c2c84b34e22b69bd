"""A bundle gives back what was written, and is refused where one bit of it differs."""

from __future__ import annotations

import hashlib
import json
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
import tomli_w
import torch
from pydantic import ValidationError
from safetensors import safe_open

from medmtl.core.errors import BundleError
from medmtl.inference.bundle import (
    find_bundle,
    load_bundle,
    read_settings,
    shipped_bundles,
    verify_bundle,
    write_bundle,
)
from medmtl.inference.bundle_settings import CamSettings, FindingSettings, InputSettings
from medmtl.networks.joint import COVARIATES
from medmtl.transforms.settings import PreprocessingConfig
from tests.tiny_bundle import random_net, torso_settings, write_tiny

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILES = ("weights.safetensors", "card.md", "metrics.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tiny(tmp_path / "bundle", torso_settings())
    return tmp_path / "bundle"


def change(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "bundle.toml"
    document = tomllib.loads(path.read_text())
    edit(document)
    path.write_text(tomli_w.dumps(document))


def test_what_is_loaded_answers_as_what_was_written(folder: Path) -> None:
    written, loaded = random_net(torso_settings()), load_bundle(folder).net
    generator = torch.Generator().manual_seed(0)
    facts = {name: torch.tensor([torch.nan]) for name in COVARIATES}
    x = torch.randn(1, 1, 4, 8, 8, generator=generator)
    with torch.no_grad():
        answers = [
            net([x], spacing_mm=torch.ones(1, 1, 3), covariates=facts) for net in (written, loaded)
        ]
    torch.testing.assert_close(
        answers[1].segmentation_logits, answers[0].segmentation_logits, atol=5e-3, rtol=5e-3
    )
    torch.testing.assert_close(
        answers[1].finding_logits, answers[0].finding_logits, atol=5e-3, rtol=5e-3
    )
    assert not loaded.training
    assert {value.dtype for value in loaded.parameters()} == {torch.float32}


def test_large_weights_are_stored_in_half_precision_and_once(folder: Path) -> None:
    net = random_net(torso_settings())
    with safe_open(folder / "weights.safetensors", "pt") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    distinct = {id(value) for value in net.state_dict(keep_vars=True).values()}
    assert len(stored) == len(distinct) < len(net.state_dict())
    large = [value.dtype for value in stored.values() if value.numel() >= 4096]
    assert large
    assert set(large) == {torch.float16}


def test_the_settings_survive_the_file(folder: Path) -> None:
    settings, identity = read_settings(folder)
    assert settings.model_copy(update={"sha256": {}}) == torso_settings()
    assert set(settings.sha256) == set(FILES)
    content = (folder / "bundle.toml").read_bytes()
    assert identity.sha256 == hashlib.sha256(content).hexdigest()
    assert verify_bundle(folder) == settings


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", [0, -1])
def test_one_flipped_bit_is_refused_and_the_file_named(folder: Path, name: str, where: int) -> None:
    content = bytearray((folder / name).read_bytes())
    content[where] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(BundleError, match=name):
        verify_bundle(folder)
    if name.startswith("weights"):
        with pytest.raises(BundleError, match=name):
            load_bundle(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused_and_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"{name} cannot be read"):
        verify_bundle(folder)


def test_a_checksum_that_is_not_listed_is_refused(folder: Path) -> None:
    change(folder, lambda document: document["sha256"].pop("card.md"))
    with pytest.raises(BundleError, match=r"card\.md .* expected none"):
        verify_bundle(folder)


def test_another_threshold_is_another_model(folder: Path) -> None:
    before = read_settings(folder)[1]
    change(folder, lambda document: document["findings"][0].update(threshold=0.25))
    settings, after = read_settings(folder)
    assert settings.findings[0].threshold == 0.25
    assert (after.name, after.version) == (before.name, before.version)
    assert after.sha256 != before.sha256


def test_an_unknown_key_is_refused_and_named(folder: Path) -> None:
    change(folder, lambda document: document["input"].update(min_slice=3))
    with pytest.raises(BundleError, match=r"input\.min_slice"):
        read_settings(folder)


@pytest.mark.parametrize("content", [b"not = [toml", b"\xff\xfe", b""])
def test_a_settings_file_that_is_none_is_refused(folder: Path, content: bytes) -> None:
    (folder / "bundle.toml").write_bytes(content)
    with pytest.raises(BundleError, match=r"bundle\.toml"):
        load_bundle(folder)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    settings = torso_settings()
    weights = random_net(settings).state_dict()
    more = weights | {"extra.weight": torch.ones(2)}
    fewer = dict(list(weights.items())[1:])
    reshaped = weights | {next(iter(weights)): torch.ones(3, 3)}
    for number, wrong in enumerate((more, fewer, reshaped)):
        folder = tmp_path / str(number)
        write_bundle(folder, settings, wrong, card="", metrics_json="{}")
        verify_bundle(folder)
        with pytest.raises(BundleError, match="do not fit"):
            load_bundle(folder)


def test_weights_that_are_no_weights_are_refused_even_with_their_checksum(folder: Path) -> None:
    (folder / "weights.safetensors").write_bytes(b"\x80\x04pickled")
    digest = hashlib.sha256(b"\x80\x04pickled").hexdigest()
    change(folder, lambda document: document["sha256"].update({"weights.safetensors": digest}))
    with pytest.raises(BundleError, match="do not fit"):
        load_bundle(folder)


SWAPPED = tuple(FindingSettings(name=name) for name in ("nodule", "large_heart"))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"findings": SWAPPED}, "must be network.findings"),
        ({"segments": torso_settings().segments[::-1]}, "must be network.segments"),
        ({"input": InputSettings()}, "input.modality is missing"),
        ({"input": InputSettings(modality="CT", kind="phase_pair")}, "needs 2 network.volumes"),
        ({"cam": CamSettings(levels=(0,))}, "cam.levels"),
        ({"cam": CamSettings(method="attribution", levels=())}, "measurements and no features"),
        ({"rules": ({"finding": "x", "is_present": True, "measurement": "m", "low": 1},)}, "rule"),
    ],
)  # fmt: skip
def test_settings_that_contradict_their_network_are_refused(
    fields: dict[str, Any], text: str
) -> None:
    with pytest.raises(ValidationError, match=text):
        torso_settings(**fields)


def test_a_folder_holds_four_files_and_no_pickle(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"bundle.toml", *FILES}
    for name in ("bundle.toml", "card.md", "metrics.json"):
        (folder / name).read_text(encoding="utf-8")
    weights = (folder / "weights.safetensors").read_bytes()
    length = int.from_bytes(weights[:8], "little")  # the format's header: its length, then JSON
    header = json.loads(weights[8 : 8 + length])
    end = max(entry["data_offsets"][1] for entry in header.values())
    assert len(weights) == 8 + length + end  # and nothing else


def test_a_bundle_is_found_by_name_or_folder(folder: Path) -> None:
    assert find_bundle(folder) == folder
    for name, path in shipped_bundles().items():
        assert find_bundle(name) == path
    with pytest.raises(BundleError, match=f"one of {', '.join(shipped_bundles())}"):
        find_bundle("no-such-model")


def test_every_shipped_bundle_is_whole_licensed_and_small() -> None:
    shipped = shipped_bundles()
    assert shipped
    for name, path in shipped.items():
        settings = verify_bundle(path)
        assert settings.name == name
        assert settings.licence
        card = (path / "card.md").read_text(encoding="utf-8")
        assert "licence" in card.lower(), f"the card of {name} does not speak of its licence"
        assert settings.licence in card
        json.loads((path / "metrics.json").read_text())
        assert {file.name for file in path.iterdir()} == {"bundle.toml", *FILES}
    weights = sum((path / "weights.safetensors").stat().st_size for path in shipped.values())
    assert weights < 40e6


@pytest.mark.parametrize("name", sorted(shipped_bundles()))
def test_every_shipped_bundle_loads(name: str) -> None:
    bundle = load_bundle(find_bundle(name))
    preprocessing = bundle.settings.preprocessing
    assert isinstance(preprocessing, PreprocessingConfig), "no shipped bundle is an imported one"
    for network, grid in zip(bundle.net.divisor, reversed(preprocessing.divisor), strict=True):
        assert grid % network == 0, "preprocessing must pad to what the network needs"
