"""The DICOM results of one case: SEG, SR, parametric maps and RTSTRUCT beside the other files."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from medmtl.core.flags import Flag

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from medmtl.core.prediction import Prediction, VolumePrediction
    from medmtl.core.study import Study
    from medmtl.report.dicom_seg import SegType
    from medmtl.report.dicom_source import DicomSource

__all__ = ["DicomResults", "dicom_results"]

_DICOM = frozenset({"seg", "seg-labelmap", "sr", "pm", "rtstruct"})


@dataclass(frozen=True, eq=False)
class DicomResults:
    """What is to be written as DICOM; nothing where `sources` is empty.

    Attributes:
        formats: Asked for.
        sources: By volume id; they hold the patient's attributes.
    """

    formats: frozenset[str]
    sources: Mapping[str, DicomSource] = field(default_factory=dict, repr=False)

    def write(self, folder: Path, part: VolumePrediction, prediction: Prediction) -> None:
        """Write the objects of one volume into its folder.

        Raises:
            OSError: If a file cannot be written.
        """
        source = self.sources.get(part.volume.id)
        if source is None:
            return
        self._write_masks(folder, part, prediction, source)
        if "pm" in self.formats:
            _write_maps(folder, prediction, source)

    def _write_masks(
        self, folder: Path, part: VolumePrediction, prediction: Prediction, source: DicomSource
    ) -> None:
        # highdicom takes a second to import.
        from medmtl.report.dicom_rtstruct import make_rtstruct
        from medmtl.report.dicom_seg import make_seg
        from medmtl.report.dicom_segments import segments_of
        from medmtl.report.dicom_source import save_dicom
        from medmtl.report.dicom_sr import make_sr

        if not self.formats - {"pm"}:
            return
        segments = segments_of(source, prediction)
        seg = None
        if segments and self.formats & {"seg", "seg-labelmap", "sr"}:
            kind: SegType = "labelmap" if "seg-labelmap" in self.formats else "binary"
            seg = make_seg(source, part.label_map, segments, seg_type=kind)
            seg.save(folder / "segmentation.seg.dcm")
        if "sr" in self.formats:
            report = make_sr(source, prediction, seg=seg, segments=segments)
            save_dicom(folder / "findings.sr.dcm", report)
        if segments and "rtstruct" in self.formats:
            structures = make_rtstruct(source, part.label_map, segments)
            save_dicom(folder / "segmentation.rtstruct.dcm", structures)


def _write_maps(folder: Path, prediction: Prediction, source: DicomSource) -> None:
    from medmtl.report.dicom_pm import make_pm
    from medmtl.report.dicom_source import save_dicom

    for number, finding in enumerate(prediction.findings, start=1):
        cam = finding.cams.get(source.volume_id)
        if cam is not None:
            pm = make_pm(source, cam, finding=finding.name, number=number)
            save_dicom(folder / f"cam_{finding.name}.pm.dcm", pm)


def dicom_results(
    study: Study, prediction: Prediction, *, formats: Collection[str]
) -> tuple[DicomResults, Prediction]:
    """Read the source headers that DICOM results need.

    Args:
        study: The study that was analysed.
        prediction: The answer.
        formats: All that were asked for, DICOM or not.

    Returns:
        What to write, and the prediction with a flag where DICOM results cannot be written.

    Raises:
        InputRefusedError: If a source file is not there any more.
    """
    wanted = frozenset(formats) & _DICOM
    if not wanted:
        return DicomResults(wanted), prediction
    from medmtl.report.dicom_source import DicomSource, NoDicomSourceError  # load pydicom

    try:
        sources = {
            part.volume.id: DicomSource.of(study, part.volume, prediction.model)
            for part in prediction.volumes
        }
    except NoDicomSourceError as error:
        flag = Flag("dicom-results-not-written", "info", str(error))
        return DicomResults(wanted), replace(prediction, flags=(*prediction.flags, flag))
    return DicomResults(wanted, sources), prediction
