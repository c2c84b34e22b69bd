"""The folder of a run: one run each, and a resumed one with the same settings and cases."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from medmtl.build.encoder import with_encoder
from medmtl.config import TrainConfig
from medmtl.core.durable import replace_file
from medmtl.core.errors import ConfigError, OutputError
from medmtl.data.manifest import find_manifest, manifest_sha256, read_manifest
from medmtl.inference.lock import FileLock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = [
    "check_folder", "check_manifests", "check_resumed", "holds_run", "sole_run", "was_begun",
]  # fmt: skip


@contextmanager
def sole_run(out: Path, *, resume: bool) -> Iterator[None]:
    """Keep a run folder to one run: no second one at the same time, none over a finished one.

    Raises:
        ConfigError: If another process trains there, or a run lies there that is not resumed.
        OutputError: If the folder cannot be written.
    """
    _check_unused(out, resume=resume)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock.try_acquire(out / ".run.lock")
    except OSError as error:
        message = f"{out.name}: the run folder cannot be written ({error.strerror})."
        raise OutputError(f"{message} Choose another one with -o.") from error
    if lock is None:
        raise ConfigError(
            f"{out.name}: found another process that trains there now, expected none. Wait for its "
            "end, or choose another folder with -o."
        )
    try:
        yield
    finally:
        lock.release()


def holds_run(config: TrainConfig, out: Path) -> bool:
    """Whether the run in `out` was made with this configuration, of the cases as they are now."""
    path, noted = out / "config.json", out / "manifests.json"
    if not (path.exists() and noted.exists()):
        return False
    wanted = json.dumps(config.model_dump(mode="json"))
    known: dict[str, str] = json.loads(noted.read_text("utf-8"))
    return _matters(_as_today(path)) == _matters(wanted) and known == _digests(config)


def was_begun(out: Path) -> bool:
    """Whether a run took steps in `out`, from which it can go on, or ended there without any."""
    return any((out / name).exists() for name in ("checkpoints/last.ckpt", "run.json"))


def check_resumed(config: TrainConfig, out: Path, *, processes: int) -> None:
    """Refuse to go on with other settings or cases before anybody is told; nothing is written.

    Args:
        config: The run.
        out: Its folder.
        processes: That train together now.

    Raises:
        BundleError: If the encoder is missing or damaged.
        ConfigError: If they are others, or cannot be read.
    """
    if not was_begun(out):
        return
    if config.encoder is not None:
        config, _ = with_encoder(config)
    check_folder(config, out, resume=True, is_main=False, processes=processes)
    for one in config.data.manifests:
        read_manifest(find_manifest(one.folder))
    check_manifests(config, out, is_main=False)


def check_folder(
    config: TrainConfig, out: Path, *, resume: bool, is_main: bool, processes: int = 1
) -> None:
    """Refuse to mix two runs in one folder; write the resolved config beside the checkpoints.

    Args:
        config: The run.
        out: Its folder.
        resume: Whether it may go on with a run that lies there.
        is_main: Whether this process writes.
        processes: That train together: steps per epoch, schedule and batches depend on them.

    Raises:
        ConfigError: If another run lies there, or one that is not resumed.
    """
    path, noted = out / "config.json", out / "processes.json"
    text = json.dumps(config.model_dump(mode="json"), indent=1) + "\n"
    started = _check_unused(out, resume=resume)
    if started and path.exists() and _matters(_as_today(path)) != _matters(text):
        raise ConfigError(
            f"{out.name}: --resume with another configuration than the run was started with "
            "(config.json). Use the same, or choose another folder with -o."
        )
    known = json.loads(noted.read_text("utf-8")) if started and noted.exists() else processes
    if known != processes:
        raise ConfigError(
            f"{out.name}: --resume with {processes} process(es), but the run was started with "
            f"{known} (processes.json), which decides its steps and batches. Use as many (torchrun "
            f"--nproc-per-node {known}), or choose another folder with -o."
        )
    if is_main:
        out.mkdir(parents=True, exist_ok=True)
        replace_file(path, text.encode())
        replace_file(noted, f"{processes}\n".encode())


def _check_unused(out: Path, *, resume: bool) -> bool:
    """Whether a run was started there, which must then be resumed."""
    started = was_begun(out)
    if started and not resume:
        raise ConfigError(
            f"{out.name}: found a run there, expected an empty folder. Go on with --resume, or "
            "choose another folder with -o."
        )
    return started


def check_manifests(config: TrainConfig, out: Path, *, is_main: bool) -> None:
    """Refuse to go on with cases that were edited since the run was started.

    Raises:
        ConfigError: Naming the manifests.
    """
    path = out / "manifests.json"
    found = _digests(config)
    known = json.loads(path.read_text("utf-8")) if was_begun(out) and path.exists() else {}
    if edited := [folder for folder, digest in known.items() if found.get(folder, "") != digest]:
        raise ConfigError(
            f"{out.name}: --resume with other manifests than the run was started with: "
            f"{', '.join(edited)} changed since (manifests.json has their SHA-256). The run would "
            "learn from other cases than it says. Undo the change, or choose another folder (-o)."
        )
    if is_main:
        replace_file(path, (json.dumps(known or found, indent=1) + "\n").encode())


def _digests(config: TrainConfig) -> dict[str, str]:
    folders = [one.folder for one in config.data.manifests]
    return {folder: manifest_sha256(find_manifest(folder)) for folder in folders}


def _as_today(path: Path) -> str:
    """The configuration of an older run; settings that came after it have their defaults.

    A new setting's default is what was done before it. What this version does not know stays as
    it is, and so differs.
    """
    text = path.read_text("utf-8")
    try:
        config = TrainConfig.model_validate_json(text)
    except ValidationError:
        return text
    return json.dumps(config.model_dump(mode="json"))


def _matters(text: str) -> dict[str, Any]:
    """What the numbers of a run depend on."""
    config: dict[str, Any] = json.loads(text)
    config.pop("tracking", None)
    config.pop("compare", None)
    config["data"].pop("cache_dir", None)
    for name in ("checkpoint_every_s", "log_every", "workers"):
        config["trainer"].pop(name, None)
    return config
