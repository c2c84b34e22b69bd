"""What several manifests together become in one bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from medmtl.core.labels import FindingSpec, LabelSchema, SegmentSpec
from medmtl.data.cases import Manifest
from medmtl.data.sources import DataSource
from medmtl.networks.joint import NetworkConfig
from medmtl.training.deliver import merged_schema


def source(*findings: str, segments: tuple[str, ...] = (), exclusive: bool = False) -> DataSource:
    schema = LabelSchema(
        tuple(SegmentSpec(7 - place, name) for place, name in enumerate(segments)),
        tuple(FindingSpec(name) for name in findings),
        findings_exclusive=exclusive,
    )
    return DataSource(Manifest("m", "CC0", "", "", "MR", schema, ()), Path(), ())


def test_labels_are_places_in_the_network_whatever_the_manifests_say() -> None:
    network = NetworkConfig(segments=("liver", "spleen"))
    sources = [source(segments=("spleen",)), source(segments=("kidney", "liver"))]
    merged = merged_schema(sources, network)
    assert [(one.label, one.name) for one in merged.segments] == [(1, "liver"), (2, "spleen")]


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ([source("a", "b", exclusive=True)], True),
        ([source("a", "b", exclusive=True), source(segments=("liver",))], True),
        ([source("a", "b", exclusive=True), source("a", "b")], False),
        ([source("a", exclusive=True), source("b", exclusive=True)], False),
        ([source("a", "b", "c", exclusive=True)], False),
    ],
)
def test_findings_exclude_each_other_only_where_every_set_says_so_of_all(
    sources: list[DataSource], expected: bool
) -> None:
    merged = merged_schema(sources, NetworkConfig(findings=("a", "b")))
    assert merged.findings_exclusive is expected
