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
from plans import (  # type: ignore[import-not-found]  # beside this script
    CONFIGURATION,
    names_of,
    plans_of,
)

logits_path, case_path, out_path = map(Path, sys.argv[1:])
logits = np.load(logits_path)
case = json.loads(case_path.read_text(encoding="utf-8"))
plans = plans_of(spacing_kji=case["network_spacing_kji"])
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
    plans.get_configuration(CONFIGURATION),
    plans.get_label_manager({"labels": names_of(len(logits))}),
    properties,
)
print(time.perf_counter() - start)
np.save(out_path, labels)
