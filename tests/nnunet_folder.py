"""Miniature model folders of nnU-Net v2, laid out and pickled as the real one writes them.

The key names were compared once with a checkpoint of nnU-Net 2.8.1 (`benchmarks/parity_nnunet.py`
compares the answers).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medmtl.imports.nnunet_network import network_of
from medmtl.imports.nnunet_plans import plans_configuration

__all__ = ["dataset", "plans", "write_folder"]


def plans(*, dimensions: int = 3, residual: bool = False, **configuration: Any) -> dict[str, Any]:
    """Plans of a network with two stages of 4 and 8 features."""
    counts = {"n_blocks_per_stage": [1, 2]} if residual else {"n_conv_per_stage": [2, 1]}
    kind = "ResidualEncoderUNet" if residual else "PlainConvUNet"
    name = "2d" if dimensions == 2 else "3d_fullres"
    own = {
        "preprocessor_name": "DefaultPreprocessor",
        "patch_size": [8] * dimensions,
        "spacing": [1.0] * dimensions,
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"order": 3, "order_z": 0, "force_separate_z": None},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {
            "order": 1, "order_z": 0, "force_separate_z": None,
        },
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{kind}",
            "arch_kwargs": {
                "n_stages": 2,
                "features_per_stage": [4, 8],
                "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
                "kernel_sizes": [[3] * dimensions] * 2,
                "strides": [[1] * dimensions, [2] * dimensions],
                **counts,
                "n_conv_per_stage_decoder": [1],
                "conv_bias": True,
                "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
                "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                "dropout_op": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
        },
    }  # fmt: skip
    return {
        "dataset_name": "Dataset999_Tiny",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "configurations": {name: own | configuration},
        "foreground_intensity_properties_per_channel": {
            "0": {"mean": 50.0, "std": 100.0, "percentile_00_5": -900.0, "percentile_99_5": 300.0}
        },
    }


def dataset(**fields: Any) -> dict[str, Any]:
    """One CT channel, two labels."""
    return {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "Liver": 1, "Odd organ": 2},
        "file_ending": ".nii.gz",
        **fields,
    }


def write_folder(
    folder: Path,
    *,
    plans: dict[str, Any],
    dataset: dict[str, Any],
    folds: tuple[str, ...] = ("0",),
    outputs: int = 3,
    inputs: int = 1,
    mirror_axes: tuple[int, ...] | None = None,
    first_seed: int = 0,
    background: float = 0.0,
    **content: Any,
) -> Path:
    """A model folder of the first configuration with random weights, another seed for each fold.

    `background` is added to the logit of the first output.
    """
    name = next(iter(plans["configurations"]))
    configuration = plans_configuration(plans, name)
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    for seed, fold in enumerate(folds, start=first_seed):
        torch.manual_seed(seed)
        net: Any = network_of(configuration).build(in_channels=inputs, out_channels=outputs)
        axes = (
            tuple(range(len(configuration["patch_size"]))) if mirror_axes is None else mirror_axes
        )
        for layer in net.decoder.seg_layers:  # so that the image decides, not the mean
            torch.nn.init.zeros_(layer.bias)
            layer.bias.data[0] = background
            layer.weight.data -= layer.weight.data.mean(dim=1, keepdim=True)
        checkpoint = {
            "network_weights": _with_second_names(net.state_dict()),
            "logging": {"mean_fg_dice": [np.float64(0.5)], "epoch_start": [np.float32(1)]},
            "current_epoch": 1,
            "init_args": {"configuration": name, "fold": seed},
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": axes,
            **content,
        }
        (folder / f"fold_{fold}").mkdir()
        torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder


def _with_second_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Convolution and norm are also `all_modules.0` and `.1`; the decoder holds the encoder."""
    both = {}
    for name, value in weights.items():
        both[name] = value
        for own, place in ((".conv.", 0), (".norm.", 1)):
            if own in name:
                both[name.replace(own, f".all_modules.{place}.")] = value
    return both | {
        f"decoder.{name}": value for name, value in both.items() if name.startswith("encoder.")
    }
