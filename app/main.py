"""Streamlit runs this file for every session: settings from the environment, then one page."""

from __future__ import annotations

import os

from app.navigation import open_page
from app.settings import Settings

open_page(Settings.from_json(os.environ["MEDMTL_VIEW"]))
