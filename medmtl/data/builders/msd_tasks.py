"""The ten tasks of the Decathlon: what their labels and channels are.

Names of shared structures are those of the other manifests, so that data sets mix. Labels and
channels as in the dataset.json of each task and in Simpson et al., arXiv:1902.09063.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medmtl.core.errors import ConfigError
from medmtl.core.labels import Code, LabelSchema, SegmentSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TASKS", "Task", "schema_of"]

_UNSAFE = re.compile(r"[^a-z0-9]+")
_NEOPLASM = Code("108369006", "Neoplasm")


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        number: 1 to 10.
        name: Of the manifest, after `msd_`.
        modality: DICOM modality.
        segments: In label order from 1.
        channels: Volume ids of the channels, in file order.
    """

    number: int
    name: str
    modality: str
    segments: tuple[SegmentSpec, ...]
    channels: tuple[str, ...] = ("image",)


def _lesion(label: int, name: str) -> SegmentSpec:
    return SegmentSpec(label, name, _NEOPLASM, is_lesion=True)


TASKS: Mapping[str, Task] = {
    "brats": Task(
        1, "brain_tumour", "MR",
        (
            SegmentSpec(1, "peritumoral_edema", Code("79654002", "Edema"), is_lesion=True),
            SegmentSpec(2, "non_enhancing_tumor", None, is_lesion=True),
            SegmentSpec(3, "enhancing_tumor", None, is_lesion=True),
        ),
        ("flair", "t1", "t1ce", "t2"),
    ),
    "la": Task(
        2, "heart", "MR",
        (SegmentSpec(1, "heart_atrium_left", Code("82471001", "Left atrium")),),
    ),
    "liver": Task(
        3, "liver", "CT",
        (SegmentSpec(1, "liver", Code("10200004", "Liver")), _lesion(2, "liver_tumor")),
    ),
    "hippocampus": Task(
        4, "hippocampus", "MR",
        (SegmentSpec(1, "hippocampus_anterior"), SegmentSpec(2, "hippocampus_posterior")),
    ),
    "prostate": Task(
        5, "prostate", "MR",
        (SegmentSpec(1, "prostate_peripheral_zone"), SegmentSpec(2, "prostate_transition_zone")),
        ("t2", "adc"),
    ),
    "lung": Task(6, "lung", "CT", (_lesion(1, "lung_tumor"),)),
    "pancreas": Task(
        7, "pancreas", "CT",
        (SegmentSpec(1, "pancreas", Code("15776009", "Pancreas")), _lesion(2, "pancreas_tumor")),
    ),
    "hepaticvessel": Task(
        8, "hepatic_vessel", "CT",
        (SegmentSpec(1, "hepatic_vessel"), _lesion(2, "liver_tumor")),
    ),
    "spleen": Task(9, "spleen", "CT", (SegmentSpec(1, "spleen", Code("78961009", "Spleen")),)),
    "colon": Task(10, "colon", "CT", (_lesion(1, "colon_tumor"),)),
}  # fmt: skip
"""By what stands before the number in every file name, in lower case."""


def schema_of(task: Task | None, header: Any, problems: list[str]) -> LabelSchema:
    """The labels of a known task, where dataset.json does not contradict it; else of the file.

    Raises:
        ConfigError: If there is neither a known task nor a usable dataset.json.
    """
    stated = header.get("labels") if isinstance(header, dict) else None
    named = _named(stated) if isinstance(stated, dict) else {}
    if task is not None and (not named or named.keys() == {s.label for s in task.segments}):
        return LabelSchema(segments=task.segments)
    if not named:
        raise ConfigError("dataset.json names no labels. Download it again.")
    if task is not None:
        problems.append(
            f"dataset.json has labels {sorted(named)}, task {task.number} has "
            f"{[s.label for s in task.segments]}; those of dataset.json are taken"
        )
    return LabelSchema(
        segments=tuple(SegmentSpec(label, name) for label, name in sorted(named.items()))
    )


def _named(labels: Mapping[str, Any]) -> dict[int, str]:
    """Label values above zero with snake-case names; `{"0": "background", "1": "Anterior"}`."""
    named = {}
    for value, text in labels.items():
        name = _UNSAFE.sub("_", str(text).lower()).strip("_")
        if value.isdigit() and int(value) > 0 and name:
            named[int(value)] = name if name[0].isalpha() else f"label_{name}"
    return named
