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
from plans import (  # type: ignore[import-not-found]  # beside this script
    CONFIGURATION,
    names_of,
    plans_of,
)

network_path, image_path, case_path, out_path = sys.argv[1:]
case = json.loads(Path(case_path).read_text(encoding="utf-8"))
plans = plans_of(
    spacing_kji=case["spacing_kji"], window_hu=case["window_hu"], patch_kji=case["patch_kji"]
)
network = torch.jit.load(network_path).eval()  # type: ignore[no-untyped-call]  # torch's own
predictor = nnUNetPredictor(
    tile_step_size=0.5, use_mirroring=False, perform_everything_on_device=False,
    device=torch.device("cpu"), verbose=False, allow_tqdm=False,
)  # fmt: skip
predictor.manual_initialization(
    network,
    plans,
    plans.get_configuration(CONFIGURATION),
    [network.state_dict()],
    {"labels": names_of(case["classes"]), "channel_names": {"0": "CT"}, "file_ending": ".nii.gz"},
    "nnUNetTrainer",
    None,
)
reader = SimpleITKIO()
image, properties = reader.read_images([image_path])
labels = predictor.predict_single_npy_array(image, properties, None, None, False)
reader.write_seg(labels, out_path, properties)
