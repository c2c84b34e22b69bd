"""Many studies through one model on the machines of a Ray cluster, into one result folder.

The driver claims the cases, resumes, publishes and writes the tables as a local run does; reading,
the network and writing happen where the workers are. Files go by path where a worker sees the
driver's folders, else through Ray's object store. A case that was in the hands of a worker that
died goes to another; its lock is the driver's, so nobody else takes it up meanwhile.
"""

from __future__ import annotations

import logging
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import ray
from ray.exceptions import RayError, RayTaskError

from medmtl.core.errors import ConfigError, MedmtlError
from medmtl.inference.batch import Batch, BatchOptions
from medmtl.inference.case_store import output_errors
from medmtl.inference.cluster_crew import Crew
from medmtl.inference.cluster_run import ClusterRun
from medmtl.inference.cluster_seats import seats_of
from medmtl.inference.cluster_worker import Probe
from medmtl.inference.parcel import Parcel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from medmtl.core.prediction import ModelIdentity
    from medmtl.core.study import Listing
    from medmtl.inference.batch import Analyser, CaseOutcome

__all__ = ["run_on_ray"]


def run_on_ray(
    listing: Listing,
    load: Callable[[str], Analyser],
    *,
    address: str,
    device: str,
    out: Path,
    input_path: Path,
    options: BatchOptions | None = None,
    transfer: Literal["auto", "store"] = "auto",
) -> Iterator[CaseOutcome]:
    """Analyse every study of a listing into a result folder, as `run_batch` does, on a cluster.

    Args:
        listing: What `open_input` found.
        load: Makes the analyser on "cpu" or "cuda"; sent to every worker.
        address: Of the cluster; "auto" finds one that this machine belongs to, "local" starts one.
        device: "auto", "cpu" or "cuda".
        out: Result folder; only the driver needs to see it.
        input_path: What was listed; only the driver needs to see it.
        options: Formats and restart.
        transfer: "auto" looks at each worker for the driver's folders; "store" shares nothing.

    Yields:
        One outcome per study, in the order in which they are decided.

    Raises:
        ConfigError: If there is no such cluster, no fitting machine in it, or machines differ.
        MedmtlError: If the cluster is lost. Finished cases stay.
        OutputError: If the folder cannot be written (any more). Finished cases stay.
    """
    batch = Batch.open(listing, out=out, input_path=input_path, options=options or BatchOptions())
    with _connected(address), _token(batch) as token:
        if not seats_of(ray.nodes(), device):
            raise ConfigError(f"--device {device}: no machine of the cluster has one.")
        probe = Probe(None, None) if transfer == "store" else Probe(_sample(listing), token)
        crew = Crew(load, device, probe)
        try:
            model, settings = _first_facts(crew)
            reader = batch.reader(model, settings, lambda _: None)
            yield from batch.with_tables(
                ClusterRun(batch, crew, reader).outcomes(), model, settings
            )
        except RayTaskError as error:
            raise MedmtlError(f"Ray: {type(error.cause).__name__} in a worker.") from None
        except RayError as error:
            message = f"The cluster was lost ({type(error).__name__}). Start again; finished cases"
            raise MedmtlError(f"{message} are kept.") from None
        finally:
            crew.end()


@contextmanager
def _connected(address: str) -> Iterator[None]:
    """Ray without its dashboard; the command line, which names the input, stays with us."""
    if ray.is_initialized():
        raise ConfigError("This process is connected to Ray already. Call ray.shutdown() first.")
    utils = ray._private.utils  # no public way: the job table would show our arguments
    said, utils.get_entrypoint_name = utils.get_entrypoint_name, lambda: "medmtl"
    own = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"--address: no Ray cluster answers there ({type(error).__name__}). Give HOST:PORT of "
            "its head, auto on a machine of the cluster, or local to start one here."
        ) from None
    finally:
        utils.get_entrypoint_name = said
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _token(batch: Batch) -> Iterator[Path]:
    """A file by which a worker knows the result folder."""
    path = batch.store.area("inputs") / f"{uuid.uuid4().hex}.token"
    with output_errors("The output folder"):
        path.write_bytes(b"medmtl\n")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _sample(listing: Listing) -> tuple[Path, int, int] | None:
    """One file of the input, by which a worker knows the folder."""
    for study in listing.studies:
        for path in Parcel.of(study).files:
            try:
                status = path.stat()
            except OSError:
                continue
            return path, status.st_size, status.st_mtime_ns
    return None


def _first_facts(crew: Crew) -> tuple[ModelIdentity, Mapping[str, Any]]:
    """The model, and the settings of each kind of device: either may give an answer."""
    while True:
        crew.look()
        kinds = crew.kinds()
        if kinds and all(kinds.values()):
            break
        crew.wait_for(())
    known = {device: facts for device, facts in kinds.items() if facts is not None}
    model = next(iter(known.values())).model
    settings = {device: facts.settings for device, facts in sorted(known.items())}
    return model, next(iter(settings.values())) if len(settings) == 1 else settings
