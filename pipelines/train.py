"""`medmtl train`: one tracked training run that ends with a model bundle."""

from __future__ import annotations

import logging
import signal
import time
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medmtl.core.errors import system_reason

from .console import JsonLogsOption, QuietOption, console, set_up_logging

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import Progress

    from medmtl.config import TrainConfig
    from medmtl.tracking.tracker import RunStatus, Tracker
    from medmtl.training.loop import StepReport

logger = logging.getLogger("medmtl.train")

ConfigArgument = Annotated[
    str, typer.Argument(metavar="CONFIG", help="TOML file, or name of one of the shipped.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a setting; the value is TOML."),
]
DataRootOption = Annotated[
    Path,
    typer.Option(metavar="DIR", help="Where manifests' paths start; else MEDMTL_DATA_ROOT."),
]

LINE_EVERY_S = 30.0
FAILED = 1
STOPPED = 143
"""128 + SIGTERM, as a shell reports a process that ended by it."""


def train(
    config: ConfigArgument,
    overrides: SetOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Run folder; runs/<name> if not given."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in the run folder.")
    ] = False,
    data_root: DataRootOption = Path(),
    tracking_uri: Annotated[
        str | None,
        typer.Option(
            metavar="URI",
            help="MLflow server or database; tracking.uri of the configuration comes first, then "
            "this, then MLFLOW_TRACKING_URI, else mlflow/ beside the run folder.",
        ),
    ] = None,
    quiet: QuietOption = False,
    json_logs: JsonLogsOption = False,
) -> None:
    """Train a joint model, in several processes under `torchrun -m medmtl train ...`.

    SIGTERM and Ctrl-C save a checkpoint, end with status 143, and --resume goes on from there.
    """
    set_up_logging(quiet=quiet, json_logs=json_logs)
    from medmtl.build import train_run
    from medmtl.build.folder import check_resumed, sole_run
    from medmtl.config import load_config
    from medmtl.inference.predictor import choose_device
    from medmtl.training.distributed import join_ranks, leave_ranks
    from medmtl.training.mask_change import MasksLostError
    from medmtl.training.memory import OutOfMemoryError
    from medmtl.training.step import TrainingDivergedError
    from medmtl.training.trainer import TrainingStoppedError

    settings = _with_local_encoder(load_config(find_config(config), overrides or ()), tracking_uri)
    folder = out or Path("runs") / settings.name
    ranks = join_ranks(choose_device(settings.trainer.device))
    if not ranks.is_main:
        set_up_logging(quiet=True, json_logs=json_logs)
    # Before the tracker: a refused start must neither take the place of the run in
    # mlflow_run_id.txt nor make one that is finished a failed one.
    with sole_run(folder, resume=resume) if ranks.is_main else nullcontext():
        if ranks.is_main:
            check_resumed(settings, folder, processes=ranks.world)
        tracker = _tracker(settings, folder, uri=tracking_uri, resume=resume, is_main=ranks.is_main)
        status: RunStatus = "FAILED"
        try:
            with _bar() as progress:
                result = train_run(
                    settings,
                    folder,
                    data_root=data_root,
                    resume=resume,
                    tracker=tracker,
                    watch=_watch(progress),
                    should_stop=_asked_to_stop(),
                    ranks=ranks,
                )
            status = "FINISHED"
        except TrainingStoppedError as error:
            status = "KILLED"
            logger.warning("%s", error)
            raise typer.Exit(STOPPED) from None
        except (TrainingDivergedError, OutOfMemoryError, MasksLostError) as error:
            logger.error("%s", error)  # noqa: TRY400 - one line, no traceback
            raise typer.Exit(FAILED) from None
        except OSError as error:
            logger.error("%s", _not_written(error))  # noqa: TRY400
            raise typer.Exit(FAILED) from None
        finally:
            tracker.close(status)
            leave_ranks()
    logger.info("bundle: %s", result.bundle)


def _not_written(error: OSError) -> str:
    """Such as a full disk."""
    return (
        f"the run stopped: {system_reason(error)}. The last checkpoint is whole; free or change "
        "the disk and go on with --resume."
    )


def find_config(name: str) -> Path:
    """The file of that path, or the shipped configuration of that name.

    Raises:
        ConfigError: If there is neither.
    """
    path = Path(name)
    if path.is_file():  # a folder may be called like a configuration
        return path
    shipped = {one.stem: one for one in (Path(__file__).parent / "configs").glob("*.toml")}
    if path.parent == Path() and path.stem in shipped:
        return shipped[path.stem]
    from medmtl import ConfigError

    names = ", ".join(sorted(shipped))
    raise ConfigError(f"{path.name}: found no such file, expected a TOML file or one of {names}.")


def _with_local_encoder(settings: TrainConfig, tracking_uri: str | None) -> TrainConfig:
    """`encoder.from` may also be a folder of nnU-Net or an address of the registry."""
    if settings.encoder is None:
        return settings
    from .model_source import local_model

    source = str(local_model(settings.encoder.source, tracking_uri=tracking_uri))
    encoder = settings.encoder.model_copy(update={"source": source})
    return settings.model_copy(update={"encoder": encoder})


def _tracker(
    settings: TrainConfig, folder: Path, *, uri: str | None, resume: bool, is_main: bool
) -> Tracker:
    """MLflow, by default in a store that the runs of one folder share; a resumed run goes on."""
    from medmtl.tracking.tracker import NoTracker

    if not settings.tracking.enabled or not is_main:
        return NoTracker()
    from medmtl.build.folder import was_begun
    from medmtl.tracking.mlflow_run import start_run

    note = folder / "mlflow_run_id.txt"
    goes_on = resume and was_begun(folder) and note.exists()
    known = note.read_text(encoding="utf-8").strip() if goes_on else None
    run = start_run(
        settings.tracking.uri or uri,
        experiment=settings.tracking.experiment,
        run_name=settings.tracking.run_name,
        store=Path(settings.tracking.store or folder.parent / "mlflow"),
        run_id=known,
    )
    note.write_text(f"{run.run_id}\n", encoding="utf-8")
    return run


def _bar() -> Progress:
    from rich.progress import Progress, TextColumn, TimeRemainingColumn

    columns = (
        *Progress.get_default_columns()[:-1],
        TimeRemainingColumn(),
        TextColumn("{task.fields[now]}"),
    )
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _watch(progress: Progress) -> Callable[[StepReport, int], None]:
    """A bar with the time left on a terminal; elsewhere a line now and then."""
    task = progress.add_task("training", total=None, now="")
    began = said = time.monotonic()
    first: int | None = None

    def watch(report: StepReport, steps: int) -> None:
        nonlocal said, first
        first = report.step - 1 if first is None else first
        losses = ", ".join(f"{name} {value:.3f}" for name, value in report.losses.items())
        progress.update(task, total=steps, completed=report.step, now=losses)
        now = time.monotonic()
        if console.is_terminal or now - said < LINE_EVERY_S:
            return
        said = now
        left_s = (now - began) / (report.step - first) * (steps - report.step)
        left = timedelta(seconds=round(left_s))
        logger.info("step %d of %d: %s, %s left", report.step, steps, losses, left)

    return watch


def _asked_to_stop() -> Callable[[], bool]:
    """SIGTERM and Ctrl-C ask once; the second time they end the process as they always do."""
    asked: list[int] = []

    def ask(number: int, _: object) -> None:
        asked.append(number)
        signal.signal(number, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
    return lambda: bool(asked)
