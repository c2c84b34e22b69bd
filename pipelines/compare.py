"""`medmtl compare`: is joint learning better? Same cases, same budget, paired intervals."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from .console import OK, SOME_FAILED, JsonLogsOption, OutOption, QuietOption, set_up_logging
from .model_source import TrackingUriOption
from .train import ConfigArgument, DataRootOption, SetOption, find_config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.build.compare import ArmRun

logger = logging.getLogger("medmtl.compare")


def compare(
    config: ConfigArgument,
    out: OutOption,
    overrides: SetOption = None,
    data_root: DataRootOption = Path(),
    tracking_uri: TrackingUriOption = None,
    quiet: QuietOption = False,
    json_logs: JsonLogsOption = False,
) -> None:
    """Train the arms of a file and compare them; start again to go on where it stopped."""
    set_up_logging(quiet=quiet, json_logs=json_logs)
    from medmtl.build.compare import plan_runs

    path = find_config(config)
    runs = plan_runs(path, overrides or ())
    failed = []
    for number, run in enumerate(runs, start=1):
        logger.info("run %d of %d: %s", number, len(runs), run.folder)
        if not _train(run, path, out, data_root=data_root, tracking_uri=tracking_uri):
            failed.append(run.folder)
    if failed:
        logger.error("not trained: %s; the reasons are in their train.log", ", ".join(failed))
        raise typer.Exit(SOME_FAILED)
    _report(runs, out, tracking_uri=tracking_uri)
    raise typer.Exit(OK)


def _train(
    run: ArmRun, path: Path, out: Path, *, data_root: Path, tracking_uri: str | None
) -> bool:
    """One run in a process of its own, so that its memory is its own; whether it is finished."""
    from medmtl.build.compare import seconds_per_case
    from medmtl.build.folder import holds_run

    folder = out / run.folder
    timing = folder / "seconds_per_case.json"
    if timing.exists() and holds_run(run.config, folder):
        logger.info("%s: finished before", run.folder)
        return True
    command = [sys.executable, "-m", "medmtl", "train", str(path), "-o", str(folder), "--resume"]
    command += ["--data-root", str(data_root)]
    command += ["--tracking-uri", tracking_uri] if tracking_uri else []
    shared = (
        f"data.cache_dir={json.dumps(str(out / 'cache'))}",
        f"tracking.store={json.dumps(str(_store(run, out)))}",
    )
    for override in (*run.overrides, *shared):
        command += ["--set", override]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "train.log").open("ab") as log:
        status = subprocess.run(command, stdout=log, stderr=log, check=False).returncode  # noqa: S603
    if status:
        logger.error("%s: ended with status %d", run.folder, status)
        return False
    seconds = seconds_per_case(run, folder / "bundle", data_root)
    timing.write_text(json.dumps(seconds), encoding="utf-8")
    return True


def _store(run: ArmRun, out: Path) -> Path:
    """The local store that all runs of the comparison share."""
    return Path(run.config.tracking.store or out.parent / "mlflow")


def _report(runs: Sequence[ArmRun], out: Path, *, tracking_uri: str | None) -> None:
    from medmtl.build.compare import comparison_record
    from medmtl.report.comparison_page import comparison_page, verdict_lines

    record = comparison_record(runs, out)
    (out / "compare.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (out / "compare.html").write_text(comparison_page(record), encoding="utf-8")
    for line in verdict_lines(record):
        logger.info("%s", line)
    tracking = runs[0].config.tracking
    if tracking.enabled:
        from medmtl.tracking.mlflow_run import start_run

        uri = tracking.uri or tracking_uri
        store = _store(runs[0], out)
        tracker = start_run(uri, experiment=tracking.experiment, run_name=None, store=store)
        for name in ("compare.json", "compare.html"):
            tracker.log_file(out / name)
        tracker.close("FINISHED")
    logger.info("report: %s", out / "compare.html")
