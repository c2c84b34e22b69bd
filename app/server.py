"""The server behind `medmtl view`: Streamlit's pages."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

app = st.App(Path(__file__).with_name("main.py").resolve())
