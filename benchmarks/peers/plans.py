"""nnU-Net's plans of one full-resolution configuration, as its own classes read them.

Runs in nnU-Net's environment, beside the scripts that import it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnunetv2.utilities.plans_handling.plans_handler import (
    PlansManager,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIGURATION = "3d_fullres"
_RESAMPLING = {"is_seg": False, "order_z": 0, "force_separate_z": None}  # its defaults
_FUNCTION = "resample_data_or_seg_to_shape"


def plans_of(
    *,
    spacing_kji: Sequence[float],
    window_hu: Sequence[float] = (-1000.0, 1000.0),
    patch_kji: Sequence[int] = (96, 96, 96),
) -> PlansManager:
    """Plans of one CT channel that is clipped to a window and scaled to -1..1.

    Args:
        spacing_kji: Of the network's grid.
        window_hu: Low and high.
        patch_kji: Of the sliding window.
    """
    low, high = window_hu
    intensities: dict[str, Any] = {
        "percentile_00_5": low,
        "percentile_99_5": high,
        "mean": (low + high) / 2,
        "std": (high - low) / 2,
    }
    configuration: dict[str, Any] = {
        "architecture": {},
        "preprocessor_name": "DefaultPreprocessor",
        "spacing": list(spacing_kji),
        "patch_size": list(patch_kji),
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": _FUNCTION,
        "resampling_fn_data_kwargs": _RESAMPLING | {"order": 3},
        "resampling_fn_seg": _FUNCTION,
        "resampling_fn_seg_kwargs": _RESAMPLING | {"is_seg": True, "order": 1},
        "resampling_fn_probabilities": _FUNCTION,
        "resampling_fn_probabilities_kwargs": _RESAMPLING | {"order": 1},
    }
    return PlansManager({
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": intensities},
        "configurations": {CONFIGURATION: configuration},
    })  # fmt: skip


def names_of(classes: int) -> dict[str, int]:
    """Labels by name, background among them."""
    return {"background": 0} | {f"class{n}": n for n in range(1, classes)}
