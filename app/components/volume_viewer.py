"""The volume viewer as a Streamlit component: takes a scene, gives back what the reader did.

The browser code lies in `assets/volume_viewer.js`, built from `app/frontend` and committed; it
comes over a route of our own, under an address that changes with its content.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import streamlit as st

from app.components.scene import event_from_json
from app.serving.assets import asset_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.components.scene import Scene, ViewerEvent

__all__ = ["VIEWER", "volume_viewer", "waiting_event"]

logger = logging.getLogger(__name__)

VIEWER = "volume"
"""Key of the viewer of the case page."""

_LOADER = """
let loading, latest;
const resized = () => { if (latest.place.isConnected) latest.show(); };
export default function (component) {
  let stop;
  let isGone = false;
  loading ??= import(new URL(component.data.asset, document.baseURI).href);
  const show = () => {
    const room = window.innerHeight - component.data.above;
    const height = Math.max(320, Math.min(component.data.height, room));
    const fitted = { ...component, data: { ...component.data, height } };
    loading.then((viewer) => { if (!isGone) stop = viewer.default(fitted); });
  };
  show();
  latest = { show, place: component.parentElement };
  window.addEventListener("resize", resized);  // the same one each time: added once
  return () => { isGone = true; if (stop) stop(); };
}
"""
"""Streamlit sends inline code with every change, so only this much of it is inline."""


def _ignore() -> None:
    """Streamlit reports events only where there is a callback."""


def volume_viewer(
    scene: Scene, *, key: str, height: int = 640, above: int = 0
) -> ViewerEvent | None:
    """Show a scene. Mount it inside `st.fragment`, so that an event runs the fragment only.

    Args:
        scene: What to draw.
        key: The same at every run, or the browser would load everything anew.
        height: Pixels, fewer where the window has not so many.
        above: Pixels of the window that the page needs for itself.

    Returns:
        What the reader did since the last run, None for nothing.
    """
    mount = st.components.v2.component("medmtl_volume_viewer", js=_LOADER)
    data = {
        "scene": scene.as_json(),
        "height": height,
        "above": above,
        "asset": asset_url("volume_viewer.js"),
    }
    result: Any = mount(key=key, data=data, height="content", on_event_change=_ignore)
    return _event(result)


def waiting_event(key: str) -> ViewerEvent | None:
    """What came with the click whose callback asks, before the viewer itself runs."""
    return _event(st.session_state.get(key) or {})


def _event(result: Mapping[str, Any]) -> ViewerEvent | None:
    event = result.get("event")
    if event is None:
        return None
    try:
        return event_from_json(event)
    except ValueError:
        logger.warning("a viewer event was not understood and left out")
        return None
