"""nnU-Net's preprocessing of an image: `IMAGE.npy CASE.json OUT.npy`; prints the seconds."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from nnunetv2.preprocessing.preprocessors.default_preprocessor import (
    DefaultPreprocessor,
)
from nnunetv2.utilities.plans_handling.plans_handler import (
    PlansManager,
)

image_path, case_path, out_path = map(Path, sys.argv[1:])
array = np.load(image_path)
case = json.loads(case_path.read_text(encoding="utf-8"))
low, high = case["window_hu"]
resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}  # its defaults
plans = PlansManager({
    "transpose_forward": [0, 1, 2],
    "transpose_backward": [0, 1, 2],
    "label_manager": "LabelManager",
    "foreground_intensity_properties_per_channel": {
        "0": {
            "percentile_00_5": low, "percentile_99_5": high,
            "mean": (low + high) / 2, "std": (high - low) / 2,
        }
    },
    "configurations": {
        "3d_fullres": {
            "architecture": {},
            "preprocessor_name": "DefaultPreprocessor",
            "spacing": [case["to_mm"]] * 3,
            "patch_size": [96, 96, 96],
            "normalization_schemes": ["CTNormalization"],
            "use_mask_for_norm": [False],
            "resampling_fn_data": "resample_data_or_seg_to_shape",
            "resampling_fn_data_kwargs": resampling,
            "resampling_fn_seg": "resample_data_or_seg_to_shape",
            "resampling_fn_seg_kwargs": resampling | {"is_seg": True, "order": 1},
        }
    },
})  # fmt: skip
preprocessor = DefaultPreprocessor(verbose=False)
image_ckji = array.T[None].astype(np.float32)  # as its reader gives it
start = time.perf_counter()
values, _, _ = preprocessor.run_case_npy(
    image_ckji,
    None,
    {"spacing": case["spacing_mm"][::-1]},
    plans,
    plans.get_configuration("3d_fullres"),
    {"labels": {"background": 0, "one": 1}, "channel_names": {"0": "CT"}},
)
print(time.perf_counter() - start)
np.save(out_path, np.asarray(values)[0].T)
