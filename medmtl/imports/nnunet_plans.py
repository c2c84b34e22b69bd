"""What plans.json says of preprocessing and sliding window, in medmtl's own settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from medmtl.core.errors import BundleError
from medmtl.imports.nnunet_fields import check_known, list_of, problems_of, table_of
from medmtl.inference.plans_window import SlidingWindow
from medmtl.transforms.plans import (
    ANISOTROPY,
    ChannelIntensity,
    PlansPreprocessing,
    Resampling,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["plans_configuration", "preprocessing_of", "window_of"]

_ORIENTATIONS = {
    "SimpleITKIO": "source",
    "SimpleITKIOWithReorient": None,
    "NibabelIO": "source",
    "NibabelIOWithReorient": "RAS",
}
_SCHEMES = {
    "CTNormalization": "ct",
    "ZScoreNormalization": "z_score",
    "RescaleTo01Normalization": "rescale_to_01",
    "NoNormalization": "none",
}
_RESAMPLING = "resample_data_or_seg_to_shape"
_RESAMPLING_OPTIONS = (
    "is_seg", "order", "order_z", "force_separate_z", "separate_z_anisotropy_threshold",
)  # fmt: skip
_PREPROCESSOR = "DefaultPreprocessor"


def plans_configuration(plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    """One configuration with what it inherits.

    Raises:
        BundleError: If it is missing, inherits in a circle, or is the second stage of a cascade.
    """
    configurations = plans.get("configurations")
    if not isinstance(configurations, dict):
        raise BundleError(
            "plans.json: found no 'configurations', expected plans of nnU-Net v2. Copy the folder "
            "again, or plan it with nnU-Net v2."
        )
    chain: list[str] = []
    at: Any = name
    while at:
        if not isinstance(at, str) or at not in configurations or at in chain:
            known = ", ".join(configurations)
            raise BundleError(
                f"plans.json: found no configuration {at!r}, expected it beside {known or 'none'}. "
                "Copy plans and checkpoints from the same training."
            )
        chain.append(at)
        at = table_of(configurations[at], f"configuration {at}").get("inherits_from", "")
    whole: dict[str, Any] = {}
    for part in reversed(chain):
        whole |= configurations[part]
    if whole.get("previous_stage"):
        raise BundleError(
            f"Configuration {name}: found a cascade after {whole['previous_stage']}: it reads the "
            "masks of another network, which a bundle does not hold; expected one stage. Import "
            "3d_lowres or 3d_fullres instead."
        )
    return whole


def preprocessing_of(
    plans: Mapping[str, Any],
    configuration: Mapping[str, Any],
    *,
    channels: int = 1,
    orientation: str | None = None,
) -> PlansPreprocessing:
    """The preprocessing's settings.

    Args:
        plans: Of the folder.
        configuration: Of `plans_configuration`.
        channels: How many the data set has.
        orientation: "source" or "RAS" where the user says; else what the plans' reader does.

    Raises:
        BundleError: If a step is not known here, or is not stated for every channel.
    """
    check_known("preprocessor_name", configuration.get("preprocessor_name"), (_PREPROCESSOR,))
    for name in ("resampling_fn_data", "resampling_fn_probabilities"):
        check_known(name, configuration.get(name, _RESAMPLING), (_RESAMPLING,))
    reader = str(plans.get("image_reader_writer", "SimpleITKIO"))
    known = [name for name, value in _ORIENTATIONS.items() if value]
    check_known("image_reader_writer", reader, known)
    schemes = list_of({"normalization_schemes": [], **configuration}, "normalization_schemes")
    if len(schemes) != channels:
        raise BundleError(
            f"plans.json: found normalization_schemes of {len(schemes)} channels, expected "
            f"{channels} as in dataset.json. Copy both files from the same training."
        )
    try:
        return PlansPreprocessing.model_validate(
            {
                "orientation": orientation or _ORIENTATIONS[reader],
                "transpose": plans["transpose_forward"],
                "spacing_mm": configuration["spacing"],
                "channels": [_channel(plans, configuration, at) for at in range(channels)],
                "data": _resampling(configuration, "resampling_fn_data", 3),
                "logits": _resampling(configuration, "resampling_fn_probabilities", 1),
            }
        )
    except KeyError as error:
        raise BundleError(
            f"plans.json: found no {error}, expected plans as nnU-Net 2 writes them. Copy "
            "the folder again."
        ) from error
    except ValidationError as error:
        raise BundleError(
            f"plans.json: found unusable preprocessing ({problems_of(error)}), expected plans as "
            "nnU-Net 2 writes them. Copy the folder again."
        ) from error


def _channel(
    plans: Mapping[str, Any], configuration: Mapping[str, Any], at: int
) -> ChannelIntensity:
    scheme = configuration["normalization_schemes"][at]
    check_known("normalization_schemes", scheme, tuple(_SCHEMES))
    masked = list_of({"use_mask_for_norm": [], **configuration}, "use_mask_for_norm")
    if _SCHEMES[scheme] != "ct":
        return ChannelIntensity.model_validate(
            {
                "scheme": _SCHEMES[scheme],
                "is_within_nonzero": bool(masked[at]) if at < len(masked) else False,
            }
        )
    name = "foreground_intensity_properties_per_channel"
    if name not in plans:
        name = "foreground_intensity_properties_by_modality"
    of_channel = table_of(table_of(plans[name], name).get(str(at)), f"{name}.{at}")
    return ChannelIntensity(
        scheme="ct",
        low=of_channel["percentile_00_5"],
        high=of_channel["percentile_99_5"],
        mean=of_channel["mean"],
        deviation=of_channel["std"],
    )


def _resampling(configuration: Mapping[str, Any], name: str, order: int) -> Resampling:
    """What the plans leave out is as nnU-Net's function has it, without a table as its planner."""
    name = f"{name}_kwargs"
    if configuration.get(name) is None:
        return Resampling(order=order)
    stated = table_of(configuration[name], name)
    for option in stated:
        check_known(f"an option of {name}", option, _RESAMPLING_OPTIONS)
    check_known(f"{name}.is_seg", str(stated.get("is_seg", False)), ("False",))
    return Resampling(
        order=stated.get("order", 3),
        order_z=stated.get("order_z", 0),
        force_separate_z=stated.get("force_separate_z", False),
        anisotropy=stated.get("separate_z_anisotropy_threshold", ANISOTROPY),
    )


def window_of(
    configuration: Mapping[str, Any], mirror_axes: tuple[int, ...] | None
) -> SlidingWindow:
    """Patch and mirroring.

    Raises:
        BundleError: If the patch is missing or has another number of axes than the mirroring.
    """
    try:
        window = SlidingWindow.model_validate({"patch_size": configuration["patch_size"]})
    except KeyError as error:
        raise BundleError(
            f"plans.json: found no {error}, expected two or three numbers. Copy the folder again."
        ) from error
    except ValidationError as error:
        raise BundleError(
            f"plans.json: found an unusable patch_size ({problems_of(error)}), expected two or "
            "three numbers. Copy the folder again."
        ) from error
    axes = mirror_axes or ()
    fits = all(0 <= axis < len(window.patch_size) for axis in axes)
    if not fits or len(set(axes)) < len(axes):
        raise BundleError(
            f"Checkpoint: found mirroring of axes {axes}, expected different axes of a patch of "
            f"{window.patch_size} voxels. Copy plans and checkpoints from the same training."
        )
    return window.model_copy(update={"mirror_axes": axes})
