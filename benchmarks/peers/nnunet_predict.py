"""nnU-Net's predictor around a given network: `NETWORK.pt IMAGE.nii.gz CASE.json OUT.nii.gz`.

From the image file to the label map in a file, with its own reading, preprocessing, sliding window
(no mirroring), resampling and writing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from nnunetv2.imageio.simpleitk_reader_writer import (
    SimpleITKIO,
)
from nnunetv2.inference.predict_from_raw_data import (
    nnUNetPredictor,
)
from nnunetv2.utilities.plans_handling.plans_handler import (
    PlansManager,
)

network_path, image_path, case_path, out_path = sys.argv[1:]
case = json.loads(Path(case_path).read_text(encoding="utf-8"))
low, high = case["window_hu"]
resampling = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}  # its defaults
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
            "spacing": case["spacing_kji"],
            "patch_size": case["patch_kji"],
            "normalization_schemes": ["CTNormalization"],
            "use_mask_for_norm": [False],
            "resampling_fn_data": "resample_data_or_seg_to_shape",
            "resampling_fn_data_kwargs": resampling | {"order": 3},
            "resampling_fn_seg": "resample_data_or_seg_to_shape",
            "resampling_fn_seg_kwargs": resampling | {"is_seg": True},
            "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
            "resampling_fn_probabilities_kwargs": resampling,
        }
    },
})  # fmt: skip
network = torch.jit.load(network_path).eval()  # type: ignore[no-untyped-call]  # torch's own
predictor = nnUNetPredictor(
    tile_step_size=0.5, use_mirroring=False, perform_everything_on_device=False,
    device=torch.device("cpu"), verbose=False, allow_tqdm=False,
)  # fmt: skip
names = {"background": 0} | {f"class{n}": n for n in range(1, case["classes"])}
predictor.manual_initialization(
    network,
    plans,
    plans.get_configuration("3d_fullres"),
    [network.state_dict()],
    {"labels": names, "channel_names": {"0": "CT"}, "file_ending": ".nii.gz"},
    "nnUNetTrainer",
    None,
)
reader = SimpleITKIO()
image, properties = reader.read_images([image_path])
labels = predictor.predict_single_npy_array(image, properties, None, None, False)
reader.write_seg(labels, out_path, properties)
