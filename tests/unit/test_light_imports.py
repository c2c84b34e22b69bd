"""`predict` starts without packages that only MONAI's handlers and figures need."""

from __future__ import annotations

import subprocess
import sys

import pytest

import medmtl

CODE = """
import sys
from pipelines.light_imports import HIDDEN, import_monai_lightly
import_monai_lightly()
import medmtl.inference.predictor
print(sorted(set(HIDDEN) & set(sys.modules)))
import matplotlib.figure, mlflow.tracking, pandas, scipy.signal, sklearn.metrics
print(pandas.DataFrame({"a": [1]}).a[0])
"""


def test_the_network_is_imported_without_them_and_they_can_be_imported_later() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "1"]


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
