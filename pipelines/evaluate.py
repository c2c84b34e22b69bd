"""`medmtl evaluate`: a model against the truth of a manifest, with intervals over patients."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import (
    OK,
    SOME_FAILED,
    JsonLogsOption,
    ManifestOption,
    OutOption,
    QuietOption,
    console,
    set_up_logging,
)
from .model_source import (
    ChannelOption,
    DeviceOption,
    SpeedOption,
    TrackingUriOption,
    converted_cache,
    local_model,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from medmtl.data.manifest import Case
    from medmtl.metrics.scores import CaseScore
    from medmtl.report.table import Failure

logger = logging.getLogger("medmtl.evaluate")


def evaluate(
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME_OR_PATH", help="Model bundle, or models:/NAME@ALIAS.", show_default=False
        ),
    ],
    manifest: ManifestOption,
    out: OutOption,
    split: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which cases. Default: test if there is one, else all."),
    ] = None,
    data_root: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Where its paths start; else MEDMTL_DATA_ROOT."),
    ] = Path(),
    device: DeviceOption = "auto",
    cam: Annotated[str, typer.Option(help="all, or none to leave evidence out (faster).")] = "all",
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Group by this column of cases.csv, or by age_years=40,65; may be repeated. "
            "Default: every column that splits the cases.",
        ),
    ] = None,
    min_group: Annotated[
        int, typer.Option(min=1, help="Groups of fewer patients are not shown.")
    ] = 5,
    uncertainty: Annotated[
        str, typer.Option(help="none, tta or ensemble, to measure what their spread is worth.")
    ] = "none",
    channel: ChannelOption = None,
    speed: SpeedOption = None,
    tracking_uri: TrackingUriOption = None,
    quiet: QuietOption = False,
    json_logs: JsonLogsOption = False,
) -> None:
    """Measure a model on the cases of a manifest. Cases measured before are not computed again."""
    set_up_logging(quiet=quiet, json_logs=json_logs)
    from medmtl.data.manifest import manifest_sha256, read_manifest
    from medmtl.data.splits import choose_split, require_truth

    known = read_manifest(manifest)
    name, cases = choose_split(known, split)
    require_truth(known, cases, name)
    _check_root(cases, data_root)
    records = out / ".medmtl" / "scores"
    _check_out(records)
    from medmtl.inference.evaluate import Evaluation
    from medmtl.inference.evaluation_report import metrics_record, write_report
    from medmtl.inference.predictor import load_predictor
    from medmtl.inference.subgroup_columns import choose_columns, known_columns
    from medmtl.report.table import Failure

    model_folder = local_model(model, tracking_uri=tracking_uri)
    analyser = load_predictor(
        model_folder,
        device=device,
        cam=cam,
        uncertainty=uncertainty,
        backend="torch" if speed is None else "auto",
        cache=converted_cache(),
        channels=channel or (),
        speed=speed,
    )
    evaluation = Evaluation(
        analyser=analyser,
        manifest=known,
        data_root=data_root,
        records=records,
    )
    choose_columns(known_columns(cases, ()), _of_manifest(by))  # a wrong name is said at once
    results = _follow(evaluation.run(cases), total=len(cases))
    scores = [result for result in results if not isinstance(result, Failure)]
    record = metrics_record(
        results,
        model=analyser.identity,
        manifest=known,
        manifest_sha256=manifest_sha256(manifest),
        split=name,
        tolerance_mm=evaluation.tolerance_mm,
        columns=choose_columns(known_columns(cases, scores), by),
        min_patients=min_group,
        speed=analyser.settings.get("speed"),
    )
    write_report(out, record, results, records=evaluation.records)
    _say(record)
    raise typer.Exit(SOME_FAILED if record["n_failed"] else OK)


def _of_manifest(by: list[str] | None) -> list[str] | None:
    """Columns that can be checked before anything is computed; slice_mm comes from the images."""
    return None if by is None else [text for text in by if text.partition("=")[0] != "slice_mm"]


def _say(record: Mapping[str, Any]) -> None:
    """The warnings, and the few numbers that matter most with their intervals."""
    for warning in record["warnings"]:
        logger.warning("%s", warning["message"])
    diagnosis = record["diagnosis"]
    main = {
        "mean_dice": record["segmentation"]["mean_dice"],
        "accuracy": diagnosis.get("accuracy"),
        "macro_auroc": diagnosis["macro_auroc"],
    }
    numbers = {name: part for name, part in main.items() if part and part["value"] is not None}
    counts = {key: record[key] for key in ("split", "n_cases", "n_failed")}
    console.print_json(data={**counts, **numbers})


def _check_root(cases: Sequence[Case], data_root: Path) -> None:
    """A wrong data root is one error, not one failure per case."""
    from medmtl.core.errors import ConfigError

    images = [row.image for case in cases for row in case.volumes]
    if not any((data_root / image).is_file() for image in images):
        message = (
            f"none of the {len(images)} images of the manifest, such as {images[0]}, lies below "
            "the data root. Give the folder that its paths start from with --data-root."
        )
        raise ConfigError(message)


def _check_out(records: Path) -> None:
    """A place that takes no files is said before anything is computed."""
    from tempfile import TemporaryFile

    from medmtl.inference.case_store import output_errors

    with output_errors("The evaluation"):
        records.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=records).close()


def _follow(results: Iterator[CaseScore | Failure], *, total: int) -> list[CaseScore | Failure]:
    """Collect the results, with a bar on a terminal and a line per case elsewhere."""
    from rich.progress import Progress

    from medmtl.report.table import Failure

    collected: list[CaseScore | Failure] = []
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("cases", total=total)
        for number, result in enumerate(results, start=1):
            collected.append(result)
            progress.advance(task)
            if isinstance(result, Failure):
                logger.error("%s failed: %s. %s", result.what, result.reason, result.advice)
            elif not console.is_terminal:
                logger.info("%d/%d %s: done", number, total, result.case_id)
    return collected
