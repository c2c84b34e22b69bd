"""The network that plans.json states, where it is one that is built here.

Plans before nnU-Net 2.3 state widths and kernels one by one, later ones an `architecture`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import ValidationError

from medmtl.core.errors import BundleError
from medmtl.imports.nnunet_fields import (
    OTHER,
    check_known,
    list_of,
    options_of,
    problems_of,
    table_of,
    whole_of,
)
from medmtl.networks.nnunet import PlainConvUNetConfig, ResidualEncoderUNetConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NnunetNetwork", "network_of"]

NnunetNetwork: TypeAlias = PlainConvUNetConfig | ResidualEncoderUNetConfig

_ARCHITECTURES = "dynamic_network_architectures.architectures"
_NETWORKS: Mapping[str, type[NnunetNetwork]] = {
    f"{_ARCHITECTURES}.unet.PlainConvUNet": PlainConvUNetConfig,
    f"{_ARCHITECTURES}.unet.ResidualEncoderUNet": ResidualEncoderUNetConfig,
    # As nnU-Net itself completes plans before 2.3.
    f"{_ARCHITECTURES}.residual_unet.ResidualEncoderUNet": ResidualEncoderUNetConfig,
}
_OLD_NETWORKS: Mapping[str, type[NnunetNetwork]] = {
    "PlainConvUNet": PlainConvUNetConfig,
    "ResidualEncoderUNet": ResidualEncoderUNetConfig,
}
_CONVS = {
    f"torch.nn.{module}Conv{dimensions}d": dimensions
    for module in ("modules.conv.", "")
    for dimensions in (2, 3)
}
_NORMS = {
    dimensions: tuple(
        f"torch.nn.{module}InstanceNorm{dimensions}d" for module in ("modules.instancenorm.", "")
    )
    for dimensions in (2, 3)
}
_FIXED = {
    "dropout_op": (None,),
    "nonlin": ("torch.nn.LeakyReLU", "torch.nn.modules.activation.LeakyReLU"),
    "nonlin_first": (None, False),
    "bottleneck_channels": (None,),
    "stem_channels": (None,),
    "squeeze_excitation": (None, False),
    "stochastic_depth_p": (None, 0),
    "block": (None, "dynamic_network_architectures.building_blocks.residual.BasicBlockD"),
}
"""Settings of an architecture that are one thing here; another one is refused by name."""
_KNOWN = (
    "n_stages", "features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage",
    "n_blocks_per_stage", "n_conv_per_stage_decoder", "conv_op", "conv_bias", "norm_op",
    "norm_op_kwargs", "nonlin_kwargs", "dropout_op_kwargs", "deep_supervision", *_FIXED,
)  # fmt: skip
_FIXED_OPTIONS: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "norm_op_kwargs": {
        "eps": (None, 1e-5),
        "affine": (True,),
        "track_running_stats": (None, False),
    },
    "nonlin_kwargs": {"negative_slope": (None, 0.01)},
}
"""Those of its norm and nonlinearity; None is torch's own, where nothing is said."""


def network_of(configuration: Mapping[str, Any]) -> NnunetNetwork:
    """The network's settings.

    Raises:
        BundleError: If the architecture, or a setting of it, is not known here.
    """
    try:
        if "architecture" not in configuration:
            name, networks = configuration["UNet_class_name"], _OLD_NETWORKS
            check_known("UNet_class_name", name, tuple(networks))
            return _network(networks[name], _old_arguments(configuration))
        stated = table_of(configuration["architecture"], "architecture")
        name = stated["network_class_name"]
        check_known("network_class_name", name, tuple(_NETWORKS))
        return _network(_NETWORKS[name], table_of(stated["arch_kwargs"], "arch_kwargs"))
    except KeyError as error:
        raise BundleError(
            f"plans.json: found an architecture without {error}, expected plans as nnU-Net 2 "
            "writes them. Copy plans and checkpoints from the same training."
        ) from error
    except ValidationError as error:
        raise BundleError(
            f"plans.json: found an architecture that does not fit together ({problems_of(error)}), "
            "expected plans as nnU-Net 2 writes them. Copy the folder again."
        ) from error


def _network(kind: type[NnunetNetwork], arguments: Mapping[str, Any]) -> NnunetNetwork:
    for argument in arguments:
        check_known("a setting of arch_kwargs", argument, _KNOWN)
    _check_fixed(arguments, _FIXED)
    check_known("conv_op", arguments["conv_op"], tuple(_CONVS))
    dimensions = _CONVS[arguments["conv_op"]]
    check_known("norm_op", arguments["norm_op"], _NORMS[dimensions])
    for name, fixed in _FIXED_OPTIONS.items():
        _check_fixed(options_of(arguments, name), fixed, within=f"{name}.")
    stages = whole_of(arguments, "n_stages")
    counts = "convs" if kind is PlainConvUNetConfig else "blocks"
    own = "n_conv_per_stage" if counts == "convs" else "n_blocks_per_stage"
    return kind.model_validate(
        {
            "filters": _each(arguments, "features_per_stage", stages),
            "kernels": [_axes(k, dimensions) for k in _each(arguments, "kernel_sizes", stages)],
            "strides": [_axes(s, dimensions) for s in _each(arguments, "strides", stages)],
            counts: _each(arguments, own, stages),
            "decoder_convs": _each(arguments, "n_conv_per_stage_decoder", stages - 1),
            "has_conv_bias": arguments.get("conv_bias", False),
        }
    )


def _check_fixed(
    arguments: Mapping[str, Any], fixed: Mapping[str, tuple[Any, ...]], *, within: str = ""
) -> None:
    for name, known in fixed.items():
        if arguments.get(name) not in known:
            found = repr(arguments[name]) if name in arguments else "not stated"
            raise BundleError(
                f"plans.json: found {within}{name} = {found}, which is not supported; "
                f"expected {known[-1]!r}. {OTHER}"
            )


def _old_arguments(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that nnU-Net itself makes of plans before 2.3."""
    convs = list_of(configuration, "n_conv_per_stage_encoder")
    base = whole_of(configuration, "UNet_base_num_features")
    most = whole_of(configuration, "unet_max_num_features")
    dimensions = len(list_of(configuration, "patch_size"))
    return {
        "n_stages": len(convs),
        "features_per_stage": [min(base * 2**stage, most) for stage in range(len(convs))],
        "conv_op": f"torch.nn.Conv{dimensions}d",
        "kernel_sizes": configuration["conv_kernel_sizes"],
        "strides": configuration["pool_op_kernel_sizes"],
        "n_conv_per_stage": convs,
        "n_blocks_per_stage": convs,
        "n_conv_per_stage_decoder": configuration["n_conv_per_stage_decoder"],
        "conv_bias": True,
        "norm_op": f"torch.nn.InstanceNorm{dimensions}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": "torch.nn.LeakyReLU",
    }


def _each(arguments: Mapping[str, Any], name: str, count: int) -> list[Any]:
    """A value for each stage; a single one is that of all."""
    if isinstance(arguments[name], int):
        return [arguments[name]] * count
    return list_of(arguments, name)


def _axes(value: Any, dimensions: int) -> Any:
    return [value] * dimensions if isinstance(value, int) else value
