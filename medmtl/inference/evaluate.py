"""A model over the cases of a manifest: one score or one failure per case.

The library yields, the program draws the progress; `evaluation_report.py` makes metrics.json.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from medmtl.core.errors import ConfigError
from medmtl.core.study import Study, VolumeRef
from medmtl.data.manifest import check_files
from medmtl.data.volume_file import read_volume_file
from medmtl.inference.failure import attempt
from medmtl.inference.resume import model_key
from medmtl.inference.score_case import check_truth, score_case
from medmtl.inference.score_picture import save_picture
from medmtl.inference.score_record import load_score, save_score, score_key
from medmtl.metrics.surface import TOLERANCE_MM

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from medmtl.core.volume import Volume
    from medmtl.data.cases import Case, Manifest, VolumeRow
    from medmtl.inference.batch import Analyser
    from medmtl.metrics.scores import CaseScore
    from medmtl.report.table import Failure


__all__ = ["Evaluation"]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How cases are measured.

    Attributes:
        analyser: The loaded model.
        manifest: Whose label schema gives the truth its meaning.
        data_root: Folder that the manifest's paths start from.
        records: Folder of the scores and pictures of finished cases; None to keep none.
        tolerance_mm: Of the normalised surface Dice.
    """

    analyser: Analyser
    manifest: Manifest
    data_root: Path
    records: Path | None = None
    tolerance_mm: float = TOLERANCE_MM

    def run(self, cases: Sequence[Case]) -> Iterator[CaseScore | Failure]:
        """Measure case by case, in order; a case that was measured before is not computed again.

        Raises:
            OutputError: If a score cannot be written; those written before stay.
        """
        for case in cases:
            yield attempt(case.case_id, "evaluate", partial(self._measure, case))

    def _measure(self, case: Case) -> CaseScore:
        problems = check_files([case], self.data_root, with_checksums=True)
        if problems:
            raise ConfigError("; ".join(problems))
        key = score_key(
            case,
            self.data_root,
            model_key=model_key(self.analyser.identity, self.analyser.settings, ()),
            settings=[self.tolerance_mm, asdict(self.manifest.schema), self.manifest.modality],
        )
        known = load_score(self.records, case.case_id, key=key) if self.records else None
        return known or self._compute(case, key)

    def _compute(self, case: Case, key: str) -> CaseScore:
        images = self._images(case)
        truths = self._truths(case, images)
        study = self._study(case, images)
        chosen = [ref.read() for ref in self.analyser.select(study)]
        prediction = self.analyser.analyse(study, chosen)
        schema = self.manifest.schema
        score = score_case(case, prediction, truths, schema=schema, tolerance_mm=self.tolerance_mm)
        if self.records:
            save_picture(self.records, case, prediction, truths, schema=schema)
            save_score(self.records, score, key=key)
        return score

    def study(self, case: Case) -> Study:
        """The case as a study whose volumes are read already."""
        return self._study(case, self._images(case))

    def _images(self, case: Case) -> dict[str, Volume]:
        """Images by volume id."""
        return {row.volume_id: self._image(row) for row in case.volumes}

    def _image(self, row: VolumeRow) -> Volume:
        """Named and typed as the manifest says; typed as the file says where it does not."""
        image = read_volume_file(self.data_root, row.image)
        modality = self.manifest.modality or image.modality
        return replace(image, id=row.volume_id, modality=modality, path=row.image)

    def _truths(self, case: Case, images: Mapping[str, Volume]) -> dict[str, Volume]:
        truths = {}
        for row in case.volumes:
            if row.segmentation is not None:
                truth = read_volume_file(self.data_root, row.segmentation)
                check_truth(
                    truth,
                    images[row.volume_id].geometry,
                    schema=self.manifest.schema,
                    source=row.segmentation,
                )
                truths[row.volume_id] = truth
        return truths

    def _study(self, case: Case, images: Mapping[str, Volume]) -> Study:
        refs = tuple(
            VolumeRef(
                id=volume_id,
                decode=partial(_same, image),
                geometry=image.geometry,
                modality=image.modality,
                source_files=(image.path,),
                flags=image.flags,
            )
            for volume_id, image in images.items()
        )
        return Study(
            case_id=case.case_id,
            kind="nifti",
            study_uid="",
            volumes=refs,
            covariates=case.covariates,
        )


def _same(image: Volume, _: VolumeRef) -> Volume:
    """What was read already."""
    return image
