"""What goes to the browser, and what is believed of what comes back."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from app.components.scene import (
    ActivationMap,
    CrosshairMoved,
    KeyPressed,
    MaskSaved,
    Measured,
    Scene,
    SceneFinding,
    SceneVolume,
    ScreenshotTaken,
    Segment,
    colour_of,
    event_from_json,
)  # fmt: skip


def test_scene_is_json() -> None:
    volume = SceneVolume("ct", "CT", "medmtl/volume/a.nii.gz", window=(-160.0, 240.0))
    scene = Scene(
        "case",
        (volume,),
        segments=(Segment(1, "liver", colour_of(1)),),
        findings=(
            SceneFinding("lesion", "Lesion", activation=ActivationMap({"ct": "medmtl/b.nii.gz"})),
        ),
        crosshair_lps=(1.0, 2.0, 3.0),
    )
    plain = json.loads(json.dumps(scene.as_json(), allow_nan=False))
    assert plain["volumes"][0]["window"] == [-160.0, 240.0]
    assert plain["findings"][0]["activation"]["urls"] == {"ct": "medmtl/b.nii.gz"}
    assert plain["theme"] == "page"


def test_neighbouring_labels_have_different_colours() -> None:
    assert len({colour_of(label) for label in range(1, 9)}) == 8
    assert colour_of(9) == colour_of(1)


CROSSHAIR = {
    "kind": "crosshair", "point_lps": [1, 2, 3], "volume": "ct", "layout": "mpr", "window": [0, 1],
    "number": 7,
}  # fmt: skip


@pytest.mark.parametrize(
    ("sent", "event"),
    [
        (CROSSHAIR, CrosshairMoved((1.0, 2.0, 3.0), "ct", "mpr", (0.0, 1.0))),
        (
            CROSSHAIR | {"finding": "cyst"},
            CrosshairMoved((1.0, 2.0, 3.0), "ct", "mpr", (0.0, 1.0), "cyst"),
        ),
        ({"kind": "mask_saved", "volume": "ct", "voxels_changed": 3}, MaskSaved("ct", 3)),
        (
            {"kind": "measured", "kind_of": "distance", "value": 5, "volume": "ct",
             "points_lps": [[0, 0, 0], [3, 4, 0]]},
            Measured("distance", 5.0, "ct", ((0.0, 0.0, 0.0), (3.0, 4.0, 0.0))),
        ),
        ({"kind": "screenshot", "volume": "ct"}, ScreenshotTaken("ct")),
        ({"kind": "key", "action": "next_case"}, KeyPressed("next_case")),
    ],
)  # fmt: skip
def test_event_of_the_browser_becomes_a_record(sent: dict[str, Any], event: object) -> None:
    assert event_from_json(sent) == event


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"kind": "other"},
        {"kind": "key", "action": "delete_everything"},
        {
            "kind": "crosshair",
            "point_lps": [1, 2],
            "volume": "a",
            "layout": "mpr",
            "window": [0, 1],
        },
        {
            "kind": "crosshair",
            "point_lps": [1, 2, 3],
            "volume": "a",
            "layout": "x",
            "window": [0, 1],
        },
        {"kind": "measured", "kind_of": "area", "value": 1, "volume": "a", "points_lps": []},
        {"kind": "mask_saved", "volume": "a", "voxels_changed": "many"},
    ],
)
def test_anything_else_is_refused(sent: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        event_from_json(sent)


def test_routes_and_scene_need_no_torch() -> None:
    script = (
        "import sys; sys.modules['torch'] = sys.modules['monai'] = None; "
        "import app.serving.routes, app.serving.sources, app.components.volume_viewer"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
