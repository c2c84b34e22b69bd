"""`predict` starts without packages that only MONAI's handlers and figures need."""

from __future__ import annotations

import subprocess
import sys

import pytest

import medmtl
from pipelines.light_imports import HIDDEN


def said(code: str) -> list[str]:
    """What a process of its own prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


LIGHTLY = "import sys; from pipelines.light_imports import *; import_lightly()\n"


def test_the_network_is_imported_without_them_and_they_can_be_imported_later() -> None:
    heavy = [
        *HIDDEN, "highdicom", "monai.apps.datasets", "monai.data", "monai.handlers",
        "monai.inferers", "monai.losses", "monai.metrics", "monai.transforms", "numpy.f2py.f2py2e",
        "pydicom", "scipy.stats", "sympy", "torch._dynamo",
    ]  # fmt: skip
    lines = said(
        LIGHTLY + "import medmtl.inference.predictor, medmtl.inference.batch, medmtl.data.intake\n"
        f"print(sorted(set({heavy!r}) & set(sys.modules)))\n"
        "import matplotlib.figure, mlflow.tracking, pandas, scipy.signal, sklearn.metrics\n"
        'print(pandas.DataFrame({"a": [1]}).a[0])'
    )
    assert lines == ["[]", "1"]


def test_torch_is_whole() -> None:
    """Networks are traced by it and drawn at random; compilers start from it."""
    code = (
        "import torch\n"
        "torch.Generator().manual_seed(0)\n"
        "torch.fx.symbolic_trace(torch.nn.ReLU())\n"
        "print(torch.compile(lambda x: x.relu() + 1, backend='aot_eager')(torch.ones(2)).tolist())"
    )
    assert said(LIGHTLY + code) == ["[2.0, 2.0]"]


def test_modules_are_out_of_the_search_for_what_could_be_freed_and_the_rest_is_not() -> None:
    code = "import gc; print(gc.isenabled(), gc.get_freeze_count() > 10**5)"
    assert said(LIGHTLY + code) == ["True True"]


def test_pydicom_can_be_imported_later() -> None:
    assert said(LIGHTLY + "import pydicom; print(pydicom.Dataset().is_implicit_VR)")


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        (
            "from monai.networks.nets import UNet; print(UNet.__module__)",
            "monai.networks.nets.unet",
        ),
        ("import monai; print(monai.networks.nets.VNet.__name__)", "VNet"),
        ("import monai; print(monai.transforms.compose.Compose.__name__)", "Compose"),
        ("import monai; print(monai.__version__ == version('monai'))", "True"),
        ("import monai; print(hasattr(monai.utils, 'nothing_of_the_kind'))", "False"),
        ("import monai.utils; print(monai.utils.set_determinism(0))", "None"),
        ("import numpy; print(callable(numpy.f2py.run_main))", "True"),
    ],
)
def test_what_is_asked_of_a_package_comes_from_it(code: str, answer: str) -> None:
    assert said(LIGHTLY + code) == [answer]


def test_the_steps_of_imported_networks_load_when_they_are_asked_for() -> None:
    code = (
        "import numpy as np\n"
        "from medmtl.core.geometry import Geometry\n"
        "from medmtl.core.volume import Volume\n"
        "from medmtl.transforms.imported_grid import MonaiGrid\n"
        "from medmtl.transforms.monai_plan import MonaiPreprocessing\n"
        "grid = Geometry.from_parts(shape=(8, 8, 8), spacing_mm=(1, 1, 1))\n"
        'steps = [{"transform": "Orientation", "arguments": {"axcodes": "RAS"}},\n'
        '         {"transform": "Spacing", "arguments": {"pixdim": [2, 2, 2]}}]\n'
        'settings = {"name": "monai", "steps": steps, "window": {"roi_size": [4, 4, 4]}}\n'
        "applied = MonaiGrid(MonaiPreprocessing.model_validate(settings))\n"
        "print(applied.apply(Volume(array=np.ones(grid.shape), geometry=grid)).array_kji.shape)\n"
        "from monai.inferers.utils import sliding_window_inference\n"
        "print(sliding_window_inference.__name__, sorted(set(HIDDEN[:-1]) & set(sys.modules)))"
    )
    shape, rest = said(LIGHTLY + code)
    assert shape == "(4, 4, 4)"
    assert rest.startswith("sliding_window_inference")


def test_the_command_line_starts_without_anything_heavy() -> None:
    heavy = (
        "highdicom", "matplotlib", "mlflow", "monai", "numpy", "pandas", "pydicom", "ray", "scipy",
        "SimpleITK", "sklearn", "streamlit", "torch",
    )  # fmt: skip
    code = f"import sys, pipelines.__main__; print(sorted(set({heavy!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_can_be_imported() -> None:
    for name in medmtl.__all__:
        assert getattr(medmtl, name) is not None
    unknown = "nothing_of_the_kind"
    with pytest.raises(AttributeError, match=unknown):
        getattr(medmtl, unknown)
