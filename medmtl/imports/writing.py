"""The last steps of an import: weights under the bundle's names, the bundle whole or not at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from medmtl.core.errors import BundleError, OutputError
from medmtl.inference.bundle import load_bundle, write_bundle
from medmtl.inference.bundle_settings import InputSettings
from medmtl.networks.joint import JointNet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medmtl.inference.bundle_settings import BundleSettings, ChannelSettings
    from medmtl.networks.joint import NetworkConfig

__all__ = ["check_free", "fitting_weights", "input_settings", "input_text", "write_imported"]

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_free(out: Path) -> None:
    """Refuse to write over anything.

    Raises:
        OutputError: If the place is taken.
    """
    if out.exists():
        raise OutputError(f"Bundle {out.name} exists already. Give another -o, or delete it.")


def input_settings(channels: Sequence[ChannelSettings]) -> InputSettings:
    """One volume, or one for each of several channels."""
    several = tuple(channels) if len(channels) > 1 else ()
    return InputSettings(modality=channels[0].modality, channels=several)


def input_text(settings: InputSettings) -> str:
    """What a study must hold, for a card."""
    if not settings.channels:
        return f"{settings.modality}, one volume"
    return ", ".join(f"{one.name} ({one.modality})" for one in settings.channels)


def fitting_weights(
    weights: Mapping[str, Any], network: NetworkConfig, *, prefix: str, where: str
) -> dict[str, Tensor]:
    """Weights under the bundle's names.

    Args:
        weights: By the names of their module; whatever the file held.
        network: Of the bundle.
        prefix: Where that module is in the bundle's network.
        where: Names the weights in errors.

    Raises:
        BundleError: Naming the first weight that the network does not explain, or that is no
            dense tensor.
    """
    try:
        expected = JointNet(network).state_dict()
    except (TypeError, ValueError, RuntimeError, AssertionError, LookupError) as error:
        text = str(error).replace("\n", " ")[:200]
        raise BundleError(
            f"{where}: found settings of which no network can be built ({text}), expected those "
            "of a trained one. Copy all files from the same training."
        ) from error
    found = {f"{prefix}{name}": value for name, value in weights.items()}
    for name in sorted(expected.keys() | found.keys()):
        if _form(found, name) != _form(expected, name):
            raise BundleError(
                f"{where}: weight {name.removeprefix(prefix)}: found {_form(found, name)}, "
                f"expected {_form(expected, name)} from what describes the network. Copy all "
                "files from the same training."
            )
    if not all(bool(value.isfinite().all()) for value in found.values()):
        raise BundleError(
            f"{where}: found weights that are no numbers, expected finite ones. Train it again."
        )
    return found


def _form(weights: Mapping[str, Any], name: str) -> str:
    """The shape of a dense tensor of floating-point numbers; of anything else also what it is."""
    if name not in weights:
        return "none"
    value = weights[name]
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}, no tensor"
    shape = f"({', '.join(map(str, value.shape))})"
    if value.layout is not torch.strided or value.is_meta:
        return f"{shape}, not dense"
    return shape if value.dtype in _FLOATS else f"{shape} of {value.dtype}"


def write_imported(
    out: Path,
    settings: BundleSettings,
    weights: Mapping[str, Tensor],
    *,
    card: str,
    folds: Mapping[str, Mapping[str, Tensor]] | None = None,
    parts: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> BundleSettings:
    """Write a bundle aside in full precision, load it once, and move it into place.

    Raises:
        BundleError: If what was written does not load.
        OutputError: If it cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as aside:
            place = Path(aside) / "bundle"
            complete = write_bundle(
                place,
                settings,
                weights,
                card=card,
                metrics_json=json.dumps({"note": settings.notice}),
                folds=folds,
                parts=parts,
                is_half=False,
            )
            load_bundle(place)
            shutil.move(place, out)
    except OSError as error:
        raise OutputError(f"Bundle {out.name}: cannot be written ({error.strerror}).") from error
    return complete
