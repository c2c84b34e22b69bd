"""What Streamlit's theme cannot say: narrow margins, so that a case fits on one screen."""

from __future__ import annotations

import streamlit as st

__all__ = ["MEASUREMENT_HEAD", "apply_style", "bar"]

MEASUREMENT_HEAD = "<tr><th>Measurement</th><th>Here</th><th>Training, mean ± SD</th>"
"""Of a table whose last column depends on the place; the row is closed there."""

_CSS = """
<style>
.stApp .stMainBlockContainer { padding: 3.9rem 1rem 0.4rem 1rem; }
.stApp [data-testid="stVerticalBlock"] { gap: 0.4rem; }
.m-muted { opacity: 0.72; font-size: 0.82rem; }
.m-title { font-size: 1rem; line-height: 1.15; }
.m-notice { font-size: 0.75rem; opacity: 0.72; }
.m-signed { color: light-dark(#00704f, #009e73); white-space: nowrap; }
.m-line { display: grid; grid-template-columns: 1fr 2.4rem 3.6rem 1rem; gap: 0.5rem;
  align-items: center; font-size: 0.9rem; }
.m-line em { font-style: normal; font-weight: 700; text-align: center; }
.m-bar { display: block; position: relative; height: 0.55rem; border-radius: 0.3rem;
  background: #8884; }
.m-bar > i { position: absolute; inset: 0 auto 0 0; border-radius: 0.3rem; background: #56b4e9; }
.m-bar.present > i { background: #e69f00; }
.m-bar > s { position: absolute; inset: -0.15rem auto -0.15rem 0; width: 2px;
  background: currentColor; }
.m-bar > u { position: absolute; top: 0.2rem; height: 0.15rem; background: currentColor;
  opacity: 0.75; }
.m-evidence { font-size: 0.85rem; line-height: 1.3; }
.m-evidence p { margin: 0 0 0.3rem 0; }
.m-flag { color: light-dark(#8f5600, #e69f00); }
.m-note { font-size: 0.85rem; line-height: 1.3; padding: 0.3rem 0.6rem; margin-bottom: 0.4rem;
  border-left: 3px solid #8888; background: #8881; }
.m-note.warning { border-color: #e69f00; }
.m-note.error { border-color: #d55e00; }
.m-table { width: 100%; font-size: 0.82rem; border-collapse: collapse; }
.m-table td, .m-table th { padding: 0.12rem 0.4rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid #8883; }
.st-key-findings button { min-height: 1.85rem; height: 1.85rem; padding: 0 0.5rem; }
.st-key-findings button > div { justify-content: flex-start; width: 100%; }
.st-key-case_header button, .st-key-answer button, .st-key-mask_answer button {
  min-height: 1.85rem; height: 1.85rem; padding: 0 0.5rem; }
.st-key-answer [data-testid="stTextInputRootElement"] { height: 1.85rem; }
.st-key-evidence { height: calc(100vh - 6.6rem); overflow-y: auto; overflow-x: hidden; }
</style>
"""


def apply_style() -> None:
    """Once per page."""
    st.html(_CSS)


def bar(
    probability: float, *, threshold: float, is_present: bool, interval: tuple[float, float] | None
) -> str:
    """A probability as a bar with its threshold as a line and its interval as a whisker (HTML)."""
    whisker = ""
    if interval is not None:
        low, high = interval
        whisker = f'<u style="left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"></u>'
    kind = "m-bar present" if is_present else "m-bar"
    return (
        f'<span class="{kind}"><i style="width:{100 * probability:.1f}%"></i>{whisker}'
        f'<s style="left:{100 * threshold:.1f}%"></s></span>'
    )
