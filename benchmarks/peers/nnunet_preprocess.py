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
from plans import (  # type: ignore[import-not-found]  # beside this script
    CONFIGURATION,
    names_of,
    plans_of,
)

image_path, case_path, out_path = map(Path, sys.argv[1:])
array = np.load(image_path)
case = json.loads(case_path.read_text(encoding="utf-8"))
plans = plans_of(spacing_kji=[case["to_mm"]] * 3, window_hu=case["window_hu"])
preprocessor = DefaultPreprocessor(verbose=False)
image_ckji = array.T[None].astype(np.float32)  # as its reader gives it
start = time.perf_counter()
values, _, _ = preprocessor.run_case_npy(
    image_ckji,
    None,
    {"spacing": case["spacing_mm"][::-1]},
    plans,
    plans.get_configuration(CONFIGURATION),
    {"labels": names_of(2), "channel_names": {"0": "CT"}},
)
print(time.perf_counter() - start)
np.save(out_path, np.asarray(values)[0].T)
