"""Help: keys, what the numbers mean, what the software is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

if TYPE_CHECKING:
    from app.view import View

__all__ = ["help_page"]

_KEYS = (
    ("Everywhere", (("O", "worklist: open the first case"), ("N, P", "next, previous case"),
                    ("Shift S", "sign, and go on to the next case"))),
    ("Answers", (("Y, X, U", "agree, disagree, unsure with the chosen finding; blind: present, "
                  "absent, unsure"), ("F, Shift F", "next, previous finding"),
                 ("G, Q", "accept the mask, or call for a correction"))),
    ("Image", (("1 to 6", "axial, coronal, sagittal, three planes, 3D, side by side"),
               ("Wheel, ↑ ↓", "slices"), ("C, W, V, Z", "crosshair, window, move, zoom"),
               ("D, A", "distance, angle"), ("B, E, Ctrl Z", "brush, eraser, undo"),
               ("H, M", "masks, map on and off"), ("I, S, L", "invert, smooth, link volumes"),
               ("Space", "play a cine"), ("Shift 1 to 5", "window presets"),
               ("R", "reset the view"), ("?", "this list, over the image"))),
)  # fmt: skip
_MEANING = """
**Bar.** The probability; orange where the finding is called present, blue where not. The line
across it is the threshold, the thin whisker the range over the answers of the run, where a spread
was asked for. *Calibrated*: fitted on validation cases of the model card, and valid for cases like
them.

**Most urgent first.** Cases by their largest way from threshold to certainty; signed ones last.

**Not ruled out.** The conformal set: with several members left, the model leaves it open.

**Map.** Where the decision was sensitive. No proof of a cause or a place; its measured localisation
stands beside it.

**Saved.** Every answer is stored at once, under your name, in a log that only grows. A change takes
the signature back. Signing writes a revised DICOM report where the case has one.

**Link.** The address in the browser reopens this case at this point, finding and window.
"""


def help_page(_view: View) -> None:
    """One page, nothing to click."""
    keys, meaning = st.columns(2, gap="large")
    with keys:
        for title, rows in _KEYS:
            lines = "".join(
                f"<tr><td><kbd>{key}</kbd></td><td>{what}</td></tr>" for key, what in rows
            )
            st.html(f'<h4>{title}</h4><table class="m-table">{lines}</table>')
    with meaning:
        st.markdown(_MEANING)
        st.html(
            '<p class="m-muted">Research software, not a medical device. No answer of it may '
            "decide about a patient.</p>"
        )
