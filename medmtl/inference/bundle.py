"""Model bundles: a folder of `bundle.toml`, `weights.safetensors`, `card.md`, `metrics.json`.

No pickle and no code. `bundle.toml` holds the SHA-256 of the other files; the model's identity is
the SHA-256 of `bundle.toml`, so that it covers weights, thresholds and calibration alike. The
fields of `bundle.toml` stand in `bundle_settings`.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from medmtl.core.errors import BundleError
from medmtl.core.prediction import ModelIdentity
from medmtl.inference.bundle_settings import BundleSettings, PartSettings
from medmtl.networks.joint import JointNet, NetworkConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

__all__ = [
    "Bundle",
    "find_bundle",
    "load_bundle",
    "load_folds",
    "load_members",
    "load_parts",
    "read_settings",
    "shipped_bundles",
    "verify_bundle",
    "write_bundle",
]

_SETTINGS, _WEIGHTS = "bundle.toml", "weights.safetensors"
_HASHED = (_WEIGHTS, "card.md", "metrics.json")


@dataclass(frozen=True, eq=False)
class Bundle:
    """A loaded bundle: checked settings, identity and the network in evaluation mode."""

    settings: BundleSettings
    identity: ModelIdentity
    net: JointNet
    folder: Path


def shipped_bundles() -> dict[str, Path]:
    """Bundles that travel with the package, by name."""
    root = Path(str(files("medmtl"))) / "bundles"
    return {path.parent.name: path.parent for path in sorted(root.glob(f"*/{_SETTINGS}"))}


def find_bundle(model: str | Path) -> Path:
    """The folder of a shipped bundle's name or of a path.

    Raises:
        BundleError: If there is neither.
    """
    shipped = shipped_bundles()
    if str(model) in shipped:
        return shipped[str(model)]
    folder = Path(model)
    if (folder / _SETTINGS).is_file():
        return folder
    raise BundleError(
        f"Model {str(model)!r}: found no such bundle, expected a folder with {_SETTINGS} or one of "
        f"{', '.join(shipped) or 'no shipped bundles'}. See `medmtl models list`."
    )


def read_settings(folder: Path) -> tuple[BundleSettings, ModelIdentity]:
    """The settings and identity of a bundle, without its weights.

    Raises:
        BundleError: If `bundle.toml` is missing or wrong.
    """
    path = folder / _SETTINGS
    try:
        content = path.read_bytes()
        settings = BundleSettings.model_validate(tomllib.loads(content.decode("utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        message = f"Bundle {folder.name}: {_SETTINGS} cannot be read ({type(error).__name__})."
        raise BundleError(f"{message} Install the bundle again.") from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)
        )
        raise BundleError(f"Bundle {folder.name}: {_SETTINGS}: {problems}.") from error
    digest = hashlib.sha256(content).hexdigest()
    return settings, ModelIdentity(settings.name, settings.version, digest)


def verify_bundle(folder: Path) -> BundleSettings:
    """Recompute every checksum of a bundle.

    Raises:
        BundleError: Naming the first file that is missing or altered.
    """
    settings, _ = read_settings(folder)
    for name in (*_HASHED, *_further(settings)):
        _checked_bytes(folder, name, settings)
    return settings


def _further(settings: BundleSettings) -> Iterator[str]:
    """Weights besides those of the network that answers, or answers first."""
    yield from settings.ensemble or ()
    yield from settings.folds or ()
    for part in settings.parts:
        yield from (name for name in part.weights if name != _WEIGHTS)


def load_bundle(folder: Path) -> Bundle:
    """Load a bundle; the weights are hashed from the very bytes that are then used.

    Raises:
        BundleError: If a file is missing or altered, or the weights do not fit the network.
    """
    settings, identity = read_settings(folder)
    return Bundle(settings, identity, _load_net(folder, _WEIGHTS, settings), folder)


def load_members(bundle: Bundle) -> tuple[JointNet, ...]:
    """The further networks of a bundle with an ensemble, in evaluation mode.

    Raises:
        BundleError: If the bundle has none, or a file is missing or altered.
    """
    if not bundle.settings.ensemble:
        raise BundleError(
            f"Bundle {bundle.folder.name}: found no `ensemble` in {_SETTINGS}, expected the "
            "weights of several folds. Use test-time augmentation (tta) instead."
        )
    return tuple(
        _load_net(bundle.folder, name, bundle.settings) for name in bundle.settings.ensemble
    )


def load_folds(bundle: Bundle) -> tuple[JointNet, ...]:
    """All networks whose logits are averaged, the first of them first; the others give masks only.

    Raises:
        BundleError: If a file is missing or altered.
    """
    settings = bundle.settings
    masks = settings.network.model_copy(update={"findings": (), "head": None})
    further = (
        _load_net(bundle.folder, name, settings, network=masks) for name in settings.folds or ()
    )
    return (bundle.net, *further)


def load_parts(bundle: Bundle) -> Iterator[tuple[PartSettings, list[JointNet]]]:
    """Every part with its networks, loaded when it is its turn.

    Raises:
        BundleError: If a file is missing or altered.
    """
    settings = bundle.settings
    for part in settings.parts:
        nets = [
            _load_net(bundle.folder, name, settings, network=part.network) for name in part.weights
        ]
        yield part, nets


def _load_net(
    folder: Path, name: str, settings: BundleSettings, *, network: NetworkConfig | None = None
) -> JointNet:
    from safetensors import SafetensorError
    from safetensors.torch import load

    content = _checked_bytes(folder, name, settings)
    try:
        net = JointNet(network or settings.network)
        _fill(net, load(content))
    except (SafetensorError, RuntimeError, ValueError, LookupError) as error:
        raise BundleError(
            f"Bundle {folder.name}: the weights do not fit the network that {_SETTINGS} describes. "
            "Install the bundle again."
        ) from error
    return net.eval()


def _fill(net: JointNet, weights: Mapping[str, Tensor]) -> None:
    """Load the weights into the network.

    Raises:
        RuntimeError: If names or shapes differ.
    """
    if weights.keys() != net.state_dict().keys() - _aliases(net):
        raise RuntimeError("the names of the weights differ")
    net.load_state_dict({name: _full(value) for name, value in weights.items()}, strict=False)


def _aliases(net: JointNet) -> set[str]:
    """Second names of tensors: MONAI's DynUNet registers each block twice."""
    seen: set[int] = set()
    aliases = set()
    for name, value in net.state_dict(keep_vars=True).items():
        if id(value) in seen:
            aliases.add(name)
        seen.add(id(value))
    return aliases


def _full(value: Tensor) -> Tensor:
    """Half precision on disk, single precision in use."""
    return value.float() if value.dtype.is_floating_point else value


def _checked_bytes(folder: Path, name: str, settings: BundleSettings) -> bytes:
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        message = f"Bundle {folder.name}: {name} cannot be read ({type(error).__name__})."
        raise BundleError(f"{message} Install the bundle again.") from error
    found, expected = hashlib.sha256(content).hexdigest(), settings.sha256.get(name)
    if found != expected:
        raise BundleError(
            f"Bundle {folder.name}: {name} has SHA-256 {found[:12]}.., expected "
            f"{(expected or 'none')[:12]}... The file was altered or damaged; install it again."
        )
    return content


def write_bundle(
    folder: Path,
    settings: BundleSettings,
    weights: Mapping[str, Tensor],
    *,
    card: str,
    metrics_json: str,
    members: Mapping[str, Mapping[str, Tensor]] | None = None,
    folds: Mapping[str, Mapping[str, Tensor]] | None = None,
    parts: Mapping[str, Mapping[str, Tensor]] | None = None,
    is_half: bool = True,
) -> BundleSettings:
    """Write a bundle; each weight is stored once.

    Args:
        folder: Made if need be.
        settings: Without checksums.
        weights: Of the network that answers.
        card: The model card.
        metrics_json: What was measured.
        members: Further weights of the same network by name, such as "fold0", for the spread of
            an ensemble.
        folds: Further weights whose logits are averaged with those of `weights`.
        parts: Further weights by file name, as `settings.parts` names them.
        is_half: Store large tensors in half precision.

    Returns:
        The settings with the checksums filled in.
    """
    import tomli_w
    from safetensors.torch import save

    aliases = _aliases(JointNet(settings.network))

    def stored(values: Mapping[str, Tensor]) -> bytes:
        store = _half if is_half else _contiguous
        kept = {name: store(value) for name, value in values.items() if name not in aliases}
        return bytes(save(kept))

    def files_of(sets: Mapping[str, Mapping[str, Tensor]] | None) -> dict[str, bytes]:
        return {f"weights_{name}.safetensors": stored(w) for name, w in (sets or {}).items()}

    further, averaged = files_of(members), files_of(folds)
    contents = {
        _WEIGHTS: stored(weights),
        **further,
        **averaged,
        **{name: stored(values) for name, values in (parts or {}).items()},
        "card.md": card.encode("utf-8"),
        "metrics.json": metrics_json.encode("utf-8"),
    }
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    update = {
        "sha256": digests,
        "ensemble": tuple(further) or None,
        "folds": tuple(averaged) or None,
    }
    complete = BundleSettings.model_validate(settings.model_dump() | update)
    document = complete.model_dump(mode="json", exclude_none=True)
    contents[_SETTINGS] = tomli_w.dumps(document).encode("utf-8")
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return complete


def _half(value: Tensor) -> Tensor:
    """Large tensors in half precision; statistics and biases stay as they are."""
    value = _contiguous(value)
    is_large = value.dtype.is_floating_point and value.numel() >= 4096
    return value.half() if is_large else value


def _contiguous(value: Tensor) -> Tensor:
    return value.detach().cpu().contiguous()
