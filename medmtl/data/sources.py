"""Which cases serve a network: its volumes, segments and findings looked up by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medmtl.data.manifest import check_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from medmtl.data.cases import Case, Manifest, VolumeRow
    from medmtl.networks.joint import NetworkConfig

__all__ = ["DataSource", "finding_values", "network_rows", "source_problems"]

MAX_SEGMENTS = 255
"""Labels of a prepared volume are kept as one byte."""

ANY_VOLUME = "image"
"""A network with this one volume takes the one volume of a case, whatever its name there."""


@dataclass(frozen=True, eq=False)
class DataSource:
    """Cases of one manifest, and where their images lie."""

    manifest: Manifest
    data_root: Path
    cases: tuple[Case, ...]


def source_problems(sources: Sequence[DataSource], network: NetworkConfig) -> Iterator[str]:
    """What keeps these cases from being samples of the network; no image is opened."""
    if len(network.segments) > MAX_SEGMENTS:
        yield f"the network has {len(network.segments)} segments, at most {MAX_SEGMENTS} are stored"
    yield from _torn_structures(sources, network.segments)
    seen: set[tuple[str, str]] = set()
    names = {*network.segments, *network.findings}
    for source in sources:
        schema, name = source.manifest.schema, source.manifest.name
        if names.isdisjoint({*schema.segment_names, *schema.finding_names}):
            yield f"manifest {name} shares no segment and no finding with the network"
        for case in source.cases:
            if (name, case.case_id) in seen:
                yield f"manifest {name}: case {case.case_id} occurs twice"
            seen.add((name, case.case_id))
            found = [row.volume_id for row in case.volumes]
            if not _has_volumes(found, network.volumes):
                yield (
                    f"manifest {name}: case {case.case_id} has the volumes {', '.join(found)}, "
                    f"but the network needs {', '.join(network.volumes)}"
                )
        yield from (
            f"manifest {name}: {text}" for text in check_files(source.cases, source.data_root)
        )


def _torn_structures(sources: Sequence[DataSource], segments: Sequence[str]) -> Iterator[str]:
    """Structures that are whole in one manifest and left and right in another.

    Segments exclude each other, so each of the two would teach that the other's name is wrong.
    """
    known = [(one.manifest.name, set(one.manifest.schema.segment_names)) for one in sources]
    for part in segments:
        whole = part.removesuffix("_left").removesuffix("_right")
        with_whole = [name for name, has in known if whole in has and part not in has]
        with_part = [name for name, has in known if part in has and whole not in has]
        if whole in segments and with_whole and with_part:
            yield (
                f"{whole} of manifest {with_whole[0]} holds what is {part} in {with_part[0]}: a "
                "network cannot learn both. Take one of the two names out of network.segments"
            )


def _has_volumes(found: Sequence[str], wanted: Sequence[str]) -> bool:
    return set(wanted) <= set(found) or (tuple(wanted) == (ANY_VOLUME,) and len(found) == 1)


def network_rows(case: Case, volumes: Sequence[str]) -> list[VolumeRow]:
    """The rows of the network's volumes, in its order."""
    rows = {row.volume_id: row for row in case.volumes}
    if tuple(volumes) == (ANY_VOLUME,) and len(rows) == 1:
        return list(rows.values())
    return [rows[name] for name in volumes]


def finding_values(case: Case, names: Sequence[str]) -> list[float]:
    """One number per finding of the network: 1, 0, or NaN for unknown."""
    values = [case.findings.get(name) for name in names]
    return [float("nan") if value is None else float(value) for value in values]
