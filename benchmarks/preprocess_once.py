"""One way from a CT to the network grid: `RIVAL IMAGE.npy CASE.json OUT.npy`; says the seconds."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Work = Callable[[], NDArray[Any]]


def medmtl(array: NDArray[Any], case: Mapping[str, Any]) -> Work:
    """Orient, window, resample and pad, as in `predict`."""
    from medmtl.core.geometry import Geometry
    from medmtl.core.volume import Volume
    from medmtl.transforms.preprocessing import Preprocessing, PreprocessingConfig, WindowHU

    low, high = case["window_hu"]
    grid = Geometry.from_parts(shape=array.shape, spacing_mm=case["spacing_mm"])
    config = PreprocessingConfig(
        spacing_mm=(case["to_mm"],) * 3, intensity=WindowHU(low_hu=low, high_hu=high)
    )
    volume = Volume(array, grid, modality="CT")
    return lambda: Preprocessing(config).apply(volume).array_kji.T


def simpleitk(array: NDArray[Any], case: Mapping[str, Any]) -> Work:
    """Linear resampling, then the window."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(case["spacing_mm"])
    low, high = case["window_hu"]
    size = [
        round(n * mm / case["to_mm"]) for n, mm in zip(array.shape, case["spacing_mm"], strict=True)
    ]

    def work() -> NDArray[Any]:
        grid = (size, SimpleITK.Transform(), SimpleITK.sitkLinear, image.GetOrigin(),
                [case["to_mm"]] * 3, image.GetDirection())  # fmt: skip
        resampled = SimpleITK.Resample(image, *grid, 0.0, SimpleITK.sitkFloat32)
        window = SimpleITK.IntensityWindowing(resampled, low, high, -1.0, 1.0)
        return np.asarray(SimpleITK.GetArrayFromImage(window).T)

    return work


def monai(array: NDArray[Any], case: Mapping[str, Any]) -> Work:
    """Its transforms, as its tutorials chain them."""
    import torch
    from monai.data.meta_tensor import MetaTensor
    from monai.transforms.compose import Compose
    from monai.transforms.intensity.array import ScaleIntensityRange
    from monai.transforms.spatial.array import Orientation, Spacing

    low, high = case["window_hu"]
    chain = Compose([
        Orientation("LPS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
        Spacing([case["to_mm"]] * 3, mode="bilinear"),
        ScaleIntensityRange(low, high, -1.0, 1.0, clip=True),
    ])  # fmt: skip
    affine = torch.diag(
        torch.tensor([-1.0, -1.0, 1.0, 1.0]) * torch.tensor([*case["spacing_mm"], 1.0])
    )
    image = MetaTensor(torch.from_numpy(array)[None].float(), affine=affine)
    return lambda: np.asarray(chain(image)[0])


RIVALS = {"medmtl": medmtl, "SimpleITK": simpleitk, "MONAI": monai}


def main() -> None:
    """The image is in memory before, as after reading."""
    rival, image_path, case_path, out_path = sys.argv[1:]
    array = np.load(image_path)
    case = json.loads(Path(case_path).read_text(encoding="utf-8"))
    work = RIVALS[rival](array, case)
    start = time.perf_counter()
    values = work()
    print(time.perf_counter() - start)
    np.save(out_path, values)


if __name__ == "__main__":
    main()
