"""A model folder of nnU-Net v2 as it lies on disk: plans, labels and one checkpoint per fold."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medmtl.core.errors import BundleError
from medmtl.imports.checkpoint import read_checkpoint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Fold", "NnunetFolder", "read_nnunet_folder"]

_FOLD = re.compile(r"fold_(\d+|all)\Z")
_CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")


@dataclass(frozen=True, eq=False)
class Fold:
    """One trained network.

    Attributes:
        name: "0", "1", ... or "all".
        trainer: Name of the class that trained it.
        configuration: Such as "3d_fullres".
        mirror_axes: Axes of the patch that may be mirrored; None where it does not say.
        weights: By the names of nnU-Net's module.
    """

    name: str
    trainer: str
    configuration: str
    mirror_axes: tuple[int, ...] | None
    weights: dict[str, Any]


@dataclass(frozen=True, eq=False)
class NnunetFolder:
    """Everything that is read from a model folder.

    Attributes:
        name: Of the folder.
        plans: `plans.json`.
        dataset: `dataset.json`.
        folds: Trained networks, at least one.
        checkpoint: Name of the file that was read of every fold.
    """

    name: str
    plans: dict[str, Any]
    dataset: dict[str, Any]
    folds: tuple[Fold, ...]
    checkpoint: str

    @property
    def networks(self) -> str:
        """Which checkpoint of which folds."""
        word = "folds" if len(self.folds) > 1 else "fold"
        return f"{self.checkpoint} of {word} {', '.join(fold.name for fold in self.folds)}"


def read_nnunet_folder(
    folder: Path, *, folds: Sequence[str] = (), checkpoint: str | None = None
) -> NnunetFolder:
    """Read a model folder.

    Args:
        folder: `<trainer>__<plans>__<configuration>` of `nnUNet_results`.
        folds: Names of folds, such as "0" or "fold_0"; empty takes all that lie there.
        checkpoint: File name; where None the final one, or the best one if no fold has a final.

    Raises:
        BundleError: If the folder is of nnU-Net v1, incomplete or damaged, or folds disagree.
    """
    if not folder.is_dir():
        raise BundleError(
            f"Model folder {folder.name!r}: found no such folder, expected one with plans.json. "
            "Give <trainer>__<plans>__<configuration> of nnUNet_results."
        )
    if any(folder.glob("**/model_final_checkpoint.model")) or (folder / "plans.pkl").exists():
        raise BundleError(
            f"Model folder {folder.name}: found nnU-Net v1 (plans.pkl), expected v2 (plans.json). "
            "A pickle could run code, so it is not read. Train it again with nnU-Net v2."
        )
    plans, dataset = _json(folder, "plans.json"), _json(folder, "dataset.json")
    present = sorted(
        (match[1] for path in folder.iterdir() if (match := _FOLD.match(path.name))),
        key=lambda name: (len(name), name),
    )
    wanted = [name.removeprefix("fold_") for name in folds]
    if twice := sorted({name for name in wanted if wanted.count(name) > 1}):
        raise BundleError(
            f"Model folder {folder.name}: found fold {', '.join(twice)} named twice, expected each "
            "once: its network would count twice. Name it once with --folds."
        )
    wanted = wanted or [name for name in present if name != "all"] or present
    absent = [name for name in wanted if name not in present]
    if absent or not wanted:
        raise BundleError(
            f"Model folder {folder.name}: found fold {', '.join(present) or 'none'}, expected "
            f"{', '.join(absent) or 'fold_0, fold_1, ...'}. Complete the folder, or name the folds "
            "that are there with --folds."
        )
    if gap := _gap(wanted) if not folds else "":
        raise BundleError(
            f"Model folder {folder.name}: found fold {', '.join(wanted)}, expected {gap} too: a "
            "part of the folds was not copied or not trained. Complete the folder, or name the "
            "folds that are there with --folds."
        )
    file = _checkpoint(folder, wanted, checkpoint)
    read = tuple(_fold(folder / f"fold_{name}" / file, name) for name in wanted)
    for what in ("trainer", "configuration", "mirror_axes"):
        values = {getattr(fold, what) for fold in read}
        if len(values) > 1:
            raise BundleError(
                f"Model folder {folder.name}: found folds with different {what} "
                f"({', '.join(sorted(map(str, values)))}), expected one training. Name the folds "
                "that belong together with --folds."
            )
    return NnunetFolder(folder.name, plans, dataset, read, file)


def _gap(names: Sequence[str]) -> str:
    """Numbers missing below the last fold; a single fold may be the only one trained."""
    numbers = [int(name) for name in names if name != "all"]
    if len(numbers) < 2:
        return ""
    missing = set(range(max(numbers))) - set(numbers)
    return ", ".join(map(str, sorted(missing)))


def _json(folder: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else type(error).__name__
        raise BundleError(
            f"Model folder {folder.name}: found {name} that cannot be read ({reason}), "
            "expected plans.json, dataset.json and fold_*/checkpoint_final.pth. Give the folder "
            "that holds them."
        ) from error
    if not isinstance(content, dict):
        raise BundleError(
            f"Model folder {folder.name}: found {type(content).__name__} in {name}, expected a "
            "table. Copy the file again."
        )
    return content


def _checkpoint(folder: Path, folds: Sequence[str], named: str | None) -> str:
    """The one file name that is read of every fold: best and final networks are not mixed."""
    names = (named,) if named else _CHECKPOINTS
    having = {
        name: [fold for fold in folds if (folder / f"fold_{fold}" / name).is_file()]
        for name in names
    }
    file = next((name for name in names if having[name]), None)
    if file is None:
        raise BundleError(
            f"Model folder {folder.name}: found fold_{folds[0]} without checkpoint, expected "
            f"{' or '.join(names)}. Let the training finish, or name another file with "
            "--checkpoint."
        )
    if lacking := [f"fold_{fold}" for fold in folds if fold not in having[file]]:
        raise BundleError(
            f"Model folder {folder.name}: found {', '.join(lacking)} without {file}, expected it "
            f"as in fold_{having[file][0]}. Let the training finish, name a file that all have "
            "with --checkpoint, or the folds that have it with --folds."
        )
    return file


def _fold(path: Path, name: str) -> Fold:
    content = read_checkpoint(path)
    try:
        axes = content.get("inference_allowed_mirroring_axes")
        return Fold(
            name=name,
            trainer=str(content["trainer_name"]),
            configuration=str(content["init_args"]["configuration"]),
            mirror_axes=None if axes is None else tuple(sorted(int(axis) for axis in axes)),
            weights=_weights(content["network_weights"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        is_absent = isinstance(error, KeyError)
        found = f"no {error}" if is_absent else f"an entry of another kind ({error})"
        raise BundleError(
            f"Checkpoint {path.parent.name}/{path.name}: found {found}, expected trainer_name, "
            "init_args and network_weights as nnU-Net v2 writes them. Give a checkpoint of nnU-Net."
        ) from error


def _weights(content: dict[str, Any]) -> dict[str, Any]:
    """Each weight once: nnU-Net names the encoder and every convolution twice."""
    weights = {}
    for name, value in content.items():
        own = name.removeprefix("module.").removeprefix("_orig_mod.")
        if not own.startswith("decoder.encoder.") and ".all_modules." not in own:
            weights[own] = value
    return weights
