"""Network, transforms and sliding window out of the literals of a MONAI config."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from medmtl.core.errors import BundleError
from medmtl.imports.monai_config import target_of
from medmtl.networks.monai_nets import MONAI_NETWORKS, MonaiNetConfig
from medmtl.transforms.monai_plan import IMAGE, MONAI_STEPS, MonaiPreprocessing

if TYPE_CHECKING:
    from medmtl.imports.monai_config import MonaiConfig

__all__ = ["network_of", "preprocessing_of"]

_ROOM = frozenset({"spatial_dims", "in_channels", "out_channels"})
_GONE = frozenset({"img_size"})
"""Arguments that MONAI itself no longer has; they never changed an answer."""
_READING = frozenset({"LoadImage", "EnsureChannelFirst", "EnsureType", "ToTensor"})
_OTHER = "Write what the model does into the config in these terms, or predict with MONAI itself."
_WINDOW = ("roi_size", "overlap", "mode")
_LAST = frozenset({"Activations", "Invert", "AsDiscrete", "SaveImage", "EnsureType", "DeleteItems"})


def network_of(config: MonaiConfig) -> tuple[MonaiNetConfig, int, int]:
    """The network and its numbers of input channels and outputs.

    Raises:
        BundleError: If it is not one of the known networks with literal arguments.
    """
    at, entry = config.entry("network_def", "network")
    target = target_of(entry, at, config)
    if target not in MONAI_NETWORKS:
        known = ", ".join(MONAI_NETWORKS)
        raise BundleError(
            f"Config {config.name}: found {at} = {target}, expected one of {known}. {_OTHER}"
        )
    arguments = _literals(entry, at, config)
    sizes = {name: arguments.pop(name, None) for name in _ROOM}
    inputs, outputs = sizes["in_channels"], sizes["out_channels"]
    if sizes["spatial_dims"] not in (3, None) or not all(
        isinstance(size, int) and size > 0 for size in (inputs, outputs)
    ):
        raise BundleError(
            f"Config {config.name}: found {at} with {sizes}, expected 3 dimensions and numbers of "
            f"channels. {_OTHER}"
        )
    kept = {name: value for name, value in arguments.items() if value is not None}
    try:
        net = MonaiNetConfig.model_validate(
            {"network": target, "arguments": {k: v for k, v in kept.items() if k not in _GONE}}
        )
    except ValidationError as error:
        raise _unfit(config, at, error) from error
    return net, int(inputs or 0), int(outputs or 0)


def preprocessing_of(config: MonaiConfig) -> MonaiPreprocessing:
    """The transforms of the image and the sliding window.

    Raises:
        BundleError: If a transform or the inferer is not known, or an argument is no literal.
    """
    steps = [step for at, entry in _transforms(config, "preprocessing", "validate#preprocessing")
             if (step := _step(entry, at, config)) is not None]  # fmt: skip
    at, inferer = config.entry("inferer")
    target = target_of(inferer, at, config)
    if target not in ("SlidingWindowInferer", "SlidingWindowInfererAdapt"):
        raise BundleError(
            f"Config {config.name}: found {at} = {target}, expected SlidingWindowInferer. {_OTHER}"
        )
    window = {
        name: config.literal(inferer[name], f"{at}#{name}") for name in _WINDOW if name in inferer
    }
    try:
        return MonaiPreprocessing.model_validate(
            {"steps": steps, "window": window, "inverse": _inverse(config)}
        )
    except ValidationError as error:
        raise _unfit(config, "preprocessing or inferer", error) from error


def _inverse(config: MonaiConfig) -> str:
    """How the answer is brought back; what is more than softmax and argmax is refused.

    Raises:
        BundleError: If the config makes another answer of the logits.
    """
    inverse = "linear"
    if "postprocessing" not in config.content:
        return inverse
    for at, entry in _transforms(config, "postprocessing"):
        target = _plain(target_of(entry, at, config))
        if target not in _LAST:
            raise BundleError(
                f"Config {config.name}: found {at} = {target}, expected one of "
                f"{', '.join(sorted(_LAST))}. {_OTHER}"
            )
        for name in ("sigmoid", "threshold"):
            if entry.get(name) not in (None, False):
                raise BundleError(
                    f"Config {config.name}: found {at} with {name}: overlapping classes are not "
                    f"supported; expected softmax and argmax. {_OTHER}"
                )
        if target == "Invert":
            is_nearest = config.literal(entry.get("nearest_interp", True), f"{at}#nearest_interp")
            inverse = "nearest" if is_nearest else "linear"
    return inverse


def _transforms(config: MonaiConfig, *ids: str) -> list[tuple[str, dict[str, Any]]]:
    at, entry = config.entry(*ids)
    if target_of(entry, at, config) != "Compose":
        raise BundleError(
            f"Config {config.name}: found {at} = {entry['_target_']}, expected Compose. {_OTHER}"
        )
    parts = config.followed(entry.get("transforms"), f"{at}#transforms")
    if not isinstance(parts, list):
        raise BundleError(
            f"Config {config.name}: found {at}#transforms that is no list, expected transforms. "
            f"{_OTHER}"
        )
    found = []
    for number, part in enumerate(parts):
        where = f"{at}#transforms#{number}"
        value = config.followed(part, where)
        target_of(value, where, config)
        if config.literal(value.get("_disabled_", False), where) is not True:
            found.append((where, value))
    return found


def _step(entry: dict[str, Any], at: str, config: MonaiConfig) -> dict[str, Any] | None:
    """A step of the image; None for what reads files or works on something else."""
    target = _plain(target_of(entry, at, config))
    keys = config.literal(entry.get("keys", IMAGE), f"{at}#keys")
    if IMAGE not in (keys if isinstance(keys, list) else [keys]) or target in _READING:
        return None
    if target not in MONAI_STEPS:
        known = ", ".join(MONAI_STEPS)
        raise BundleError(
            f"Config {config.name}: found {at} = {target}, expected one of {known}. {_OTHER}"
        )
    arguments = _literals(entry, at, config)
    for name in ("keys", "source_key", "allow_missing_keys"):
        arguments.pop(name, None)
    kept = {name: _first(value) for name, value in arguments.items() if value is not None}
    return {"transform": target, "arguments": kept}


def _first(value: Any) -> Any:
    """A list of one mode for one key is that mode."""
    is_mode = isinstance(value, list) and len(value) > 0 and isinstance(value[0], str)
    return value[0] if is_mode else value


def _literals(entry: dict[str, Any], at: str, config: MonaiConfig) -> dict[str, Any]:
    return {
        name: config.literal(value, f"{at}#{name}")
        for name, value in entry.items()
        if not (name.startswith("_") and name.endswith("_"))
    }


def _plain(target: str) -> str:
    """MONAI spells a transform of a dictionary in three ways."""
    for suffix in ("Dict", "d", "D"):
        base = target.removesuffix(suffix)
        if base != target and base in {*MONAI_STEPS, *_READING, *_LAST}:
            return base
    return target


def _unfit(config: MonaiConfig, at: str, error: ValidationError) -> BundleError:
    text = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    return BundleError(
        f"Config {config.name}: found {at} that does not fit ({text}), expected what this version "
        f"of MONAI takes. {_OTHER}"
    )
