"""Arguments of a MONAI config: those that are read, and what the others may hold.

An argument that nobody reads would be dropped without a word. So it is refused, unless it changes
no answer by what it is (`_ALONE`), by being a literal (`_SAME`) or by its value (`_ONLY`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from medmtl.core.errors import BundleError
from medmtl.imports.monai_config import target_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from medmtl.imports.monai_config import MonaiConfig

__all__ = ["OTHER", "all_arguments", "arguments_of", "flag_of", "transforms_of"]

OTHER = "Write what the model does into the config in these terms, or predict with MONAI itself."

_ALONE = frozenset(
    {
        "_target_", "_desc_", "device", "sw_device", "sw_batch_size", "progress",
        "cache_roi_weight_map", "cpu_thresh", "buffer_steps", "buffer_dim",
    }
)  # fmt: skip
"""Where it runs, in what portions, and what is said of it. Code is left alone here: the model zoo
writes `"device": "@device"`, which is `$torch.device(...)`."""

_SAME = frozenset(
    {
        "keys", "allow_missing_keys", "meta_keys", "meta_key_postfix", "orig_keys",
        "orig_meta_keys", "to_tensor", "to_onehot", "data_type", "wrap_sequence", "track_meta",
        "image_only", "ensure_channel_first", "strict_check", "channel_dim", "simple_keys",
        "overwriting", "prune_meta_pattern", "prune_meta_sep", "expanduser", "log_stats",
    }
)  # fmt: skip
"""Names of entries, the form of arrays, and how files are read, which medmtl does itself."""

_ONLY: Mapping[str, tuple[Any, ...]] = {
    "_requires_": (None,),
    "_mode_": (None, "default"),
    "_disabled_": (None, False, "false"),
    "dtype": (None, "float32", "numpy.float32", "torch.float32"),
    "labels": (None,),
    "lazy": (None, False),
    "map_items": (None, True),
    "other": (None,),
    "overrides": (None,),
    "post_func": (None,),
    "rounding": (None,),
    "sigmoid": (None, False),
    "source_key": (None, "image"),
    "threshold": (None, False),
    "unpack_items": (None, False),
    "with_coord": (None, False),
}
"""Values that leave the answer as it is; a list, one for each key, holds nothing else."""

_BUILT = frozenset({"_target_", "_desc_", "_requires_", "_mode_", "_disabled_"})
"""Of every object; all others are its arguments."""


def all_arguments(
    entry: Mapping[str, Any], at: str, config: MonaiConfig, *, unread: Collection[str] = ()
) -> dict[str, Any]:
    """Literals of every argument but the unread ones; see `arguments_of`."""
    read = {name for name in entry if name not in _BUILT and name not in unread}
    return arguments_of(entry, at, config, read=read)


def arguments_of(
    entry: Mapping[str, Any],
    at: str,
    config: MonaiConfig,
    *,
    read: Collection[str] = (),
    objects: Collection[str] = (),
) -> dict[str, Any]:
    """Literals of the arguments that are read; `objects` are the caller's to check.

    Raises:
        BundleError: If one would be evaluated, or another may change the answer.
    """
    found = {}
    for name, value in entry.items():
        where = f"{at}#{name}"
        if name in read:
            found[name] = config.literal(value, where)
        elif name not in _ALONE and name not in objects:
            _check_unread(name, config.literal(value, where), where, config)
    return found


def _check_unread(name: str, value: Any, at: str, config: MonaiConfig) -> None:
    if name in _SAME:
        return
    allowed = _ONLY.get(name, ())
    if allowed and all(
        any(type(part) is type(one) and part == one for one in allowed)
        for part in (value if isinstance(value, list) else [value])
    ):
        return
    expected = " or ".join(map(json.dumps, allowed)) or "no such argument"
    raise BundleError(
        f"Config {config.name}: found {at} = {json.dumps(value):.80}, which may change the answer; "
        f"expected {expected}. {OTHER}"
    )


def flag_of(
    arguments: Mapping[str, Any], name: str, at: str, config: MonaiConfig, *, default: bool
) -> bool:
    """A switch; of a list, one for each key, the first.

    Raises:
        BundleError: If it is neither true nor false.
    """
    value = arguments.get(name, default)
    first = value[0] if isinstance(value, list) and value else value
    if not isinstance(first, bool):
        raise BundleError(
            f"Config {config.name}: found {at}#{name} = {json.dumps(value):.80}, expected true "
            f"or false. {OTHER}"
        )
    return first


def transforms_of(config: MonaiConfig, *ids: str) -> list[tuple[str, dict[str, Any]]]:
    """The transforms of a Compose that are not disabled, each with its id.

    Raises:
        BundleError: If it is none, or how they are put together changes the answer.
    """
    at, entry = config.entry(*ids)
    target = target_of(entry, at, config)
    if target != "Compose":
        raise BundleError(
            f"Config {config.name}: found {at} = {target:.80}, expected Compose. {OTHER}"
        )
    arguments_of(entry, at, config, objects=("transforms",))
    parts = config.followed(entry.get("transforms"), f"{at}#transforms")
    if not isinstance(parts, list):
        raise BundleError(
            f"Config {config.name}: found {at}#transforms that is no list, expected transforms. "
            f"{OTHER}"
        )
    found = []
    for number, part in enumerate(parts):
        where = f"{at}#transforms#{number}"
        value = config.followed(part, where)
        target_of(value, where, config)
        if not _is_disabled(value, where, config):
            found.append((where, value))
    return found


def _is_disabled(entry: Mapping[str, Any], at: str, config: MonaiConfig) -> bool:
    """As MONAI reads it, which takes the text "true" as well."""
    value = config.literal(entry.get("_disabled_", False), f"{at}#_disabled_")
    return value is True or (isinstance(value, str) and value.lower().strip() == "true")
