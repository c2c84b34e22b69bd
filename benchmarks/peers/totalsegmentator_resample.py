"""TotalSegmentator's resampling of an image: `IMAGE.npy CASE.json OUT.npy`; prints the seconds."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from totalsegmentator.resampling import change_spacing

image_path, case_path, out_path = map(Path, sys.argv[1:])
array = np.load(image_path)
case = json.loads(case_path.read_text(encoding="utf-8"))
image = nib.Nifti1Image(array, np.diag([*case["spacing_mm"], 1.0]))
start = time.perf_counter()
resampled = change_spacing(image, case["to_mm"], order=3, dtype=np.int32)  # as its predict does
values = np.asarray(resampled.dataobj)
print(time.perf_counter() - start)
np.save(out_path, values)
