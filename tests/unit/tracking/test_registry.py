"""A bundle becomes a version, a version a champion, and what is fetched is what was registered."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from medmtl.core.errors import BundleError, ConfigError
from medmtl.tracking.bundle_cache import fetch
from medmtl.tracking.gate import Evidence, judge
from medmtl.tracking.gate_settings import load_gate
from medmtl.tracking.mlflow_run import start_run
from medmtl.tracking.model_uri import parse_model_uri
from medmtl.tracking.promotion import champion_metrics, record_decision, rollback, set_alias
from medmtl.tracking.registry import check_alias, find_version, holder, register
from tests.evidence import good_metrics, number, write_evident

if TYPE_CHECKING:
    from pathlib import Path

    from medmtl.tracking.mlflow_store import Connection
    from medmtl.tracking.registry import Version


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """One registered name per test."""
    return str(request.node.originalname).removeprefix("test_")[:40]


class RefusedError(Exception):
    """The gate said no."""


def two_versions(connection: Connection, name: str, folder: Path) -> tuple[Version, Version]:
    """Of a model, both good enough for an alias."""
    write_evident(folder / "a")
    write_evident(folder / "b", version="2")
    first, second = (register(connection, folder / one, name=name) for one in ("a", "b"))
    return first, second


def promote(connection: Connection, version: Version, cache: Path, why: str = "better") -> None:
    """Through the gate, as the program does it."""
    settings = load_gate()
    champion = holder(connection, version.name, "champion")
    bundle = fetch(connection, version, cache=cache)
    mine, theirs = Evidence(bundle, bundle.metrics), None
    if champion is not None:
        figures = champion_metrics(connection, champion, "champion") or {}
        theirs = Evidence(fetch(connection, champion, cache=cache), figures)
    criteria = judge(mine, theirs, settings)
    run_id = record_decision(
        connection, version, alias="champion", by="a.lee", why=why,
        evidence=mine, criteria=criteria, settings=settings,
    )  # fmt: skip
    if refused := [criterion.name for criterion in criteria if not criterion.is_met]:
        raise RefusedError(refused)
    set_alias(
        connection, version, alias="champion", by="a.lee", why=why, champion=champion, run_id=run_id
    )


def test_a_version_says_which_bundle_it_is(
    connection: Connection, name: str, tmp_path: Path
) -> None:
    bundle = write_evident(tmp_path / "b")
    version = register(connection, tmp_path / "b", name=name)
    assert (version.number, version.sha256) == ("1", bundle.sha256)
    tags = version.tags
    assert (tags["medmtl.name"], tags["medmtl.version"]) == (bundle.name, bundle.version)
    assert tags["medmtl.licence"] == "CC0-1.0"
    assert len(tags["medmtl.git_revision"]) == 40 or tags["medmtl.git_revision"] == "installed copy"


def test_the_same_bundle_is_the_same_version(
    connection: Connection, name: str, tmp_path: Path
) -> None:
    write_evident(tmp_path / "a")
    write_evident(tmp_path / "b", version="2")
    numbers = [register(connection, tmp_path / f, name=name).number for f in ("a", "b", "a")]
    assert numbers == ["1", "2", "1"]


def test_a_bundle_that_a_run_made_keeps_its_run(
    connection: Connection, name: str, store: Path, tmp_path: Path
) -> None:
    write_evident(tmp_path / "b", version="trained")
    run = start_run(None, experiment="e", run_name=None, store=store, system_metrics_every_s=0)
    run.log_bundle(tmp_path / "b")
    run.close("FINISHED")
    version = register(connection, tmp_path / "b", name=name)
    found = connection.client.get_model_version(version.name, version.number)
    assert found.run_id == run.run_id


def test_a_damaged_bundle_and_a_bad_name_are_refused(
    connection: Connection, tmp_path: Path
) -> None:
    write_evident(tmp_path / "b")
    with pytest.raises(ConfigError, match="expected one without"):
        register(connection, tmp_path / "b", name="a/b")
    (tmp_path / "b" / "weights.safetensors").write_bytes(b"")
    with pytest.raises(BundleError, match=r"weights\.safetensors"):
        register(connection, tmp_path / "b", name="damaged")
    with pytest.raises(ConfigError, match="found no model of that name"):
        find_version(connection, parse_model_uri("models:/damaged/1"))


def test_an_address_leads_to_the_same_bytes(
    connection: Connection, name: str, tmp_path: Path
) -> None:
    bundle = write_evident(tmp_path / "b")
    register(connection, tmp_path / "b", name=name)
    for uri in (f"models:/{name}/1", f"models:/{name}/latest"):
        version = find_version(connection, parse_model_uri(uri))
        fetched = fetch(connection, version, cache=tmp_path / "cache")
        assert fetched.folder == tmp_path / "cache" / bundle.sha256
        for file in bundle.files:
            assert (fetched.folder / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [bundle.sha256]


def test_a_fetched_bundle_is_not_fetched_again_but_checked(
    connection: Connection, name: str, tmp_path: Path
) -> None:
    write_evident(tmp_path / "b")
    version = register(connection, tmp_path / "b", name=name)
    cache = tmp_path / "cache"
    folder = fetch(connection, version, cache=cache).folder
    inode = (folder / "card.md").stat().st_ino
    assert fetch(connection, version, cache=cache).folder == folder
    assert (folder / "card.md").stat().st_ino == inode
    (folder / "card.md").write_text("another card")
    assert "taught" in fetch(connection, version, cache=cache).card


def test_files_that_the_server_changed_are_refused(
    connection: Connection, name: str, store: Path, tmp_path: Path
) -> None:
    write_evident(tmp_path / "b", version="to be changed")
    other = write_evident(tmp_path / "other", version="changed")
    version = register(connection, tmp_path / "b", name=name)
    (stored,) = [
        path.parent
        for path in (store / "artifacts").rglob("bundle.toml")
        if b"to be changed" in path.read_bytes()
    ]
    shutil.rmtree(stored)
    shutil.copytree(other.folder, stored)
    with pytest.raises(BundleError, match=r"expected .* as registered"):
        fetch(connection, version, cache=tmp_path / "cache")
    assert not (tmp_path / "cache" / version.sha256).exists()


def test_what_is_not_there_is_said_with_what_is(
    connection: Connection, name: str, tmp_path: Path
) -> None:
    write_evident(tmp_path / "b")
    register(connection, tmp_path / "b", name=name)
    with pytest.raises(ConfigError, match="found versions 1 and aliases none"):
        find_version(connection, parse_model_uri(f"models:/{name}@champion"))
    with pytest.raises(ConfigError, match="found versions 1"):
        find_version(connection, parse_model_uri(f"models:/{name}/7"))
    with pytest.raises(ConfigError, match=f"expected one of .*{name}"):
        find_version(connection, parse_model_uri("models:/nobody@champion"))


def test_somebody_elses_model_is_no_bundle(connection: Connection, name: str) -> None:
    connection.client.create_registered_model(name)
    connection.client.create_model_version(name, source="s3://somewhere/model")
    with pytest.raises(ConfigError, match=r"without tag medmtl\.sha256"):
        find_version(connection, parse_model_uri(f"models:/{name}/1"))


def test_a_champion_is_on_record_and_can_be_taken_back(
    connection: Connection, name: str, tmp_path: Path
) -> None:
    write_evident(tmp_path / "a")
    write_evident(tmp_path / "b", version="2")
    first = register(connection, tmp_path / "a", name=name)
    second = register(connection, tmp_path / "b", name=name)
    promote(connection, first, tmp_path / "cache", why="the first one")
    promote(connection, second, tmp_path / "cache", why="as good and newer")
    champion = find_version(connection, parse_model_uri(f"models:/{name}@champion"))
    assert champion.number == "2"
    assert champion.tags["medmtl.champion.by"] == "a.lee"
    assert champion.tags["medmtl.champion.why"] == "as good and newer"
    assert champion.tags["medmtl.champion.previous"] == "1"
    assert champion_metrics(connection, champion, "champion") == good_metrics()
    run = connection.client.get_run(champion.tags["medmtl.champion.evidence_run"])
    assert run.data.tags["medmtl.gate"] == "passed"
    place = connection.client.download_artifacts(run.info.run_id, "gate.json", str(tmp_path))
    with open(place, encoding="utf-8") as file:  # noqa: PTH123 - MLflow gives a text
        assert all(criterion["is_met"] for criterion in json.load(file)["criteria"])
    back = rollback(connection, name, alias="champion", by="b.ray", why="it missed two cases")
    assert back.number == "1"
    assert holder(connection, name, "champion").number == "1"  # type: ignore[union-attr]
    left = find_version(connection, parse_model_uri(f"models:/{name}/2"))
    assert left.tags["medmtl.champion.rolled_back_why"] == "it missed two cases"
    with pytest.raises(ConfigError, match="found no earlier holder"):
        rollback(connection, name, alias="champion", by="b.ray", why="again")


def test_who_got_the_alias_from_nobody_has_nobody_before_it(
    connection: Connection, name: str, tmp_path: Path
) -> None:
    first, second = two_versions(connection, name, tmp_path)
    promote(connection, first, tmp_path / "cache")
    promote(connection, second, tmp_path / "cache")
    connection.client.delete_registered_model_alias(name, "champion")
    promote(connection, second, tmp_path / "cache")
    with pytest.raises(ConfigError, match="found no earlier holder than version 2"):
        rollback(connection, name, alias="champion", by="b.ray", why="it missed two cases")


def test_a_refusal_is_on_record_and_changes_nothing(
    connection: Connection, name: str, tmp_path: Path
) -> None:
    weak = good_metrics(n_cases=3)
    weak["segmentation"]["mean_dice"] = number(0.5)
    write_evident(tmp_path / "b", metrics=weak)
    version = register(connection, tmp_path / "b", name=name)
    with pytest.raises(RefusedError, match=r"number of cases.*mean Dice"):
        promote(connection, version, tmp_path / "cache")
    assert holder(connection, name, "champion") is None
    experiment = connection.client.get_experiment_by_name("medmtl-promotions")
    runs = connection.client.search_runs(
        [experiment.experiment_id], filter_string=f"tags.`medmtl.model` = '{name}'"
    )
    assert [(run.data.tags["medmtl.gate"], run.info.status) for run in runs] == [
        ("refused", "FAILED")
    ]


def test_a_champion_crowned_meanwhile_is_noticed(
    connection: Connection, name: str, tmp_path: Path
) -> None:
    first, second = two_versions(connection, name, tmp_path)
    promote(connection, first, tmp_path / "cache")
    with pytest.raises(ConfigError, match="while the gate was asked"):
        set_alias(connection, second, alias="champion", by="x", why="y", champion=None, run_id="0")
    assert holder(connection, name, "champion").number == "1"  # type: ignore[union-attr]


@pytest.mark.parametrize("alias", ["latest", "Latest", "v3", "", "a b", "a/b", "7"])
def test_an_alias_that_would_be_read_otherwise_is_refused(alias: str) -> None:
    with pytest.raises(ConfigError, match="Alias"):
        check_alias(alias)
