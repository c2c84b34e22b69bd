"""A result folder opens, and is reviewed, where torch and monai cannot be imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from app.settings import Settings
from tests.app.results import write_seen_case

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "monai"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
from streamlit.testing.v1 import AppTest
from tests.app.test_case_page import _page

worklist = AppTest.from_file("app/main.py", default_timeout=60).run()
assert not worklist.exception and not worklist.error, (worklist.exception, worklist.error)
assert worklist.dataframe[0].value["case"].tolist() == ["seen"]
case = AppTest.from_function(_page, default_timeout=60)
case.query_params["case"] = "results/seen"
case.run()
for label in ("Agree", "Disagree", "Accept", "Sign"):
    next(button for button in case.button if button.label == label).click().run()
    assert not case.exception and not case.error, (label, case.error)
assert case.get("bidi_component")
"""


def test_worklist_case_and_signature_need_no_torch(tmp_path: Path) -> None:
    write_seen_case(tmp_path)
    settings = Settings(folder=tmp_path, results=tmp_path / "out")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=ROOT,
        env={**os.environ, "MEDMTL_VIEW": settings.as_json()},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
