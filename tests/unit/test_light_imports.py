"""`predict` starts without packages that only MONAI's handlers and figures need."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
from pipelines.light_imports import HIDDEN, import_monai_lightly
import_monai_lightly()
import medmtl.inference.predictor
print(sorted(set(HIDDEN) & set(sys.modules)))
import matplotlib.figure, mlflow.tracking, pandas
print(pandas.DataFrame({"a": [1]}).a[0])
"""


def test_the_network_is_imported_without_them_and_they_can_be_imported_later() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "1"]
