"""Miniature MONAI bundles with random weights, laid out as the model zoo lays them out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from medmtl.networks.monai_nets import MONAI_NETWORKS

__all__ = ["METADATA", "NETWORKS", "monai_config", "write_monai"]

SIZES = {"spatial_dims": 3, "in_channels": 1, "out_channels": 3}
NETWORKS: dict[str, dict[str, Any]] = {
    "SegResNet": {"init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1]},
    "SegResNetDS": {"init_filters": 8, "blocks_down": [1, 1], "norm": "instance"},
    "DynUNet": {
        "kernel_size": [3] * 3, "strides": [1, 2, 2], "upsample_kernel_size": [2, 2],
        "filters": [4, 8, 8],
        "norm_name": ["instance", {"affine": True}],
    },
    "UNet": {"channels": [4, 8], "strides": [2], "num_res_units": 1, "norm": "batch"},
    "SwinUNETR": {"feature_size": 12, "img_size": [32, 32, 32], "use_checkpoint": False},
}  # fmt: skip
METADATA = {
    "name": "Two organs", "version": "0.1.0",
    "network_data_format": {
        "inputs": {"image": {"modality": "CT", "num_channels": 1}},
        "outputs": {"pred": {"channel_def": {"0": "background", "1": "Spleen", "2": "odd one"}}},
    },
}  # fmt: skip


def monai_config(network: str = "SegResNet", **arguments: Any) -> dict[str, Any]:
    """As the model zoo writes it: code in entries that nobody needs here."""
    size = 64 if network == "SwinUNETR" else 8
    return {
        "imports": ["$import glob"],
        "device": "$torch.device('cuda:0')",
        "pixdim": [1.5, 1.5, 3.0],
        "network_def": {"_target_": network, **SIZES, **NETWORKS[network], **arguments},
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image"},
                {"_target_": "EnsureChannelFirstd", "keys": "image"},
                {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS", "labels": None},
                {"_target_": "Spacingd", "keys": "image", "pixdim": "@pixdim", "mode": "bilinear"},
                {
                    "_target_": "ScaleIntensityRanged", "keys": ["image"], "a_min": -57,
                    "a_max": 164, "b_min": 0.0, "b_max": 1.0, "clip": True,
                },
                {"_target_": "EnsureTyped", "keys": "image"},
            ],
        },
        "inferer": {
            "_target_": "SlidingWindowInferer", "roi_size": [size] * 3, "sw_batch_size": 4,
            "overlap": 0.5, "mode": "gaussian", "sw_device": "@device",
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                {
                    "_target_": "Invertd", "keys": "pred", "transform": "@preprocessing",
                    "orig_keys": "image",
                },
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            ],
        },
    }  # fmt: skip


def write_monai(
    folder: Path,
    content: dict[str, Any],
    network: str = "SegResNet",
    *,
    metadata: dict[str, Any] | None = None,
    inputs: int = 1,
    **extra: Any,
) -> Path:
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs" / "inference.json").write_text(json.dumps(content))
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata or METADATA))
    torch.manual_seed(0)
    arguments = {k: v for k, v in NETWORKS[network].items() if k != "img_size"}
    sizes = SIZES | {"in_channels": inputs}
    net = MONAI_NETWORKS[network][0](**sizes, **arguments)
    torch.save({**net.state_dict(), **extra}, folder / "models" / "model.pt")
    return folder
