"""The Streamlit page of the browser tests: the viewer over one stage folder, and a few controls."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from app.components.scene import (
    ActivationMap,
    Brush,
    Scene,
    SceneFinding,
    SceneVolume,
    Segment,
    WindowPreset,
    colour_of,
)  # fmt: skip
from app.components.volume_viewer import volume_viewer
from app.serving.gateway import gateway
from app.serving.sources import NiftiSource
from tests.browser.stage import Stage, StageVolume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from app.serving.sources import VolumeSource
    from medmtl.core.geometry import Geometry

FOLDER = Path(sys.argv[1])
_STYLE = """<style>
header {display: none !important}
.block-container {padding: 0.5rem 1rem !important}
</style>"""


def _save(mask: NDArray[Any], geometry: Geometry, _: VolumeSource | None) -> None:
    np.savez(FOLDER / "saved.npz", mask=mask, affine=geometry.affine_lps)


def _volume(one: StageVolume, stage: Stage, session: str) -> SceneVolume:
    served = gateway()
    image = NiftiSource(FOLDER, one.image)
    file = "labels.nii.gz" if st.session_state.get("other") else one.labels
    is_again = bool(st.session_state.get("again"))
    file = "again.nii.gz" if is_again and file else file
    labels = NiftiSource(FOLDER, file) if file else None
    maps = {
        finding: NiftiSource(FOLDER, files[one.id])
        for finding, files in stage.maps.items()
        if one.id in files
    }
    return SceneVolume(
        id=one.id,
        title=one.id,
        image_url=served.register_volume(session, image),
        labels_url=served.register_labels(session, labels) if labels else None,
        save_url=served.register_mask_writer(
            session, image, save=_save, name="again" if is_again else "mask"
        ),
        slices_url=served.register_slices(session, image, labels=labels, maps=maps),
        modality=one.modality,
        unit="HU" if one.modality == "CT" else "",
        presets=tuple(WindowPreset(*preset) for preset in one.presets),
        window=one.window,
        time_index=one.time_index,
    )


def _finding(stage: Stage, name: str, session: str) -> SceneFinding:
    sources = {volume: NiftiSource(FOLDER, file) for volume, file in stage.maps[name].items()}
    urls = {volume: gateway().register_map(session, one) for volume, one in sources.items()}
    (first, *_) = sources.values()
    place = gateway().register_place(session, key=name, find=lambda: gateway().peak(first))
    return SceneFinding(name, name, place_url=place, activation=ActivationMap(urls))


def main() -> None:
    """The page."""
    st.set_page_config(layout="wide")
    st.html(_STYLE)
    context = get_script_run_ctx()
    session = context.session_id if context else ""
    stage = Stage.read(FOLDER)
    columns = st.columns(8)
    finding = columns[0].selectbox("Finding", ["none", *stage.maps])
    theme = columns[1].selectbox("Theme", ["page", "dark", "light"])
    is_open = columns[2].checkbox("Open", value=True)
    is_first_visible = columns[3].checkbox("First segment", value=True)
    goes = columns[4].text_input("Go to", "")
    paints = columns[5].checkbox("Brush")
    columns[6].checkbox("Other masks", key="other")
    columns[7].checkbox("Another answer", key="again")
    segments = tuple(
        Segment(i, name, colour_of(i), is_visible=is_first_visible or i != 1)
        for i, name in enumerate(stage.segments, 1)
    )
    point = tuple(float(part) for part in goes.split()) if goes else None
    scene = Scene(
        case_id="stage",
        volumes=tuple(_volume(one, stage, session) for one in stage.volumes),
        segments=segments,
        findings=tuple(_finding(stage, name, session) for name in stage.maps),
        finding=finding,
        layout=st.query_params.get("layout", stage.layout),  # type: ignore[arg-type] # by the test
        crosshair_lps=point,  # type: ignore[arg-type] # three numbers by the test
        brush=Brush(1, 4.0) if paints else None,
        theme=theme,  # type: ignore[arg-type] # one of its own choices
    )

    @st.fragment
    def show() -> None:
        event = volume_viewer(scene, key="viewer", height=int(st.query_params.get("height", "760")))
        st.html(f'<div id="event">{event!r}</div>')

    if is_open:
        show()
    # After the viewer: whoever reads this knows that the viewer has been told.
    st.html(f'<div id="told">{goes} {finding} first={is_first_visible}</div>')


main()
