"""`medmtl models`: what is installed, its card, and whether a bit of it changed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from medmtl.inference.bundle import read_settings, shipped_bundles
from pipelines.__main__ import main
from tests.tiny_bundle import torso_settings, write_tiny

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write_tiny(tmp_path / "mine", torso_settings())
    return tmp_path / "mine"


@pytest.fixture
def medmtl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Medmtl:
    monkeypatch.setenv("COLUMNS", "250")
    return Medmtl(monkeypatch, capsys)


class Medmtl:
    """The program, run in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch = monkeypatch
        self.capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        self.monkeypatch.setattr(sys, "argv", ["medmtl", "models", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = self.capsys.readouterr()
        return int(ended.value.code or 0), out, err


@pytest.mark.parametrize("arguments", [(), ("list",)])
def test_the_list_names_every_shipped_bundle_with_its_licence(
    medmtl: Medmtl, arguments: tuple[str, ...]
) -> None:
    status, out, _ = medmtl(*arguments)
    assert status == 0
    assert shipped_bundles()
    assert all(name in out for name in shipped_bundles())
    assert "licence" in out


def test_the_list_breaks_no_name_at_80_columns(
    medmtl: Medmtl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = medmtl("list")
    for folder in shipped_bundles().values():
        settings, identity = read_settings(folder)
        names = [identity.name, identity.version, *(one.name for one in settings.findings)]
        assert set(names) <= set(out.split())
    assert max(len(line) for line in out.splitlines()) <= 80


def test_show_prints_the_card(medmtl: Medmtl, bundle: Path) -> None:
    status, out, _ = medmtl("show", bundle)
    assert status == 0
    assert out.strip() == (bundle / "card.md").read_text().strip()


def test_verify_prints_the_checksums_of_a_whole_bundle(medmtl: Medmtl, bundle: Path) -> None:
    status, out, _ = medmtl("verify", bundle)
    assert status == 0
    assert "tiny-torso 0: all checksums match." in out
    assert all(name in out for name in ("weights.safetensors", "card.md", "metrics.json"))


@pytest.mark.parametrize("command", ["show", "verify"])
@pytest.mark.parametrize("name", ["weights.safetensors", "card.md"])
def test_an_altered_bundle_ends_with_2_and_one_line(
    medmtl: Medmtl, bundle: Path, command: str, name: str
) -> None:
    with (bundle / name).open("ab") as file:
        file.write(b" ")
    status, out, err = medmtl(command, bundle)
    assert status == 2
    assert name in err
    assert "altered or damaged" in err
    assert err.count("\n") == 1
    assert "match" not in out


@pytest.mark.parametrize("arguments", [("verify", "no-such-model"), ("verify",), ("prune",)])
def test_what_cannot_start_ends_with_2(medmtl: Medmtl, arguments: tuple[str, ...]) -> None:
    status, _, err = medmtl(*arguments)
    assert status == 2
    assert err


@pytest.mark.parametrize(
    "command",
    ["quantise", "register", "promote", "rollback", "import nnunet", "import monai"],
)
def test_what_reads_models_and_data_can_be_quiet_or_log_as_json(
    medmtl: Medmtl, command: str
) -> None:
    status, out, _ = medmtl(*command.split(), "--help")
    assert status == 0
    assert {"--quiet", "--json-logs"} <= set(out.split())
