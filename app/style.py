"""What Streamlit's theme cannot say: narrow margins, so that a case fits on one screen."""

from __future__ import annotations

import streamlit as st

__all__ = ["apply_style", "bar"]

_CSS = """
<style>
.stMainBlockContainer { padding: 3.6rem 1.2rem 0.6rem 1.2rem; }
.stApp [data-testid="stVerticalBlock"] { gap: 0.45rem; }
.m-muted { opacity: 0.72; font-size: 0.82rem; }
.m-bar { position: relative; height: 0.55rem; border-radius: 0.3rem; background: #8884; }
.m-bar > i { position: absolute; inset: 0 auto 0 0; border-radius: 0.3rem; background: #56b4e9; }
.m-bar.present > i { background: #e69f00; }
.m-bar > s { position: absolute; inset: -0.15rem auto -0.15rem 0; width: 2px;
  background: currentColor; }
.m-bar > u { position: absolute; top: 0.2rem; height: 0.15rem; background: currentColor;
  opacity: 0.75; }
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
        f'<div class="{kind}"><i style="width:{100 * probability:.1f}%"></i>{whisker}'
        f'<s style="left:{100 * threshold:.1f}%"></s></div>'
    )
