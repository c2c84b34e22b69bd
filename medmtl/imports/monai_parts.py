"""Network, transforms and sliding window out of the literals of a MONAI config."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from medmtl.core.errors import BundleError
from medmtl.imports.monai_arguments import (
    OTHER,
    all_arguments,
    arguments_of,
    flag_of,
    transforms_of,
)
from medmtl.imports.monai_config import is_of_monai, target_of
from medmtl.networks.monai_nets import MONAI_NETWORKS, MonaiNetConfig
from medmtl.transforms.monai_plan import IMAGE, MONAI_STEPS, MonaiPreprocessing

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from medmtl.imports.monai_config import MonaiConfig

__all__ = ["network_of", "preprocessing_of"]

_PREPROCESSING = ("preprocessing", "validate#preprocessing")
_OF_KEYS = frozenset({"keys", "source_key", "allow_missing_keys", "labels"})
"""Arguments of a step that are not those of its transform."""
_ROOM = frozenset({"spatial_dims", "in_channels", "out_channels"})
_GONE = frozenset({"img_size"})
"""Arguments that MONAI itself no longer has; they never changed an answer."""
_BESIDE = frozenset({"label", "pred"})
"""Entries of the dictionary that are no image."""
_NAMES = ("name", "names", "output_key", "output_keys")
"""Arguments of MONAI's transforms that name what they make."""
_NULL = frozenset({"b_min", "b_max", "factor", "subtrahend", "divisor"})
"""Arguments of transforms that are null by default."""
_READING = frozenset({"LoadImage", "EnsureChannelFirst", "EnsureType", "ToTensor"})
_WINDOW = ("roi_size", "overlap", "mode", "sigma_scale", "padding_mode", "cval")
_ANSWERING: Mapping[str, tuple[str, ...]] = {
    "Activations": ("softmax",),
    "Invert": ("nearest_interp",),
    "AsDiscrete": ("argmax",),
    "EnsureType": (),
}
"""What is read of each."""
_WRITING = frozenset({"SaveImage", "DeleteItems"})
"""What MONAI does with its answer; medmtl writes its own files."""
_ALL = {*MONAI_STEPS, *_READING, *_ANSWERING, *_WRITING}


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
            f"Config {config.name}: found {at} = {target:.80}, expected one of {known}. {OTHER}"
        )
    arguments = all_arguments(entry, at, config)
    sizes = {name: arguments.pop(name, None) for name in _ROOM}
    inputs, outputs = sizes["in_channels"], sizes["out_channels"]
    if sizes["spatial_dims"] not in (3, None) or not all(
        isinstance(size, int) and size > 0 for size in (inputs, outputs)
    ):
        raise BundleError(
            f"Config {config.name}: found {at} with {sizes}, expected 3 dimensions and numbers of "
            f"channels. {OTHER}"
        )
    defaults = signature(MONAI_NETWORKS[target][0]).parameters
    null = {name for name, one in defaults.items() if one.default is None}
    kept = _without_null(
        {name: value for name, value in arguments.items() if name not in _GONE}, null
    )
    try:
        net = MonaiNetConfig.model_validate({"network": target, "arguments": kept})
    except ValidationError as error:
        raise _unfit(config, at, error) from error
    return net, int(inputs or 0), int(outputs or 0)


def preprocessing_of(config: MonaiConfig, *, channels: int) -> MonaiPreprocessing:
    """The transforms of the image, of so many channels, and the sliding window.

    Raises:
        BundleError: If a transform or the inferer is not known, or an argument is no literal.
    """
    steps = [step for at, entry in transforms_of(config, *_PREPROCESSING)
             if (step := _step(entry, at, config)) is not None]  # fmt: skip
    _check_channels(config, steps, channels)
    at, inferer = config.entry("inferer")
    target = target_of(inferer, at, config)
    if target not in ("SlidingWindowInferer", "SlidingWindowInfererAdapt"):
        raise BundleError(
            f"Config {config.name}: found {at} = {target:.80}, expected SlidingWindowInferer. "
            f"{OTHER}"
        )
    window = arguments_of(inferer, at, config, read=_WINDOW)
    inverse = _inverse(config)
    try:
        settings = MonaiPreprocessing.model_validate(
            {"steps": steps, "window": window, "inverse": inverse}
        )
        settings.build()
    except (ValueError, TypeError) as error:
        raise _unfit(config, "preprocessing or inferer", error) from error
    return settings


def _check_channels(config: MonaiConfig, steps: Sequence[dict[str, Any]], channels: int) -> None:
    """Refuse numbers for each channel that are more or fewer, or that are not taken so."""
    for step in steps:
        arguments = step["arguments"]
        for name, value in arguments.items():
            if step["transform"] != "NormalizeIntensity" or not isinstance(value, list):
                continue
            if len(value) != channels or arguments.get("channel_wise") is not True:
                raise BundleError(
                    f"Config {config.name}: found {name} = {value!r:.80} of NormalizeIntensity, "
                    f"expected one number, or {channels} with channel_wise true. {OTHER}"
                )


def _inverse(config: MonaiConfig) -> str:
    """How the answer is brought back; what is more than softmax and argmax is refused.

    Raises:
        BundleError: If the config makes another answer of the logits.
    """
    if "postprocessing" not in config.content:
        return "linear"
    inverse = "nearest"  # so SaveImage with resample takes labels back, where nothing else does
    saved: Any = None
    is_inverted = is_soft = is_labels = False
    for at, entry in transforms_of(config, "postprocessing"):
        target = _plain(target_of(entry, at, config))
        if target in _WRITING:
            saved = entry.get("mode", saved)
            continue
        if target not in _ANSWERING:
            raise BundleError(
                f"Config {config.name}: found {at} = {target:.80}, expected one of "
                f"{', '.join(sorted({*_ANSWERING, *_WRITING}))}. {OTHER}"
            )
        if target == "Invert":
            _check_inverted(entry, at, config)
        arguments = arguments_of(entry, at, config, read=_ANSWERING[target], objects=("transform",))
        is_soft |= flag_of(arguments, "softmax", at, config, default=False)
        is_labels |= flag_of(arguments, "argmax", at, config, default=False)
        if target == "Invert":
            is_inverted = True
            is_nearest = flag_of(arguments, "nearest_interp", at, config, default=True)
            inverse = "nearest" if is_nearest else "linear"
            if not is_nearest and (is_labels or not is_soft):
                raise BundleError(
                    f"Config {config.name}: found {at} that interpolates what are no "
                    f"probabilities, expected softmax before it and argmax after it. {OTHER}"
                )
    if not is_inverted and saved not in (None, "nearest"):
        raise BundleError(
            f"Config {config.name}: found a postprocessing without Invert whose SaveImage has mode "
            f"{saved!r:.80}, expected nearest. {OTHER}"
        )
    return inverse


def _check_inverted(entry: dict[str, Any], at: str, config: MonaiConfig) -> None:
    """Refuse to undo anything but the preprocessing."""
    undone = config.followed(entry.get("transform"), f"{at}#transform")
    if undone is not config.entry(*_PREPROCESSING)[1]:
        raise BundleError(
            f"Config {config.name}: found {at}#transform that is not the preprocessing, expected "
            f"@preprocessing. {OTHER}"
        )


def _step(entry: dict[str, Any], at: str, config: MonaiConfig) -> dict[str, Any] | None:
    """A step of the image; None for what reads files or works on something else."""
    target = _plain(target_of(entry, at, config))
    keys = config.literal(entry.get("keys", IMAGE), f"{at}#keys")
    keys = keys if isinstance(keys, list) else [keys]
    if IMAGE not in keys and is_of_monai(target):
        _check_beside(keys, entry, at, config)
        return None
    if target in _READING:
        _check_reader(arguments_of(entry, at, config, read=("reader",)), at, config)
        return None
    if target not in MONAI_STEPS:
        known = ", ".join(MONAI_STEPS)
        raise BundleError(
            f"Config {config.name}: found {at} = {target:.80}, expected one of {known}. {OTHER}"
        )
    arguments = all_arguments(entry, at, config, unread=_OF_KEYS)
    return {
        "transform": target,
        "arguments": {
            name: _of_key(value, keys.index(IMAGE))
            for name, value in _without_null(arguments, _NULL).items()
        },
    }


def _check_beside(
    keys: Sequence[object], entry: Mapping[str, Any], at: str, config: MonaiConfig
) -> None:
    """Refuse what works on an image of another name, or makes the image of it."""
    named = [config.literal(entry.get(name), f"{at}#{name}") for name in _NAMES]
    made = {
        str(name) for value in named for name in (value if isinstance(value, list) else [value])
    }
    if other := [key for key in keys if key not in _BESIDE]:
        raise BundleError(
            f"Config {config.name}: found {at}#keys = {other!r:.80}, expected {IMAGE}, or "
            f"{' or '.join(sorted(_BESIDE))}, which is passed over. {OTHER}"
        )
    if IMAGE in made:
        raise BundleError(
            f"Config {config.name}: found {at} that makes {IMAGE} of {keys!r:.80}, expected steps "
            f"on {IMAGE} itself. {OTHER}"
        )


def _without_null(arguments: dict[str, Any], null: Collection[str]) -> dict[str, Any]:
    """Without those that are null where that is MONAI's default; a bundle cannot say null."""
    return {k: value for k, value in arguments.items() if value is not None or k not in null}


def _check_reader(arguments: dict[str, Any], at: str, config: MonaiConfig) -> None:
    """Refuse code that reads files, in whose place medmtl's own would stand."""
    reader = arguments.get("reader")
    if reader is not None and not (isinstance(reader, str) and is_of_monai(reader)):
        raise BundleError(
            f"Config {config.name}: found {at}#reader = {reader!r:.80}, expected a reader of "
            f"MONAI. {OTHER}"
        )


def _of_key(value: Any, number: int) -> Any:
    """Of a list of modes, one for each key, that of the image."""
    is_modes = isinstance(value, list) and len(value) > 0 and isinstance(value[0], str)
    return value[min(number, len(value) - 1)] if is_modes else value


def _plain(target: str) -> str:
    """MONAI spells a transform of a dictionary in three ways."""
    for suffix in ("Dict", "d", "D"):
        base = target.removesuffix(suffix)
        if base != target and base in _ALL:
            return base
    return target


def _unfit(config: MonaiConfig, at: str, error: ValueError | TypeError) -> BundleError:
    text = " ".join(str(error).split())
    if isinstance(error, ValidationError):
        text = "; ".join(
            ": ".join(filter(None, (".".join(map(str, e["loc"])), e["msg"])))
            for e in error.errors()
        )
    return BundleError(
        f"Config {config.name}: found {at} that does not fit ({text}), expected what this version "
        f"of MONAI takes. {OTHER}"
    )
