"""What plans.json says of network, preprocessing and sliding window, in medmtl's own settings.

Plans before nnU-Net 2.3 state widths and kernels one by one, later ones an `architecture`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import ValidationError

from medmtl.core.errors import BundleError
from medmtl.inference.plans_window import SlidingWindow
from medmtl.networks.nnunet import PlainConvUNetConfig, ResidualEncoderUNetConfig
from medmtl.transforms.plans import ChannelIntensity, PlansPreprocessing, Resampling

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NnunetNetwork", "network_of", "plans_configuration", "preprocessing_of", "window_of"]

NnunetNetwork: TypeAlias = PlainConvUNetConfig | ResidualEncoderUNetConfig

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
_NETWORKS: Mapping[str, type[NnunetNetwork]] = {
    "PlainConvUNet": PlainConvUNetConfig,
    "ResidualEncoderUNet": ResidualEncoderUNetConfig,
}
_RESAMPLING = "resample_data_or_seg_to_shape"
_PREPROCESSOR = "DefaultPreprocessor"
_FIXED = {
    "dropout_op": (None,),
    "nonlin": ("torch.nn.LeakyReLU", "torch.nn.modules.activation.LeakyReLU"),
    "nonlin_first": (None, False),
    "bottleneck_channels": (None,),
    "stem_channels": (None,),
    "block": (None, "dynamic_network_architectures.building_blocks.residual.BasicBlockD"),
}
"""Settings of an architecture that are one thing here; another one is refused by name."""
_OTHER = "It would give another answer here; predict with nnU-Net itself."


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
    at = name
    while at:
        if at not in configurations or at in chain:
            known = ", ".join(configurations)
            raise BundleError(
                f"plans.json: found no configuration {at!r}, expected it beside {known or 'none'}. "
                "Copy plans and checkpoints from the same training."
            )
        chain.append(at)
        at = configurations[at].get("inherits_from", "")
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


def network_of(configuration: Mapping[str, Any]) -> NnunetNetwork:
    """The network's settings.

    Raises:
        BundleError: If the architecture, or a setting of it, is not known here.
    """
    try:
        if "architecture" in configuration:
            stated = configuration["architecture"]
            return _network(str(stated["network_class_name"]).split(".")[-1], stated["arch_kwargs"])
        return _network(str(configuration["UNet_class_name"]), _old_arguments(configuration))
    except (KeyError, TypeError, IndexError) as error:
        raise BundleError(
            f"plans.json: found an architecture without {error}, expected plans as nnU-Net 2 "
            "writes them. Copy plans and checkpoints from the same training."
        ) from error
    except ValidationError as error:
        text = "; ".join(str(one["msg"]) for one in error.errors())
        raise BundleError(
            f"plans.json: found an architecture that does not fit together ({text}), expected "
            "plans as nnU-Net 2 writes them. Copy the folder again."
        ) from error


def _network(kind: str, arguments: Mapping[str, Any]) -> NnunetNetwork:
    if kind not in _NETWORKS:
        raise BundleError(
            f"plans.json: found network {kind}, expected {' or '.join(_NETWORKS)}. {_OTHER}"
        )
    for name, known in _FIXED.items():
        if arguments.get(name) not in known:
            raise BundleError(
                f"plans.json: found {name} = {arguments[name]!r}, which is not supported; "
                f"expected {known[-1]!r}. {_OTHER}"
            )
    norm, eps = str(arguments.get("norm_op")), (arguments.get("norm_op_kwargs") or {}).get("eps")
    if "InstanceNorm" not in norm or eps != 1e-5:
        message = f"plans.json: found norm_op = {norm} with eps = {eps}, which is not supported"
        raise BundleError(f"{message}; expected InstanceNorm with eps = 1e-05. {_OTHER}")
    stages = int(arguments["n_stages"])
    counts = "convs" if kind == "PlainConvUNet" else "blocks"
    own = "n_conv_per_stage" if counts == "convs" else "n_blocks_per_stage"
    dimensions = 2 if str(arguments["conv_op"]).endswith("2d") else 3
    return _NETWORKS[kind].model_validate(
        {
            "filters": _each(arguments["features_per_stage"], stages),
            "kernels": [_axes(k, dimensions) for k in _each(arguments["kernel_sizes"], stages)],
            "strides": [_axes(s, dimensions) for s in _each(arguments["strides"], stages)],
            counts: _each(arguments[own], stages),
            "decoder_convs": _each(arguments["n_conv_per_stage_decoder"], stages - 1),
            "has_conv_bias": bool(arguments.get("conv_bias", False)),
        }
    )


def _old_arguments(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that nnU-Net itself makes of plans before 2.3."""
    convs = configuration["n_conv_per_stage_encoder"]
    base, most = configuration["UNet_base_num_features"], configuration["unet_max_num_features"]
    return {
        "n_stages": len(convs),
        "features_per_stage": [min(base * 2**stage, most) for stage in range(len(convs))],
        "conv_op": f"Conv{len(configuration['patch_size'])}d",
        "kernel_sizes": configuration["conv_kernel_sizes"],
        "strides": configuration["pool_op_kernel_sizes"],
        "n_conv_per_stage": convs,
        "n_blocks_per_stage": convs,
        "n_conv_per_stage_decoder": configuration["n_conv_per_stage_decoder"],
        "conv_bias": True,
        "norm_op": "InstanceNorm",
        "norm_op_kwargs": {"eps": 1e-5},
        "nonlin": "torch.nn.LeakyReLU",
    }


def _each(value: Any, count: int) -> list[Any]:
    return [value] * count if isinstance(value, int) else list(value)


def _axes(value: Any, dimensions: int) -> list[int]:
    return [value] * dimensions if isinstance(value, int) else list(value)


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
    _check_known("preprocessor_name", configuration.get("preprocessor_name"), (_PREPROCESSOR,))
    for name in ("resampling_fn_data", "resampling_fn_probabilities"):
        _check_known(name, configuration.get(name, _RESAMPLING), (_RESAMPLING,))
    reader = str(plans.get("image_reader_writer", "SimpleITKIO"))
    known = [name for name, value in _ORIENTATIONS.items() if value]
    _check_known("image_reader_writer", reader, known)
    schemes = configuration.get("normalization_schemes", [])
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
    except (KeyError, TypeError) as error:
        raise BundleError(
            f"plans.json: found no usable {error}, expected plans as nnU-Net 2 writes them. Copy "
            "the folder again."
        ) from error
    except ValidationError as error:
        text = "; ".join(
            f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()
        )
        raise BundleError(
            f"plans.json: found unusable preprocessing ({text}), expected plans as nnU-Net 2 "
            "writes them. Copy the folder again."
        ) from error


def _channel(
    plans: Mapping[str, Any], configuration: Mapping[str, Any], at: int
) -> ChannelIntensity:
    scheme = configuration["normalization_schemes"][at]
    _check_known("normalization_schemes", scheme, tuple(_SCHEMES))
    masked = configuration.get("use_mask_for_norm") or []
    if _SCHEMES[scheme] != "ct":
        return ChannelIntensity.model_validate(
            {
                "scheme": _SCHEMES[scheme],
                "is_within_nonzero": bool(masked[at]) if at < len(masked) else False,
            }
        )
    stated = plans.get("foreground_intensity_properties_per_channel") or plans.get(
        "foreground_intensity_properties_by_modality"
    )
    of_channel = (stated or {})[str(at)]
    return ChannelIntensity(
        scheme="ct",
        low=of_channel["percentile_00_5"],
        high=of_channel["percentile_99_5"],
        mean=of_channel["mean"],
        deviation=of_channel["std"],
    )


def _resampling(configuration: Mapping[str, Any], name: str, order: int) -> Resampling:
    stated = configuration.get(f"{name}_kwargs") or {}
    return Resampling(
        order=stated.get("order", order),
        order_z=stated.get("order_z", 0),
        force_separate_z=stated.get("force_separate_z"),
    )


def window_of(
    configuration: Mapping[str, Any], mirror_axes: tuple[int, ...] | None
) -> SlidingWindow:
    """Patch and mirroring.

    Raises:
        BundleError: If the patch is missing or has another number of axes than the mirroring.
    """
    try:
        patch = tuple(int(size) for size in configuration["patch_size"])
        window = SlidingWindow(patch_size=patch, mirror_axes=mirror_axes or ())
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"plans.json: found no usable patch_size ({type(error).__name__}), expected two or "
            "three numbers. Copy the folder again."
        ) from error
    if any(axis >= len(patch) for axis in window.mirror_axes):
        raise BundleError(
            f"Checkpoint: found mirroring of axes {mirror_axes}, expected axes of a patch of "
            f"{patch} voxels. Copy plans and checkpoints from the same training."
        )
    return window


def _check_known(name: str, found: Any, known: list[str] | tuple[str, ...]) -> None:
    if found not in known:
        raise BundleError(
            f"plans.json: found {name} = {found!r}, which is not supported; expected "
            f"{' or '.join(known)}. {_OTHER}"
        )
