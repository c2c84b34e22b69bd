"""nnU-Net's own export of logits: `LOGITS.npy SPACING.json OUT.npy`; prints the seconds."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from nnunetv2.inference.export_prediction import (
    convert_predicted_logits_to_segmentation_with_correct_shape as export,
)
from nnunetv2.utilities.plans_handling.plans_handler import (
    PlansManager,
)

logits_path, case_path, out_path = map(Path, sys.argv[1:])
logits = np.load(logits_path)
case = json.loads(case_path.read_text(encoding="utf-8"))
resampling = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}  # its defaults
plans = PlansManager({
    "transpose_forward": [0, 1, 2],
    "transpose_backward": [0, 1, 2],
    "label_manager": "LabelManager",
    "configurations": {
        "3d_fullres": {
            "architecture": {},
            "spacing": case["network_spacing_kji"],
            "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
            "resampling_fn_probabilities_kwargs": resampling,
        }
    },
})  # fmt: skip
names = {"background": 0} | {f"class{n}": n for n in range(1, len(logits))}
properties = {
    "spacing": case["source_spacing_kji"],
    "shape_after_cropping_and_before_resampling": case["source_shape_kji"],
    "shape_before_cropping": case["source_shape_kji"],
    "bbox_used_for_cropping": [[0, size] for size in case["source_shape_kji"]],
}
start = time.perf_counter()
labels = export(
    logits,
    plans,
    plans.get_configuration("3d_fullres"),
    plans.get_label_manager({"labels": names}),
    properties,
)
print(time.perf_counter() - start)
np.save(out_path, labels)
