"""medmtl's way from logits to labels: `LOGITS.npy CASE.json OUT.npy`; prints the seconds."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from medmtl.core.geometry import Geometry
from medmtl.postprocess.restore import restore_labels


def grid(shape_kji: list[int], spacing_kji: list[float]) -> Geometry:
    """A grid whose extent begins at the origin."""
    spacing = spacing_kji[::-1]
    origin = [gap / 2 for gap in spacing]
    return Geometry.from_parts(shape=shape_kji[::-1], spacing_mm=spacing, origin_lps=origin)


def main() -> None:
    """Both grids cover the same extent."""
    logits_path, case_path, out_path = map(Path, sys.argv[1:])
    logits = np.load(logits_path)
    case = json.loads(case_path.read_text(encoding="utf-8"))
    network = grid(list(logits.shape[1:]), case["network_spacing_kji"])
    source = grid(case["source_shape_kji"], case["source_spacing_kji"])
    start = time.perf_counter()
    labels = restore_labels(logits, network, source)
    print(time.perf_counter() - start)
    np.save(out_path, labels.T)


if __name__ == "__main__":
    main()
